"""The documentation is true: programs accept every command line in it, and the site builds."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtseg.apps import bench, cam, main, video
from rtseg.apps._console import run

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
APPS = {"rtseg": main.build_app(), "rtseg-cam": cam.app, "rtseg-video": video.app, "rtseg-bench": bench.app}


def lines() -> Iterator[tuple[str, str]]:
    """(page, command) for every line in a block of commands; a line ending in a backslash continues."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"rtseg(-\w+)? ", line.strip()) and "…" not in line:
                    yield page.name, line.strip()


@pytest.mark.parametrize(("page", "line"), sorted(set(lines())))
def test_a_command_in_the_documentation_is_one_that_the_programs_take(page: str, line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if not {"--help", "--version"} & set(words):
        APPS[program].parse_args(words, exit_on_error=False, print_error=False)


def benchmarks() -> Iterator[tuple[str, str]]:
    """(name, options) of every call of a benchmark: in the pages, in the protocol, and in each one's docstring.

    gpu.py is left out: it uses argparse, and tests/test_gpu_benchmark.py runs it.
    """
    for page in (*PAGES, BENCHMARKS / "PROTOCOL.md", *BENCHMARKS.glob("*.py")):
        yield from re.findall(r"python benchmarks/(?!gpu)(\w+)\.py ([^`#\n)]+)", page.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), sorted(set(benchmarks())))
def test_a_call_of_a_benchmark_in_the_documentation_is_one_that_it_takes(
    name: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    importlib.import_module(name).app.parse_args(shlex.split(options), exit_on_error=False, print_error=False)


def test_every_fault_has_a_test_that_is_there() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    numbers = {int(number) for row in re.findall(r"^\| ([\d, ]+)\.", page, re.MULTILINE) for number in row.split(", ")}
    assert numbers == {*range(1, 45)}
    named = re.findall(r"`(\w+)::(\w+)`", page)
    assert len(named) > 60
    for file, test in named:
        source = (ROOT / "tests" / f"test_{file}.py").read_text(encoding="utf-8")
        assert f"def test_{test}(" in source, (file, test)


def test_the_tiny_data_set_of_the_tutorial_is_one_that_can_be_trained_on(tmp_path: Path) -> None:
    script = ROOT / "docs" / "examples" / "shapes.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "shapes")], check=True)
    with pytest.raises(SystemExit) as ended:
        run(main.build_app(), ["data", "check", "--root", str(tmp_path / "shapes")])
    assert ended.value.code == 0
    names = [one["name"] for one in json.loads((tmp_path / "shapes" / "classes.json").read_text())["classes"]]
    seen = np.unique([cv2.imread(str(path), -1) for path in (tmp_path / "shapes" / "masks").iterdir()])
    assert len(seen) == len(names) == 3


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    overview = (tmp_path / "site" / "overview.html").read_text(encoding="utf-8")
    assert 'href="training.html#what-was-chosen-and-how"' in overview
    assert "rtseg.load" in (tmp_path / "site" / "python.html").read_text(encoding="utf-8")
