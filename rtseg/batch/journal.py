"""The journal of one input: what was planned and which segments are complete; an SQLite file in NAME.partial."""

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.batch.layout import JOURNAL, clean_passes, is_ours
from rtseg.batch.task import Segment, SegmentDone
from rtseg.core.closing import Closing
from rtseg.core.errors import OutputError

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS arrays (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    number INTEGER PRIMARY KEY, first INTEGER NOT NULL, stop INTEGER NOT NULL,
    indices BLOB NOT NULL, ticks BLOB NOT NULL, areas BLOB NOT NULL,
    before INTEGER, last INTEGER, size INTEGER NOT NULL
);
"""


class Journal(Closing):
    """Stores facts (JSON), arrays (int64) and finished segments; every write is atomic, whenever the process ends.

    Only one process can hold a journal. A power cut may lose the newest entries, but never older ones.
    """

    def __init__(self, partial: Path) -> None:
        """Opens the journal in a folder, or creates one.

        Raises:
            OutputError: it is not a journal, has another version, is in use, or cannot be written.
        """
        self._path = partial / JOURNAL
        with self._guarded():
            self._db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # and no shared memory, for network folders
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, VERSION):
                    raise OutputError(
                        f"{self._path} is of version {version}, this program writes {VERSION}: finish with the program "
                        "that began, or start over with --overwrite"
                    )
                self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
            except BaseException:
                self._db.close()
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError) as error:  # the last two for invalid values
            name = getattr(error, "sqlite_errorname", "")
            if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
                full = OSError(errno.ENOSPC, str(error))
                raise OutputError(f"cannot write {self._path}: {error}; is the disk full?") from full
            raise OutputError(f"journal {self._path}: {error}; is it in use, or damaged? Then move it away") from error

    def fact(self, name: str) -> Any:
        """A value written by `state`; None if there is none."""
        with self._guarded():
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])

    def state(self, **facts: Any) -> None:
        """Writes facts, all or none."""
        rows = [(name, json.dumps(value)) for name, value in facts.items()]
        with self._guarded(), self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def array(self, name: str) -> np.ndarray | None:
        """A stored array, int64 (n,)."""
        with self._guarded():
            row = self._db.execute("SELECT value FROM arrays WHERE name = ?", (name,)).fetchone()
            return None if row is None else np.frombuffer(row[0], np.int64)

    def begin(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Writes the plan; there must be no plan and no segment yet."""
        with self._guarded(), self._transaction():
            for table in ("facts", "arrays", "segments"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.executemany(
                "INSERT INTO facts VALUES (?, ?)", [(name, json.dumps(value)) for name, value in facts.items()]
            )
            self._db.executemany(
                "INSERT INTO arrays VALUES (?, ?)", [(name, value.tobytes()) for name, value in arrays.items()]
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def add(self, done: SegmentDone) -> bool:
        """Records a finished segment; False if it was already recorded."""
        segment = done.segment
        row = (
            segment.number, segment.first, segment.stop, done.indices.tobytes(), done.ticks.tobytes(),
            done.areas.tobytes(), done.before, done.last, done.size,
        )  # fmt: skip
        with self._guarded():
            cursor = self._db.execute("INSERT OR IGNORE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return cursor.rowcount == 1

    def drop(self, numbers: list[int]) -> None:
        """Removes segments, which are then made again."""
        with self._guarded(), self._transaction():
            self._db.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number in numbers])

    def segments(self) -> Iterator[SegmentDone]:
        """The finished segments in order, with one at a time in memory."""
        query = "SELECT number, first, stop, indices, ticks, areas, before, last, size FROM segments ORDER BY number"
        with self._guarded():
            for number, first, stop, indices, ticks, areas, before, last, size in self._db.execute(query):
                frames = np.frombuffer(indices, np.int64)
                yield SegmentDone(
                    0,  # the number of the input has no meaning in another run
                    Segment(number, first, stop),
                    frames,
                    np.frombuffer(ticks, np.int64),
                    np.frombuffer(areas, np.int64).reshape(len(frames), -1 if len(frames) else 0),
                    before,
                    last,
                    size,
                )

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._db.close()


def open_journal(partial: Path) -> Journal:
    """Opens the journal in a folder of unfinished work; creates the folder, and removes files of interrupted passes.

    Raises:
        OutputError: the folder is not ours or cannot be written, or an error of `Journal`.
    """
    if partial.exists() and not (partial.is_dir() and is_ours(partial)):
        raise OutputError(f"{partial} was not made by rtseg and is left alone: move it, or choose another --output")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {partial}: {error.strerror or error}; choose another --output") from error
    clean_passes(partial)
    return Journal(partial)
