"""What a measurement ran on: without it, figures cannot be compared."""

import os
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import rtseg
from rtseg.core.machine import cores, cpu_instructions, cpu_name

PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "openvino", "numba", "av", "torch")


@cache  # reading a package's metadata takes half a millisecond, and a batch asks for each of its inputs
def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def package_versions() -> dict[str, str]:
    """The version of every installed package of `PACKAGES`; imports none of them."""
    return {name: found for name in PACKAGES if (found := _installed(name))}


def environment() -> dict[str, object]:
    """CPU, cores, system, Python, package versions and date, as plain JSON values."""
    return {
        "rtseg": rtseg.__version__,
        "cpu": cpu_name(),
        "instructions": cpu_instructions(),
        "cores": cores(),
        "cores_of_machine": os.cpu_count() or 1,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": package_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
