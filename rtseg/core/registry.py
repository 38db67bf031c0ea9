"""One registry for each choice that users make by name: model, encoder, engine, data set, method."""

from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, TypeVar

from rtseg.core.errors import UsageError

T = TypeVar("T")


_MOST_SHOWN = 30


def unknown_name(kind: str, name: str, allowed: list[str]) -> UsageError:
    """Builds the error for an unknown name: lists similar names first, then all names unless there are too many."""
    close = get_close_matches(str(name), allowed, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    shown = ", ".join(allowed) if len(allowed) <= _MOST_SHOWN else f"{allowed[0]} and {len(allowed) - 1} others"
    return UsageError(f"unknown {kind} {name!r}: {hint}allowed: {shown}")


class Registry(Generic[T]):
    """Maps a name to an object that is imported on first use.

    Args:
        kind: what an entry is called in errors.
        entries: name -> "module:attribute".
        open_names: how to write allowed names that the registry does not list, if there are any.

    Example:
        >>> engines = Registry("engine", {"onnxruntime": "rtseg.engines.onnxruntime_engine:OnnxRuntimeEngine"})
        >>> engines.names()
        ['onnxruntime']
    """

    def __init__(self, kind: str, entries: dict[str, str], open_names: str = "") -> None:
        self.kind, self.open_names = kind, open_names
        self._entries = dict(entries)

    def names(self) -> list[str]:
        return list(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def add(self, name: str, target: str) -> None:
        """Registers `target` ("module:attribute") as `name`; raises ValueError if the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already as {self._entries[name]}")
        self._entries[name] = target

    def check(self, name: str) -> str:
        """Returns `name`, or raises UsageError with similar names."""
        if not isinstance(name, str) or name not in self._entries:
            error = unknown_name(self.kind, name, self.names())
            raise UsageError(f"{error}; or {self.open_names}") if self.open_names else error
        return name

    def get(self, name: str) -> T:
        """Imports and returns the object registered as `name`; raises UsageError for an unknown name."""
        module, _, attribute = self._entries[self.check(name)].partition(":")
        found: Any = getattr(import_module(module), attribute)
        return found  # type: ignore[no-any-return]
