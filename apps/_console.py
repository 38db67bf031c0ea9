"""What all commands share: running the command line and ending with a clear line and an exit code."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from cyclopts import App, ArgumentCollection, CycloptsError, UnknownOptionError

from rtseg.apps._signals import leave, noted_interrupts
from rtseg.core.addresses import without_password
from rtseg.core.channel import any_stuck
from rtseg.core.errors import EngineError, InputError, OutputError, RtsegError, UsageError
from rtseg.core.files import is_full
from rtseg.core.sizes import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from rtseg.engines import EngineInfo
    from rtseg.live.policies import Deadline

T = TypeVar("T")

_INTERRUPTED = 130
_REFUSED = (errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG)  # the system refuses a name
_BROKEN_CV2 = (
    "OpenCV cannot load ({reason}): install the missing system library (Debian, Ubuntu: apt install libgl1 "
    "libglib2.0-0), or pip install opencv-python-headless and use --no-window"
)


def run(app: App, arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0, the command's own code, or the code of the error, which is one line on stderr.

    `RTSEG_DEBUG=1` in the environment adds the traceback and the library's log messages.
    """
    app.config = (_check_whole,)
    debug = os.environ.get("RTSEG_DEBUG", "") not in ("", "0")
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("rtseg").setLevel(
        logging.DEBUG if debug else logging.WARNING
    )  # warnings that something differs from what was asked
    if not debug:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # errors are one line, from us
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Steady(stream or _nowhere()) for stream in before)  # None: closed by the parent process
    try:
        with noted_interrupts() as interrupts:
            code = _run(app, arguments, debug, interrupts)
            if any_stuck():  # at exit Python would wait for it, or a library would crash because of it
                leave(code, tidy=False)
            if interrupts and arguments is None:  # a library that was interrupted while loading may abort or hang
                leave(code)
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before
    sys.exit(code)


def _run(app: App, arguments: Sequence[str] | None, debug: bool, interrupts: Sequence[int]) -> int:
    """Runs a command, prints its error, and returns the exit code."""
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        code = command(*bound.args, **bound.kwargs)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        if interrupts:  # a library that was broken off while it loads calls that an error of its own
            return _INTERRUPTED
        message, code = explain(error)
        print(f"error: {message}", file=sys.stderr)
        return code
    return code if isinstance(code, int) else 0


def _check_whole(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Raises UsageError for 1.5 where an option takes a whole number, which Cyclopts would round."""
    for argument in arguments:
        for token in argument.tokens if argument.hint in (int, int | None) else ():
            if _is_fraction(token.value):
                raise UsageError(f"{argument.name} {token.value} is not allowed: give a whole number")


def _is_fraction(text: str) -> bool:
    try:
        return "." in text and float(text) % 1 != 0
    except ValueError:  # no number at all, which Cyclopts says
        return False


def running(model: str, info: "EngineInfo") -> str:
    """What actually runs, in lines; if 'auto' decided, also why."""
    lines = [
        f"model   {model}, {info.precision}, input {format_size(info.size_hw)}",
        f"engine  {info.engine} ({info.runtime} on {info.device}, threads: {info.threads})",
    ]
    if info.why:
        lines.append(f"auto    {info.why}")
    return "\n".join(lines)


def ladder(policy: "Deadline") -> str:
    """What a deadline can choose from, best first, in lines; and a note if the deadline cannot be kept."""
    lines = [f"deadline {1e3 * policy.deadline_s:g} ms from capture to display; rungs, best first:"]
    for rung in reversed(policy.rungs):
        lines.append(f"rung    {rung}: {1e3 * rung.seconds:.1f} ms, score {rung.score:.3f}")
    fastest = policy.rungs[0].seconds
    if fastest > policy.deadline_s:
        lines.append(f"note    the fastest takes {1e3 * fastest:.1f} ms here, more than the deadline: frames will "
                     "have the labels of earlier frames")  # fmt: skip
    return "\n".join(lines)


def _nowhere() -> TextIO:
    """Replaces a closed stdout or stderr, whose file number would otherwise go to the next opened file."""
    return open(os.devnull, "w", encoding="utf-8")


class Steady:
    """A stdout or stderr that ignores failures: its reader may have gone, or its disk may be full.

    A command's messages are never worth its results, so only the messages are lost.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)  # also for what Python still has in its buffer
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def plain_console(stderr: bool = False) -> "Console":
    """A console that prints text as it is: brackets in a name are not markup, and paths are not wrapped."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)


def tracked(items: Iterable[T], title: str, total: int | None = None) -> Iterable[T]:
    """Yields `items` with a progress bar on stderr; no bar if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, title, total, console=console, disable=not console.is_terminal)


def explain(error: Exception) -> tuple[str, int]:
    """One line about an error, and its exit code."""
    if isinstance(error, RtsegError):
        return _one_line(error), error.exit_code
    if isinstance(error, CycloptsError):
        return f"{_one_line(error)} {_way_out(error)}", UsageError.exit_code
    if isinstance(error, ImportError) and _concerns_cv2(error):
        return _BROKEN_CV2.format(reason=_one_line(error)), EngineError.exit_code
    if isinstance(error, ModuleNotFoundError):
        hint = "install rtseg again; for training and export, pip install 'rtseg[train]'"
        return f"a package is missing ({_one_line(error)}): {hint}", EngineError.exit_code
    if isinstance(error, OSError) and error.filename is not None and error.errno in _REFUSED:
        name = without_password(os.fsdecode(error.filename))
        return f"{name}: {error.strerror}; give another name or folder", InputError.exit_code
    if is_full(error):
        hint = f"free space, also in the folder of temporary files, {gettempdir()}"
        return f"a file cannot be written: {_one_line(error)}; {hint}", OutputError.exit_code
    kind = type(error).__name__
    return f"{kind}: {_one_line(error)}; this is a bug in rtseg, RTSEG_DEBUG=1 shows the traceback", 1


def _way_out(error: CycloptsError) -> str:
    given = error.token.value if isinstance(error, UnknownOptionError) else ""
    return f"If you mean the file, write ./{given}" if given and os.path.lexists(given) else "Try --help."


def _concerns_cv2(error: ImportError) -> bool:
    """Whether OpenCV or a library that it needs (libGL, libgthread, …) is missing."""
    if error.name == "cv2":
        return True
    trace = traceback.extract_tb(error.__traceback__)
    return "cannot open shared object" in str(error) and any("cv2" in frame.filename for frame in trace)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or "no message"
