"""Removes from texts and reports what identifies their user: paths, file names, addresses, user and machine names."""

import getpass
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from rtseg.sources.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, ".onnx", ".json", ".txt", ".csv", ".xml", ".yaml", ".zip", ".pt",
             ".safetensors", ".ckpt", ".engine", ".partial")  # fmt: skip
# keys of reports that name files
_NAMING = {"input", "inputs", "outputs", "saved", "source", "root", "data_root", "path", "file", "camera"}
_PLAIN = {"synthetic", "camera", "scenes"}  # values of these keys that are not private
_END = r"[^\s\"',;()<>]*"
_ADDRESS = re.compile(rf"\b[a-z][a-z0-9+.-]+://{_END}", re.IGNORECASE)
_PATH = re.compile(rf"(?<![\w<])(?:[a-z]:[\\/]|\\\\|~|\.{{0,2}}/){_END}|[^\s\"',;()<>]*[\\/]{_END}\.\w+", re.IGNORECASE)
_FILE = re.compile(rf"[^\s\"',;:()<>/\\]+(?:{'|'.join(map(re.escape, sorted(_SUFFIXES, key=len, reverse=True)))})\b",
                   re.IGNORECASE)  # fmt: skip


_REST = re.compile(r"<path>(?: [^\s<>:,;]+){0,2}? [^\s<>:,;]*[\\/][^\s<>:,;\"']*")  # rest of a path with blanks


class Private:
    """Cleans the content of a bug report; numbers, settings, versions and error messages stay.

    Args:
        names: other paths to hide, with the folders that contain them.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        paths = [PurePath(name.replace("\\", "/")) for name in names]
        folders = {os.path.expanduser("~"), os.path.realpath(os.path.expanduser("~")), os.getcwd(), sys.prefix,
                   tempfile.gettempdir(), *(str(path.parent) for path in paths)}  # fmt: skip
        self._folders = _any_of(folders, rf"(?!\w){_END}")
        self._files = _any_of(word for path in paths for word in (path.name, path.stem))
        self._people = _any_of({_user(), socket.gethostname(), socket.gethostname().split(".")[0], Path.home().name})

    def text(self, text: str) -> str:
        """The text without private parts."""
        text = _ADDRESS.sub("<address>", text)
        text = self._files.sub("<file>", self._folders.sub("<path>", text))  # first, since they may contain blanks
        text = _REST.sub("<path>", _PATH.sub("<path>", text))
        return self._people.sub("<name>", _FILE.sub("<file>", text))

    def report(self, value: Any, key: str = "") -> Any:
        """JSON values without private parts; values of keys that name files are left out."""
        if isinstance(value, dict):
            return {self.text(str(name)): self.report(one, str(name)) for name, one in value.items()}
        if isinstance(value, list):
            return [self.report(one, key) for one in value]
        if isinstance(value, str):
            return value if key in _NAMING and value in _PLAIN else "<file>" if key in _NAMING else self.text(value)
        return value


def names_in(value: Any, key: str = "") -> Iterable[str]:
    """The names of files and the like in a report."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from names_in(one, str(name))
    elif isinstance(value, list):
        for one in value:
            yield from names_in(one, key)
    elif isinstance(value, str) and key in _NAMING and value not in _PLAIN:
        yield value


def _any_of(words: Iterable[str], after: str = r"(?!\w)") -> re.Pattern[str]:
    """Matches any of the words as a whole, except for single characters and numbers."""
    told = sorted({word for word in words if len(word) > 1 and not word.isdigit()}, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, told))}){after}" if told else "(?!)", re.IGNORECASE)


def _user() -> str:
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""
