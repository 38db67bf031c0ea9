"""Things that hold resources."""

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose end calls `close`, whatever happened inside."""

    def close(self) -> None:
        """Frees what is held; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
