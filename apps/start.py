"""Entry points of the commands: while their modules are imported, Ctrl-C ends them without a traceback."""

import signal
from importlib import import_module


def _start(module: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not in the background of a shell that ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = import_module(f"rtseg.apps.{module}").main
    signal.signal(signal.SIGINT, before)
    main()


def rtseg() -> None:
    """The command `rtseg`."""
    _start("main")


def cam() -> None:
    """The command `rtseg-cam`."""
    _start("cam")


def video() -> None:
    """The command `rtseg-video`."""
    _start("video")


def bench() -> None:
    """The command `rtseg-bench`."""
    _start("bench")
