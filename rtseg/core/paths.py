"""Names and folders as users mean them: `~` as in a shell, numbers in order, links to folders."""

import os
import re
from collections.abc import Iterator
from glob import escape, glob
from pathlib import Path

from rtseg.core.errors import InputError


def user_path(text: str | Path) -> Path:
    """Expands `~` and `~/` to the home folder as a shell does; a file called `~clip.mp4` keeps its name.

    Raises InputError if no file can have this name.
    """
    path = Path(text)
    try:
        known = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        known = False
    if not known:
        raise InputError(f"no file can be called {str(path)!r}: check the name")
    if str(path).startswith("~") and not os.path.lexists(path):
        try:
            return path.expanduser()
        except RuntimeError:  # no such user: an ordinary file name
            return path
    return path


def real_path(path: Path) -> Path:
    """`Path.resolve` that also accepts circular links."""
    return Path(os.path.realpath(path))


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts `frame_2` before `frame_10`; equal numbers are sorted by the name itself."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if place % 2 else (1, 0, part) for place, part in enumerate(parts)], name


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` that follows links to folders, except to a folder that contains the link.

    Yields (folder, names of its folders, names of its files), both lists sorted; callers may remove folders to skip
    them.
    """
    yield from _walk(root, frozenset())


def _walk(folder: Path, above: frozenset[str]) -> Iterator[tuple[Path, list[str], list[str]]]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        names = sorted(os.listdir(folder), key=natural_key)
    except OSError:
        return  # like os.walk
    below = [name for name in names if os.path.isdir(folder / name)]
    kept = set(below)
    yield folder, below, [name for name in names if name not in kept]
    for name in below:
        yield from _walk(folder / name, above | {here})


def matches(pattern: str) -> list[str]:
    """The sorted result of `glob.glob(pattern, recursive=True)`, but it also ends if links form a loop of folders."""
    return sorted(dict.fromkeys(_matches(Path(pattern))), key=natural_key)


def _matches(pattern: Path) -> Iterator[str]:
    parts = pattern.parts
    if "**" not in parts:
        yield from glob(str(pattern))
        return
    place = parts.index("**")
    root, rest = Path(*parts[:place]), Path(*parts[place + 1 :])
    for start in glob(str(root)) if place else [os.curdir]:
        for folder, below, names in walk(Path(start)):
            below[:] = [name for name in below if not name.startswith(".")]
            if place + 1 < len(parts):
                yield from _matches(Path(escape(str(folder))) / rest)
            else:
                yield from (str(folder / name) for name in ("", *names) if not name.startswith("."))
