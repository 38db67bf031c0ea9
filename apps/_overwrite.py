"""Before any work: no output of a command may replace what the command reads, or another of its outputs."""

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
    """Checks the files that options name, then that they can be written.

    Args:
        files: option -> the file that it has written, if any.
        inputs: what it is ('the source') -> its files, or None; of a folder among them, every file below it.
        others: (option, path) of what is written besides, which is not tried.

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
    """The files that a source is read from; a camera's number or a URL names none that exists."""
    path = user_path(source)
    if not path.is_dir():
        return [path]
    with suppress(InputError):  # whoever opens it says what is missing
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
    """Raises UsageError where what an option writes lies at, or below, what another does."""
    written = {_identity(path): flag for flag, path in outputs}
    for flag, path in outputs:
        for place in (path, *_above(path)):
            if (other := written.get(_identity(place), flag)) != flag:
                raise UsageError(f"{flag} {path} would overwrite what {other} writes: name another file")


def _above(path: Path) -> list[Path]:
    """The folders that a path lies in, as it is written and by where links lead."""
    return [*Path(os.path.abspath(path)).parents, *Path(os.path.realpath(path)).parents]


def _identity(path: Path) -> object:
    """The same for two names of a file, links among them; of what does not exist, its place."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path).casefold()  # some file systems do not tell cases apart
    return found.st_dev, found.st_ino
