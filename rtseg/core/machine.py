"""What the machine offers this process: the processor, the process's share of it, and a cache folder."""

import ctypes
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from platformdirs import user_cache_path

from rtseg.core.paths import user_path


def cache_folder() -> Path:
    """`RTSEG_CACHE`, or rtseg's folder in this user's cache folder."""
    if chosen := os.environ.get("RTSEG_CACHE"):
        return user_path(chosen)
    return user_cache_path("rtseg", appauthor=False)


# these decide how much INT8 and half precision bring
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


def cpu_name() -> str:
    """The processor's name, as precise as the system reports it."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def cpu_instructions() -> list[str]:
    """The processor's instruction sets that matter here; empty if the system does not tell."""
    flags = (_cpu_info("flags") or _cpu_info("Features")).split()
    return [name for name in _INSTRUCTIONS if name in flags]


def _cpu_info(wanted: str) -> str:
    """The first value of a key in /proc/cpuinfo; empty if there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == wanted:
                return value.strip()
    except OSError:
        pass
    return ""


def cores() -> int:
    """Logical cores that this process can keep busy: its CPU affinity, or its container's CPU quota if that is less.

    A quota is rounded up: with 1.5 cores, a second thread still gets half a core.
    """
    # only Linux has affinity
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The cores that Linux control groups (version 1 or 2) allow this process; None if they set no limit.

    Args:
        root: the folder that contains `proc` and `sys`.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None  # another system
    limits = [limit for line in lines for limit in _limits(root / "sys/fs/cgroup", line)]
    return min(limits, default=None)


def _limits(mount: Path, line: str) -> Iterator[float]:
    """The limits of a group and its parents; `line` is `number:controllers:path`, without controllers in version 2."""
    _, controllers, path = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    hierarchy = mount / controllers if (mount / controllers).is_dir() else mount / "cpu"
    base = hierarchy if controllers else mount
    inner = PurePosixPath(path.lstrip("/"))
    # a container may see the host's path although its mount begins at its own group
    for group in dict.fromkeys([inner, *inner.parents, PurePosixPath()]):
        limit = _version_1(base / group) if controllers else _version_2(base / group)
        if limit is not None:
            yield limit


def _version_2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _version_1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return quota / period if quota > 0 and period > 0 else None
    except (OSError, ValueError):
        return None


def return_freed_memory() -> None:
    """Returns the freed memory that glibc keeps, some for every thread that ever existed, to the system.

    Does nothing on systems without glibc. Takes some milliseconds.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
