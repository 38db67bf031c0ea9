"""Checks before any work that no output of a command replaces its inputs or another output."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rtseg.core.errors import InputError, UsageError
from rtseg.core.paths import user_path
from rtseg.sinks.base import check_file
from rtseg.sources.images import list_images


def check_outputs(
    files: Mapping[str, Path | None],
    inputs: Mapping[str, Iterable[Path | None]],
    others: Iterable[tuple[str, Path]] = (),
) -> None:
    """Checks the files that options name, and then that they can be written.

    Args:
        files: option -> the file that it writes, if any.
        inputs: description ('the source') -> its files, or None; a folder stands for every file below it.
        others: (option, path) of other outputs; whether they can be written is not tested.

    Raises:
        UsageError: an output would overwrite an input or another output.
        OutputError: a file cannot be written.
    """
    wanted = [(flag, path) for flag, path in files.items() if path is not None]
    outputs = [*wanted, *others]
    _check_inputs(outputs, inputs)
    check_each_other(outputs)
    for _, path in wanted:
        check_file(path)


def source_files(source: str) -> list[Path]:
    """The existing files that a source is read from; none for a camera's number or a URL."""
    path = user_path(source)
    if not path.is_dir():
        return [path]
    with suppress(InputError):  # opening it raises the error
        return list_images(path)
    return []


def _check_inputs(outputs: list[tuple[str, Path]], inputs: Mapping[str, Iterable[Path | None]]) -> None:
    read = {_identity(path): what for what, paths in inputs.items() for path in paths if path is not None}
    for flag, path in outputs:
        inside = _above(path) if os.path.isfile(path) else []
        for place in (path, *inside):
            if (what := read.get(_identity(place))) is not None:
                raise UsageError(f"{flag} {path} would overwrite {what}: name another file")


def check_each_other(outputs: Sequence[tuple[str, Path]]) -> None:
    """Raises UsageError if the output of one option is the same as, or below, the output of another."""
    written = {_identity(path): flag for flag, path in outputs}
    for flag, path in outputs:
        for place in (path, *_above(path)):
            if (other := written.get(_identity(place), flag)) != flag:
                raise UsageError(f"{flag} {path} would overwrite what {other} writes: name another file")


def _above(path: Path) -> list[Path]:
    """The folders that contain a path, as written and after following links."""
    return [*Path(os.path.abspath(path)).parents, *Path(os.path.realpath(path)).parents]


def _identity(path: Path) -> object:
    """Equal for two names of the same file, links included; for a file that does not exist, its path."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path).casefold()  # some file systems ignore case
    return found.st_dev, found.st_ino
