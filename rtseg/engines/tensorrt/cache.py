"""Built engines, kept in the user's cache folder under the hash of everything that they depend on.

An entry is two files: the plan, and a manifest with the key, the plan's hash and the build's report. The manifest is
written last, so an interrupted build leaves no entry. Each entry has a lock file, so that one process builds it while
others wait.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from rtseg.core.errors import OutputError
from rtseg.core.files import atomic_path, read_json, write_json
from rtseg.core.machine import cache_folder
from rtseg.core.sizes import Size

_log = logging.getLogger(__name__)
FORMAT = 1
"""Incremented whenever the meaning of the graphs written here, or of the entries, changes."""


@dataclass(frozen=True)
class BuildOptions:
    """How TensorRT builds.

    Attributes:
        optimization_level: 0 (builds quickly) to 5 (tries the most).
        workspace_mib: scratch memory for a layer; None: as much as the GPU has.
        tf32: let FP32 convolutions round their inputs to TF32.
        keep: names of nodes that keep the next higher type.
    """

    optimization_level: int = 3
    workspace_mib: int | None = None
    tf32: bool = False
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanKey:
    """Everything that a built engine depends on; keys that differ in anything mean different engines."""

    onnx_sha256: str
    ranges_sha256: str
    precision: str
    size_hw: Size
    tensorrt: str
    cuda: str
    driver: str
    gpu: str
    compute_capability: tuple[int, int]
    options: BuildOptions = field(default_factory=BuildOptions)
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples become lists, as when read back
        return data

    @property
    def digest(self) -> str:
        return _digest(self.to_json())

    @property
    def target(self) -> str:
        """The digest without the options: what the options were chosen for."""
        return _digest({name: value for name, value in self.to_json().items() if name != "options"})


@dataclass(frozen=True)
class Entry:
    """A built engine and its build report."""

    plan: bytes
    report: dict[str, Any]


class EngineCache:
    """The entries in a folder, by default `engines` in the user's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder if folder is not None else cache_folder() / "engines"

    def find(self, key: PlanKey) -> Entry | None:
        """The entry for a key; None if it is missing, damaged or belongs to another key."""
        manifest_path, plan_path = self._paths(key)
        try:
            manifest = read_json(manifest_path)
            plan = plan_path.read_bytes()
            if manifest["key"] != key.to_json():
                reason = "it was built for something else"
            elif manifest["sha256"] != sha256(plan).hexdigest():
                reason = "its hash differs from the one it was written with"
            else:
                return Entry(plan, manifest["report"])
        except FileNotFoundError:
            if not manifest_path.exists():
                return None
            reason = "one of its two files is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"it cannot be read ({type(error).__name__})"
        _tell(key, reason)
        return None

    def store(self, key: PlanKey, plan: bytes, report: dict[str, Any]) -> Entry:
        """Writes an entry; raises OutputError if the folder cannot be written."""
        manifest_path, plan_path = self._paths(key)
        manifest_path.unlink(missing_ok=True)  # of a damaged entry: it must never exist beside the new plan
        with atomic_path(plan_path) as part:
            part.write_bytes(plan)
        write_json(manifest_path, {"key": key.to_json(), "sha256": sha256(plan).hexdigest(), "report": report})
        return Entry(plan, report)

    def refuse(self, key: PlanKey, reason: str, preferred: BuildOptions) -> None:
        """Removes an entry, which is then not rebuilt unless asked for, and goes back to the options `preferred`."""
        self.restore(key, preferred)
        for path in self._paths(key):
            path.unlink(missing_ok=True)
        write_json(self._refusal(key), reason)

    def refusal(self, key: PlanKey) -> str | None:
        """Why an entry was refused; None if it was not, or if somebody has asked for it since."""
        try:
            return str(read_json(self._refusal(key)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return "for a reason that cannot be read"

    def discard(self, key: PlanKey, reason: str) -> None:
        """Removes an entry that TensorRT itself refused."""
        _tell(key, reason)
        for path in self._paths(key):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, key: PlanKey) -> Iterator[None]:
        """Locks the entry against other processes; the lock ends with the process."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.folder / f"{key.digest}.lock")
            held.acquire()
        except OSError as error:
            raise OutputError(
                f"cannot keep built engines in {self.folder}: {error.strerror or error}; set RTSEG_CACHE to a folder "
                "that you can write"
            ) from error
        try:
            yield
        finally:
            held.release()

    def prefer(self, key: PlanKey) -> None:
        """Makes `preferred` return this key's options for its network, precision, size and machine from now on."""
        self._refusal(key).unlink(missing_ok=True)
        self.restore(key, key.options)

    def restore(self, key: PlanKey, options: BuildOptions) -> None:
        """Makes options preferred again; if their engine was refused, it stays refused."""
        write_json(self.folder / f"{key.target}.options.json", asdict(options))

    def preferred(self, key: PlanKey) -> BuildOptions:
        """The options last given to `rtseg compile` for this target, or the defaults."""
        try:
            kept = read_json(self.folder / f"{key.target}.options.json")
            return BuildOptions(**{**kept, "keep": tuple(kept["keep"])})
        except FileNotFoundError:
            return BuildOptions()
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("the build options kept for %s cannot be read: using the defaults", key.target[:12])
            return BuildOptions()

    def timing_cache(self, key: PlanKey) -> Path:
        """The file with TensorRT's timings for this version and GPU, shared by all builds."""
        name = _digest([key.tensorrt, key.cuda, key.driver, key.gpu, list(key.compute_capability)])
        return self.folder / f"{name}.timing"

    def _refusal(self, key: PlanKey) -> Path:
        return self.folder / f"{key.digest}.refused.json"

    def _paths(self, key: PlanKey) -> tuple[Path, Path]:
        return self.folder / f"{key.digest}.json", self.folder / f"{key.digest}.plan"


def _digest(data: Any) -> str:
    return sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _tell(key: PlanKey, reason: str) -> None:
    _log.warning("the kept engine %s is not used: %s; rebuilding it", key.digest[:12], reason)
