"""Rooms import only what they may, and the runtime loads neither torch nor anything it does not need yet."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# room -> (rooms it may import, packages it may import); the standard library and numpy are open to all
TRAINING = {"torch", "torchvision", "lightning", "segmentation_models_pytorch", "albumentations",
            "safetensors", "matplotlib", "rich", "cv2"}  # fmt: skip
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "core": (set(), {"platformdirs"}),
    "pictures": ({"core"}, {"cv2", "numba"}),
    "scenes": ({"core", "pictures"}, {"cv2", "numba"}),
    "sources": ({"core", "scenes"}, {"cv2", "av"}),
    "sinks": ({"core", "pictures"}, {"cv2", "av", "filelock"}),
    "metrics": ({"core", "pictures"}, {"cv2", "numba"}),
    "int8": ({"core"}, {"onnx", "onnxruntime"}),
    "engines": ({"core", "pictures"}, set()),  # and one vendor library per file: ENGINE_VENDOR
    "engines/cuda": ({"core", "pictures"}, set()),
    "engines/tensorrt": ({"core", "pictures", "scenes", "int8"}, {"onnx", "onnxruntime", "tensorrt", "rich"}),
    "live": ({"core", "pictures", "sources", "sinks", "metrics", "engines"}, {"cv2"}),
    "live/labellers": ({"core", "pictures", "engines"}, set()),
    "live/policies": ({"core", "sources"}, set()),
    "live/views": ({"core", "sinks", "engines"}, set()),
    "live/views/browser": ({"core", "sinks"}, {"cv2", "starlette", "uvicorn"}),
    "batch": ({"core", "pictures", "sources", "sinks", "engines", "live"}, {"cv2", "av", "psutil", "ray"}),
    "models": ({"core"}, {"torch", "torchvision", "timm", "segmentation_models_pytorch", "safetensors", "onnx"}),
    "datasets": ({"core", "pictures", "sources", "scenes"}, {"cv2", "yaml"}),
    "training": ({"core", "pictures", "sources", "sinks", "metrics", "models", "datasets"}, TRAINING),
    "export": ({"core", "pictures", "scenes", "models", "engines"}, {"torch", "onnx", "onnxscript", "safetensors"}),
    "importing": ({"core", "pictures", "scenes", "datasets", "engines"}, {"onnx", "onnxruntime"}),
    "": ({"core", "pictures", "sources", "live"}, set()),  # rtseg/__init__.py: lazy public names
}
ENGINE_VENDOR = {
    "onnxruntime_engine": {"onnxruntime"},
    "openvino_engine": {"openvino"},
    "torch_engine": {"torch"},
    "memory": {"cuda"},
    "upsampling": {"cuda"},
    "cache": {"filelock"},
}
EXTRA_ROOMS = {
    "torch_engine": {"models"},  # the eager network that the other engines are compared with
}
HEAVY = ["torch", "torchvision", "lightning", "albumentations", "matplotlib", "onnx", "openvino", "onnxruntime", "av",
         "numba", "tensorrt", "cuda", "starlette", "uvicorn", "websockets"]  # fmt: skip
NOT_PORTABLE = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
MODULE_NAME = re.compile(r"rtseg(\.\w+)+(:\w+)?")  # as written in registries and lazy imports


def naming(code: str) -> list[ast.AST]:
    """The parts of the code that may name a module."""
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom | ast.Constant)]


def imported(nodes: list[ast.AST], package: str) -> Iterator[str]:
    """Every module that the code names, including inside functions, relative, or as a lazy 'module:name' string."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield module
            if module == "rtseg":  # `from rtseg import engines` names a room
                yield from (f"rtseg.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            yield node.value.partition(":")[0]


@cache
def parsed(path: str) -> list[ast.AST]:
    return naming((ROOT / "rtseg" / path).read_text(encoding="utf-8"))


def broken_arrows(path: str, nodes: list[ast.AST]) -> list[str]:
    """The forbidden imports of a module of the package; `path` is relative to rtseg/."""
    *folders, file = Path(path).with_suffix("").parts
    room = folders[0] if folders else ""
    rooms, packages = ARROWS["/".join(folders) if "/".join(folders) in ARROWS else room]
    rooms = rooms | {room} | EXTRA_ROOMS.get(file, set())
    if room == "engines":
        packages = packages | ENGINE_VENDOR.get(file, set())
    broken = []
    for module in imported(nodes, ".".join(["rtseg", *folders])):
        top, _, rest = module.partition(".")
        if top == "rtseg":
            target = rest.split(".")[0]
            # the package itself provides its version; its lazy names are for users
            if target and (ROOT / "rtseg" / target).is_dir() | (target == "apps") and target not in rooms:
                broken.append(f"{room or 'rtseg'} -> {target} ({module})")
        elif top in NOT_PORTABLE or (top not in sys.stdlib_module_names and top not in packages | {"numpy"}):
            broken.append(f"{room or 'rtseg'} -> {top}")
    return broken


MODULES = sorted(path.relative_to(ROOT / "rtseg").as_posix() for path in (ROOT / "rtseg").rglob("*.py"))


def test_arrows_hold() -> None:
    assert {path: broken for path in MODULES if (broken := broken_arrows(path, parsed(path)))} == {}


def test_every_room_has_arrows() -> None:
    assert {path.split("/")[0] for path in MODULES if "/" in path} == {room.split("/")[0] for room in ARROWS} - {""}


def test_no_circle_of_files() -> None:
    """Imports inside functions count too; registries' strings do not, because they are what breaks the cycle."""
    names = {"rtseg." + path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in MODULES}
    needs: dict[str, set[str]] = {}
    for name, path in names.items():
        froms = [node for node in parsed(path) if isinstance(node, ast.ImportFrom)]
        modules = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
        modules |= {str(node.module) for node in froms if f"{node.module}.{node.names[0].name}" not in names}
        needs[name] = (modules & set(names)) - {name}
    while ends := [name for name, needed in needs.items() if not needed & set(needs)]:
        for name in ends:
            del needs[name]
    assert needs == {}, "these files import one another in a circle, or stand on one that does"


def test_commands_import_siblings_by_the_installed_name() -> None:
    for path in (ROOT / "apps").glob("*.py"):
        modules = set(imported(naming(path.read_text(encoding="utf-8")), "rtseg.apps"))
        assert not {module for module in modules if module.split(".")[0] in {"apps", *NOT_PORTABLE}}, path


@pytest.mark.parametrize(
    ("path", "code", "broken"),
    [
        ("core/a.py", "import numpy, json", []),
        ("core/a.py", "import cv2", ["core -> cv2"]),
        ("core/a.py", "def f():\n    from rtseg.pictures import resize", ["core -> pictures (rtseg.pictures)"]),
        ("core/a.py", "from rtseg import engines", ["core -> engines (rtseg.engines)"]),
        ("core/a.py", "import fcntl", ["core -> fcntl"]),
        ("engines/tensorrt/a.py", "from ..base import b\nfrom ...core import c", []),
        ("engines/tensorrt/a.py", "from ...live import c", ["engines -> live (rtseg.live)"]),
        ("engines/a.py", "from rtseg.int8 import fold", ["engines -> int8 (rtseg.int8)"]),
        ("live/a.py", "if True:\n    import torch.nn", ["live -> torch"]),
        ("live/policies/a.py", "from rtseg.engines import base", ["live -> engines (rtseg.engines)"]),
        ("live/a.py", "import uvicorn", ["live -> uvicorn"]),
        ("live/views/a.py", "import uvicorn", ["live -> uvicorn"]),
        ("live/views/browser/a.py", "import uvicorn", []),
        ("live/a.py", "from rtseg.apps import cam", ["live -> apps (rtseg.apps)"]),
        ("engines/__init__.py", "X = {'a': 'rtseg.models.enet:ENet'}", ["engines -> models (rtseg.models.enet)"]),
        ("engines/onnxruntime_engine.py", "import onnxruntime", []),
        ("engines/onnxruntime_engine.py", "import openvino", ["engines -> openvino"]),
        ("engines/torch_engine.py", "import torch\nfrom rtseg.models import base", []),
    ],
)
def test_a_broken_arrow_is_seen(path: str, code: str, broken: list[str]) -> None:
    assert broken_arrows(path, naming(code)) == broken


def test_start_up_loads_no_heavy_package() -> None:
    modules = ["rtseg", "rtseg.live.api", "rtseg.apps.main", "rtseg.apps.cam", "rtseg.apps.video"]
    said = "print({0!r}, *[name for name in {1!r} if name in sys.modules])"
    code = "import sys\n" + "\n".join(f"import {module}; {said.format(module, HEAVY)}" for module in modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, cwd=ROOT)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, modules), done.stderr
