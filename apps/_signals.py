"""Signals that end a command."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

_ENDING = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def noted_interrupts() -> Iterator[list[int]]:
    """Makes `kill` and a closed terminal end a command as Ctrl-C does; yields the list of signals received so far."""
    noted: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        noted.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _ENDING if hasattr(signal, name)):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):  # not with nohup
                before[number] = signal.signal(number, stop)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int, *, tidy: bool = True) -> NoReturn:
    """Ends the process without Python's own shutdown, which waits for threads and makes some libraries crash.

    Args:
        code: the exit code.
        tidy: run the atexit functions first.
    """
    if tidy:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends it at once
        with suppress(Exception):
            atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Lets `kill` end a run like Ctrl-C, even if its data-loader workers got the signal too."""
    told = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        if callable(before):
            before(number, frame)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Exception as error:  # a worker that ended first
        if told:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
