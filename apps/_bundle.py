"""`rtseg doctor --bundle`: one file with everything a bug report needs, and nothing that identifies its user."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile

import rtseg
from rtseg.core.errors import InputError, OutputError
from rtseg.core.files import read_json

if TYPE_CHECKING:
    from rtseg.apps.doctor import Check

_PACKAGES = (
    "numpy", "opencv-python", "opencv-python-headless", "opencv-contrib-python", "onnxruntime", "onnxruntime-gpu",
    "openvino", "tensorrt", "cuda-python", "numba", "llvmlite", "av", "filelock", "platformdirs", "psutil", "cyclopts",
    "rich", "pyyaml", "ray", "torch", "torchvision", "lightning", "onnx", "onnxscript", "timm",
    "segmentation-models-pytorch", "albumentations",
)  # fmt: skip
_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "OPENCV_NUM_THREADS")
_ABOUT = """What rtseg doctor found, for a bug report. It is plain text: look at it before you send it.

doctor.txt     the doctor's table
machine.json   versions, system, processor
report.json    the report of a run, if one was given with --report

Paths, names of files, addresses, and the names of the user and the machine are left out. There are no pictures.
"""


def check_bundle(path: Path, report: Path | None) -> None:
    """Checks before the work whether the bundle can be written.

    Raises:
        OutputError: not a .zip, or it cannot be written.
        UsageError: it would overwrite the report.
    """
    from rtseg.apps._overwrite import check_outputs

    if path.suffix.lower() != ".zip":
        raise OutputError(f"cannot write {path}: a bundle is a ZIP file, name it {path.stem or 'bundle'}.zip")
    check_outputs({"--bundle": path}, {"the report": [report]})


def read_report(path: Path) -> Any:
    """Reads the report of a run; raises InputError if it is not one."""
    try:
        return read_json(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a JSON report as --json writes it: {error}") from error


def write_bundle(path: Path, checks: "Sequence[Check]", report: Any) -> None:
    """Writes the file, completely or not at all.

    Args:
        path: ends in .zip.
        checks: what the doctor found.
        report: the report of a run, as JSON values; None if there is none.

    Raises:
        OutputError: the file cannot be written.
    """
    from rtseg.apps._private import Private, names_in
    from rtseg.core.files import atomic_path

    private = Private(names_in(report))
    lines = [line for check in checks for line in _lines(check)]
    entries = {
        "about.txt": _ABOUT,
        "doctor.txt": "".join(f"{private.text(line)}\n" for line in lines),
        "machine.json": _json(private.report(machine())),
    }
    if report is not None:
        entries["report.json"] = _json(private.report(report))
    with atomic_path(path) as part, ZipFile(part, "w", ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            archive.writestr(name, text)


def machine() -> dict[str, Any]:
    """Versions, system and processor as plain JSON values."""
    from rtseg.live.environment import environment

    return {
        **environment(),
        "rtseg": rtseg.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "cpu_flags": cpu_flags(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def cpu_flags() -> list[str]:
    """The processor's features, as the system names them; on systems other than Linux, those that OpenCV reports."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                return sorted(value.split())
    except OSError:
        pass
    import cv2

    return sorted(cv2.getCPUFeaturesLine().split())


def _lines(check: "Check") -> list[str]:
    found = "can be opened" if check.name.startswith("camera ") else check.found  # a camera may have its owner's name
    return [f"{check.state:8} {check.name}: {found}", *([f"         {check.fix}"] if check.fix else [])]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
