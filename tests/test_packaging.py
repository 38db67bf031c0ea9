"""What a user installs: the wheel's content, the pins, and nothing private in the source tree."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WEIGHTS = ("*.onnx", "*.json")


def tree() -> list[Path]:
    """Files that git tracks or would track, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of a copy of the tree; needs no network."""
    folder = tmp_path_factory.mktemp("build")
    for path in tree():
        (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / "tree" / path)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "tree")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    with ZipFile(wheel) as opened:
        return set(opened.namelist())


def read_from(wheel: Path, suffix: str) -> str:
    with ZipFile(wheel) as opened:
        return next(opened.read(name).decode() for name in opened.namelist() if name.endswith(suffix))


def test_the_wheel_has_one_top_level_module(content: set[str]) -> None:
    tops = {name.split("/")[0] for name in content}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rtseg"}


def test_the_wheel_holds_all_code_and_weights(content: set[str]) -> None:
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rtseg").rglob("*.py")}
    code |= {f"rtseg/apps/{path.name}" for path in (ROOT / "apps").glob("*.py")}
    weights = {f"rtseg/weights/{path.name}" for pattern in WEIGHTS for path in (ROOT / "weights").glob(pattern)}
    browser = ROOT / "rtseg/live/views/browser"
    page = {
        path.relative_to(ROOT).as_posix()
        for path in browser.iterdir()
        if path.suffix in (".html", ".css", ".js", ".svg")
    }
    assert len(page) == 5
    missing = (code | weights | page | {"rtseg/py.typed"}) - content
    assert not missing, "list new folders under [tool.setuptools] packages in pyproject.toml"


def test_packages_listed_are_the_folders() -> None:
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "rtseg").rglob("__init__.py")}
    expected = {room.replace("/", ".") for room in rooms} | {"rtseg.apps", "rtseg.weights"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_default_weights_ship() -> None:
    names = {path.stem for path in (ROOT / "weights").glob("*.json")}
    assert {"enet", "icnet"} <= names
    assert sum(path.stat().st_size for path in (ROOT / "weights").iterdir()) < 48 * 2**20


def test_metadata(wheel: Path, content: set[str]) -> None:
    metadata = Parser().parsestr(read_from(wheel, "METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in content)
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {requirement.name for requirement in requirements if requirement.marker is None}
    assert {"numpy", "opencv-python", "onnxruntime", "openvino", "numba", "av"} <= base
    assert not base & {"torch", "torchvision", "lightning", "albumentations", "onnx", "opencv-python-headless"}


def test_entry_points(wheel: Path) -> None:
    scripts = dict(re.findall(r"^(\S+) = (\S+)$", read_from(wheel, "entry_points.txt"), re.MULTILINE))
    assert set(scripts) == {"rtseg", "rtseg-cam", "rtseg-video", "rtseg-bench"}
    with ZipFile(wheel) as opened:
        for target in scripts.values():
            module, _, name = target.partition(":")
            code = opened.read(f"{module.replace('.', '/')}.py").decode()
            assert re.search(rf"^def {name}\(", code, re.MULTILINE), target


def direct_requirements() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


def test_constraints_pin_every_direct_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): pin for name, pin in pins.items()}
    for requirement in direct_requirements():
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_nothing_private_in_the_tree() -> None:
    private = re.compile(
        "|".join([
            r"py" r"pi\.org", r"python" r"hosted", r"--(extra-)?index-" r"url", r"repo\.maven", r"npm" r"js\.org",
            r"(?<![\w.])/(work|root|home)/\w", r"/tmp/" r"dev\b", r"BEGIN [A-Z ]*PRIVATE " r"KEY",
            r"\bAKIA[0-9A-Z]{16}\b", r"\bgh[pousr]_\w{30,}", r"\bhf_\w{30,}",
        ])
    )  # fmt: skip
    found = []
    for path in tree():
        if path.suffix in {".onnx", ".png", ".jpg", ".mp4", ".npz"}:
            continue
        for match in private.finditer(text := (ROOT / path).read_text(encoding="utf-8")):
            if path != Path(__file__).relative_to(ROOT):
                found.append(f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0][:100]}")
    assert found == []


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="not the environment that the Makefile makes")
def test_albumentations_leaves_windows_alone() -> None:
    from importlib.metadata import distributions

    import cv2

    assert {"opencv-python"} == {found.name for found in distributions() if found.name.startswith("opencv-")}
    assert cv2.currentUIFramework()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(900)
def test_the_wheel_runs_alone(wheel: Path, tmp_path: Path) -> None:
    """In an empty environment, with an empty home: no torch, a labelled frame, a report."""
    venv.create(tmp_path / "venv", with_pip=True)
    folder = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    install = [folder / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, cwd=tmp_path)
    listed = subprocess.run([folder / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in listed.split()
    command = [folder / "rtseg-cam", "--source", "synthetic", "--no-window", "--frames", "30", "--json", "report.json"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=1200)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["frames"] == 30
