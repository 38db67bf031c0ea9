"""What a measurement ran on: without it, figures cannot be compared."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import rtseg
from rtseg.core.machine import cores, cpu_instructions, cpu_name

PACKAGES = ("numpy", "opencv-python", "opencv-python-headless", "onnxruntime", "openvino", "numba", "av", "torch")


def package_versions() -> dict[str, str]:
    """The version of every installed package of `PACKAGES`; imports none of them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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
