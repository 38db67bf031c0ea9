"""`rtseg doctor`: what works on this machine, what does not, and how to fix it."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import rtseg
from rtseg.core.advice import OPENCV_FIX
from rtseg.core.errors import EngineError, RtsegError, UsageError, WeightsError


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        state: 'ok', 'info' (absent but not needed), 'warning' (something does not work) or 'broken' (the main path
            fails).
        fix: what to do about it; empty if nothing.
    """

    name: str
    state: str
    found: str
    fix: str = ""


def command(
    *, cameras: Annotated[bool, Parameter(negative="")] = False, bundle: Path | None = None, report: Path | None = None
) -> None:
    """Show what works on this machine and what to install; exit code 5 if the main path is broken.

    Args:
        cameras: Also open every camera.
        bundle: Write the information for a bug report to this ZIP file: versions, processor, the table; no paths or
            pictures.
        report: Add the report of a run, as written by its --json, to the bundle.
    """
    from rtseg.apps._bundle import check_bundle, read_report, write_bundle

    if report is not None and bundle is None:
        raise UsageError("--report is for the bundle: give --bundle FILE.zip too")
    told = None if report is None else read_report(report)
    if bundle is not None:
        check_bundle(bundle, report)
    console = Console()
    table = Table("what", "state", "found", title=escape(f"rtseg {rtseg.__version__}, {Path(rtseg.__file__).parent}"))
    colours = {"ok": "green", "info": "dim", "warning": "yellow", "broken": "bold red"}
    checks = []
    for check in examine(cameras):
        checks.append(check)
        table.add_row(check.name, f"[{colours[check.state]}]{check.state}", escape(check.found))
    console.print(table)
    for check in checks:
        if check.fix:
            console.print(f"{check.state}: {check.name}: {check.fix}", markup=False, highlight=False, soft_wrap=True)
    if bundle is not None:
        write_bundle(bundle, checks, told)
        console.print(f"bundle {bundle}: look at it before you send it", markup=False, highlight=False, soft_wrap=True)
    broken = [check.name for check in checks if check.state == "broken"]
    if broken:
        raise EngineError(f"rtseg cannot run here: {', '.join(broken)} broken; the lines above say how to fix it")
    console.print("The main path works: rtseg-cam --source synthetic", highlight=False)


def examine(cameras: bool = False) -> Iterator[Check]:
    """Runs every check, in the order in which the parts depend on each other."""
    yield check_python()
    yield check_threads()
    yield from guarded("OpenCV", check_opencv, "pip install --force-reinstall opencv-python")
    yield from guarded("display", check_display, "")
    yield from guarded("video files", check_codecs, "pip install --force-reinstall av")
    yield from guarded("numba", check_kernels, "set NUMBA_CACHE_DIR to a folder that you can write, or reinstall numba")
    yield from guarded("weights", check_weights, "install rtseg again")
    yield from guarded("engines", check_engines, "pip install onnxruntime openvino")
    yield from check_rates()
    yield check_gpu()
    if cameras:
        yield from guarded("cameras", check_cameras, "")


def guarded(name: str, check: Callable[[], list[Check]], fix: str) -> list[Check]:
    """The lines of a check; a single 'broken' line if a package that it needs cannot be loaded."""
    try:
        return check()
    except (ImportError, OSError, RuntimeError, RtsegError) as error:
        hint = shared_library_hint(str(error))
        return [Check(name, "broken", first_line(error), hint or fix)]


