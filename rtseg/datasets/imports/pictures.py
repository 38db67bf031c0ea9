"""Finds the pictures that an export names, often by an address or a folder of another machine."""

import re
from collections.abc import Collection
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from rtseg.core.errors import InputError
from rtseg.core.paths import walk
from rtseg.sources.kinds import IMAGE_SUFFIXES

_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio's prefix for uploaded files


class PictureFinder:
    """Searches `images` if it is given, else the source's folder, including all folders below."""

    def __init__(self, source: Path, images: Path | None = None) -> None:
        if images is not None and not images.is_dir():
            raise InputError(f"no such folder: {images}; --images is the folder that holds the pictures")
        self.root = images or (source if source.is_dir() else source.parent)

    def find(self, name: str, where: str) -> Path:
        """The picture that an export calls `name`: a path or an address.

        If several have its file name, the one whose folders match most of the path.

        Raises:
            InputError: there is none, or the choice is ambiguous.
        """
        parts = clean_parts(name)
        if not parts:
            raise InputError(f"{where} names no picture")
        exact = self.root.joinpath(*parts)
        if exact.is_file() and exact.suffix.lower() in IMAGE_SUFFIXES:
            return exact
        for wanted in dict.fromkeys((parts[-1], _UPLOADED.sub("", parts[-1]))):
            found = self._by_name.get(wanted, [])
            if found:
                return self._best(found, parts, where)
        if any(parts[-1] in names for _, _, names in walk(self.root)):
            raise InputError(f"{where} names the picture {name}, whose kind is not read: convert it to PNG or JPEG, "
                             "and name it so in the export")  # fmt: skip
        raise InputError(f"{where} names the picture {name}, which is not in {self.root} or below it: give the folder "
                         "that holds it with --images")  # fmt: skip

    def _best(self, found: list[Path], parts: tuple[str, ...], where: str) -> Path:
        agree = [_common(path.parent.parts, parts[:-1]) for path in found]
        if agree.count(max(agree)) > 1:
            first, second = [path for path, count in zip(found, agree, strict=True) if count == max(agree)][:2]
            raise InputError(f"{where} may mean {first} or {second}: give the folder that holds the right one with "
                             "--images")  # fmt: skip
        return found[agree.index(max(agree))]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in files_below(self.root, IMAGE_SUFFIXES):
            found.setdefault(path.name, []).append(path)
        return found


def clean_parts(name: str) -> tuple[str, ...]:
    """'https://host/data/upload/1/a.jpg', '..\\\\a\\\\b.jpg' -> folders and file name, without parts that lead
    outside."""
    if "://" in name or name.startswith("/data/"):  # the second is a Label Studio address
        address = urlsplit(name)
        name = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part not in ("/", ".", "..") and ":" not in part)


def _common(folders: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """How many of the last folders agree."""
    count = 0
    for one, other in zip(reversed(folders), reversed(wanted), strict=False):
        if one != other:
            break
        count += 1
    return count


def files_below(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """The files in a folder and below it, all or only those with one of the suffixes, in any case.

    Skips hidden ones: macOS puts `._NAME` beside each file on other systems' disks.
    """
    files = (place / name for place, _, names in walk(folder) for name in names if not name.startswith("."))
    return [path for path in files if suffixes is None or path.suffix.lower() in suffixes]
