"""What a measurement ran on: figures without it cannot be compared."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import rtseg
from rtseg.core.threads import cores

PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "openvino", "numba", "av", "torch")


def cpu_name() -> str:
    """The processor's name as far as the system tells it."""
    try:  # Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, str]:
    """Version of every package of `PACKAGES` that is installed; none is imported."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, object]:
    """CPU, cores, system, Python, package versions and the date, as plain JSON values."""
    return {
        "rtseg": rtseg.__version__,
        "cpu": cpu_name(),
        "cores": cores(),
        "cores_of_machine": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": package_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
