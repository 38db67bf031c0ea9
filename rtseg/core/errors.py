"""Errors that a user may see.

Each message is one line: what happened, what was given, what is allowed and how to fix it.
A command prints it on stderr and exits with the class's `exit_code`. Any other exception is a bug in rtseg and exits
with 1.

Exit codes: 0 done, 1 bug, 2 usage, 3 input, 4 output, 5 engine, 6 weights, 7 parity, 130 interrupted.
"""


class RtsegError(Exception):
    """Base class of all errors that the user can fix."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().splitlines())  # an array that was given has several


class UsageError(RtsegError, ValueError):
    """An argument has a value that is not allowed."""

    exit_code = 2


class InputError(RtsegError):
    """A camera, video, picture or data set cannot be read."""

    exit_code = 3


class OutputError(RtsegError):
    """A window, file or folder cannot be written."""

    exit_code = 4


class EngineError(RtsegError):
    """An inference engine is missing, cannot load a graph, or failed while running."""

    exit_code = 5


class StalledError(EngineError):
    """An inference engine no longer answers; its call continues, but nothing waits for it."""


class WeightsError(RtsegError):
    """A weight file or its card is missing, damaged or does not match."""

    exit_code = 6


class ParityError(RtsegError):
    """An exported, imported or compiled network returns other labels than its original."""

    exit_code = 7