def first_line(error: Exception) -> str:
    """An error's message, on one line."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def shared_library_hint(error: str) -> str:
    """How to install the system library that an import error names; empty if it names none."""
    debian = {"libGL": "libgl1", "libgthread": "libglib2.0-0", "libglib": "libglib2.0-0", "libgomp": "libgomp1"}
    for library, package in debian.items():
        if f"{library}.so" in error or f"{library}-2" in error:
            return f"install the system library {library} (Debian, Ubuntu: apt install {package})"
    return ""


def installed(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check_python() -> Check:
    """The interpreter and the platform."""
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("Python", "ok", found)
    return Check("Python", "warning", found, "rtseg is tested on Python 3.11 to 3.13: use one of these")


def check_threads() -> Check:
    """How cores are shared among the parts of the loop."""
    from rtseg.core.machine import cores
    from rtseg.core.threads import thread_budget

    budget = thread_budget()
    found = f"{cores()} of {os.cpu_count()} cores; engine {budget.engine}, OpenCV {budget.opencv}, codec {budget.codec}"
    return Check("threads", "ok", found)


def check_opencv() -> list[Check]:
    """OpenCV loads, and its window functions are those of the full build (albumentations installs the headless one)."""
    import cv2

    headless = installed("opencv-python-headless") or installed("opencv-contrib-python-headless")
    full = installed("opencv-python") or installed("opencv-contrib-python")
    windows = cv2.currentUIFramework() if hasattr(cv2, "currentUIFramework") else ""
    found = f"{cv2.__version__}, windows: {windows or 'none'}"
    if headless and full:
        return [Check("OpenCV", "warning", f"{found}; two builds share one folder: headless and full", OPENCV_FIX)]
    if not windows:
        return [Check("OpenCV", "warning", f"{found}: no windows, recording only", OPENCV_FIX)]
    return [Check("OpenCV", "ok", found)]


def check_display() -> list[Check]:
    """Whether a window can be opened; does not open one."""
    from rtseg.sinks.window import gui_available

    usable, reason = gui_available()
    if usable:
        return [Check("display", "ok", "windows can be opened")]
    return [Check("display", "info", reason, "without a display use: rtseg-cam --no-window --record out.mp4")]


def check_codecs() -> list[Check]:
    """Video files can be read, and written as H.264."""
    import av
    import av.codec

    found = f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}"
    if "libx264" not in av.codec.codecs_available:
        fix = "recording needs it: pip install --force-reinstall av"
        return [Check("video files", "warning", f"{found}, no libx264", fix)]
    return [Check("video files", "ok", f"{found}, libx264")]


def check_kernels() -> list[Check]:
    """The compiled label upsampling works, and the compiled code is cached on disk for the next start."""
    from rtseg.pictures.upsample import warm_up

    start = perf_counter()
    warm_up()
    seconds = perf_counter() - start
    from rtseg.pictures._upsample_kernel import fill_rows

    folder = Path(fill_rows.stats.cache_path)
    found = f"{installed('numba')}, kernels ready in {seconds:.1f} s, kept in {folder}"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return [Check("numba", "ok", found)]
    except OSError:
        fix = "set NUMBA_CACHE_DIR to a folder that you can write, else every start compiles again"
        return [Check("numba", "warning", f"{found}, which cannot be written", fix)]


def check_weights() -> list[Check]:
    """The files that ship are complete: sizes and hashes match their cards."""
    from rtseg.core.zoo import resolve, shipped, weights_folder

    checks = []
    for name in shipped():
        artifact = resolve(name)
        for precision in artifact.card.files:
            artifact.file(precision)
        found = f"{', '.join(artifact.card.files)}; sizes and hashes agree"
        checks.append(Check(f"weights {name}", "ok", found))
    return checks or [Check("weights", "broken", f"none in {weights_folder()}", "install rtseg again")]


def check_engines() -> list[Check]:
    """Each installed engine runs a network that ships, in its own process: a crash there is a finding."""
    from rtseg.engines import ENGINES, install_hint, missing

    checks = []
    for name in ENGINES:
        if (reason := missing(name)) is not None:
            checks.append(Check(f"engine {name}", "info", reason))
            continue
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                checks.append(Check(f"engine {name}", "ok", pool.submit(probe_engine, name).result()))
        except WeightsError as error:  # nothing to run, as the lines about the weights explain
            checks.append(Check(f"engine {name}", "info", f"not tried: {first_line(error)}"))
        except BrokenProcessPool:
            fix = f"install another version: {install_hint(name)} --upgrade; until then use another --engine"
            checks.append(Check(f"engine {name}", "warning", "its process crashed", fix))
        except Exception as error:  # any error of a vendor library is a finding too
            fix = f"reinstall it ({install_hint(name)} --force-reinstall), or use another --engine"
            checks.append(Check(f"engine {name}", "warning", first_line(error), fix))
    if not any(check.state == "ok" for check in checks):
        checks.append(
            Check(
                "engines",
                "broken",
                "none runs a network that ships",
                "fix the lines above, or: pip install onnxruntime openvino",
            )
        )
    return checks


def check_rates() -> list[Check]:
    """What 'auto' has measured on this machine."""
    from rtseg.engines.auto import rates_folder, remembered

    lines = remembered()
    if not lines:
        return [Check("auto", "info", "nothing measured yet: the first run of a network measures the engines")]
    return [Check("auto", "ok", line) for line in [*lines, f"kept in {rates_folder()}: delete it to measure again"]]


def probe_engine(name: str) -> str:
    """Runs the first network that ships on a grey picture; returns what ran it. Runs in a child process."""
    import numpy as np

    from rtseg.core.zoo import resolve, shipped
    from rtseg.engines import EngineOptions, load_engine

    artifact = resolve(next(iter(shipped()), "icnet"))  # if there are none, `resolve` says how to fix it
    side = 4 * artifact.card.size_multiple
    with load_engine(name, artifact, EngineOptions((side, side))) as engine:
        engine.infer(np.full((side, side, 3), 128, np.uint8))
        return f"{engine.info.runtime} on {engine.info.device}; ran {artifact.card.name}"


def check_gpu() -> Check:
    """NVIDIA's driver and TensorRT; neither is required."""
    from rtseg.engines.cuda.device import driver_version, gpu_problem

    if (problem := gpu_problem()) is not None:
        return Check("NVIDIA GPU", "info", problem)
    version = installed("tensorrt") or "not installed"
    return Check("NVIDIA GPU", "ok", f"driver {driver_version() or 'of unknown version'}, TensorRT {version}")


def check_cameras() -> list[Check]:
    """Opens and closes every camera."""
    from rtseg.sources.camera import list_cameras

    cameras = list_cameras()
    if not cameras:
        return [Check("cameras", "info", "none that can be opened", "without a camera: rtseg-cam --source synthetic")]
    return [Check(f"camera {camera.index}", "ok", f"{camera.name}") for camera in cameras]
