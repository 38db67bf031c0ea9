"""The public surface of the commands: names, options, and what they write, with a real engine."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from videos import make_video

import rtseg
from rtseg.apps._console import run
from rtseg.apps.main import COMMANDS, NEEDS_TORCH
from rtseg.core.errors import EngineError
from rtseg.core.zoo import shipped

ROOT = Path(__file__).parents[1]
# stable, because it is documented
SURFACE = {
    "rtseg-cam": "--model --source --size --engine --precision --record --no-window --frames --duration --json "
    "--list-cameras --camera-size --camera-fps --opacity --show --threads --steady --reuse --unsure",
    "rtseg-video": "--output --model --engine --precision --size --save --opacity --show --jobs --threads --ray --json "
    "--overwrite --dry-run --steady --unsure",
    "rtseg-bench": "--model --engine --size --precision --json --threads --plot",
    "rtseg": " ".join(COMMANDS),
    "rtseg train": "--model --data --root",
    "rtseg prune": "--model --method --keep --macs --per --output --report",
    "rtseg eval": "--model --data --root --split --engine --precision --size --json --flip --scales --stability "
    "--picture --steady --calibrate",
    "rtseg data": "check import list",
    "rtseg data import": "--output --images --classes --background",
    "rtseg data check": "--data --root --picture --json",
    "rtseg export": "--checkpoint --model --output",
    "rtseg import": "--name --classes --mean --std --order --scale --preset --output --output-name --layout --size "
    "--folder --overwrite",
    "rtseg compile": "--model --precision --data --root",
    "rtseg models": "--json",
    "rtseg doctor": "--cameras --bundle --report",
}
MODULES = {"rtseg-cam": "cam", "rtseg-video": "video", "rtseg-bench": "bench", "rtseg": "main"}
HEAVY = ("torch", "cv2", "numba", "av", "onnxruntime", "openvino", "matplotlib")


def call(line: str, *more: str) -> int:
    """Runs a command line in this process and returns its exit code."""
    name, *words = line.split()
    module = import_module(f"rtseg.apps.{MODULES[name]}")
    with pytest.raises(SystemExit) as ended:
        run(module.build_app() if name == "rtseg" else module.app, [*words, *more])
    return ended.value.code


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


# one process asks for all of them, and nothing in it is loaded by another test
HELPS = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
lines, modules, heavy = json.loads(sys.argv[1])
found = {}
for line in lines:
    name, *words = line.split()
    module = import_module(f"rtseg.apps.{modules[name]}")
    sys.argv = [name, *words, "--help"]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        try:
            module.main()
        except SystemExit as ended:
            code = ended.code
    loaded = [package for package in heavy if package in sys.modules]
    found[line] = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "loaded": loaded}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, dict[str, Any]]:
    """Of every command line its exit code, what it said, and which heavy packages were loaded by then."""
    command = [sys.executable, "-c", HELPS, json.dumps([[*SURFACE], MODULES, HEAVY])]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("line", SURFACE)
def test_help_names_what_is_documented(line: str, helps: dict[str, dict[str, Any]]) -> None:
    help_ = helps[line]
    if line.removeprefix("rtseg ") in NEEDS_TORCH and not importlib.util.find_spec("torch"):
        assert help_["code"] == 5
        return
    assert (help_["code"], help_["err"]) == (0, "")
    words = set(help_["out"].replace(",", " ").split())
    assert set(SURFACE[line].split()) <= words
    assert line in help_["out"]  # as "Usage: rtseg train"


def test_every_command_is_on_the_surface() -> None:
    assert {f"rtseg {name}" for name in COMMANDS} <= set(SURFACE)


@pytest.mark.parametrize("line", ["rtseg", "rtseg data"])
def test_every_command_in_a_list_says_what_it_does(line: str, helps: dict[str, dict[str, Any]]) -> None:
    printed = helps[line]["out"]
    assert [name for name in SURFACE[line].split() if not re.search(rf" {name} +[A-Z]\w+ \w+", printed)] == []


def test_help_loads_nothing_heavy(helps: dict[str, dict[str, Any]]) -> None:
    assert {line: help_["loaded"] for line, help_ in helps.items()} == {line: [] for line in SURFACE}


@pytest.mark.parametrize("name", MODULES)
def test_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--version") == 0
    assert capsys.readouterr().out.strip() == rtseg.__version__


def test_cam_reports_what_it_measured(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--source", "synthetic", "--no-window", "--frames", "30", "--camera-size", "128x256"]
    assert call("rtseg-cam", "--model", str(tiny_model), *arguments, "--json", "report.json") == 0
    assert capfd.readouterr().err == ""
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert (report["frames"], report["drops"], report["corrupt"], report["model"]) == (30, 0, 0, "tiny")
    assert report["fps"] > 0
    assert report["seconds"] > 0
    assert report["engine"]["name"] == "onnxruntime"
    assert report["engine"]["precision"] == "fp32"
    assert report["engine"]["size"] == [256, 512]  # twice the frame, because the network saw larger ones in training
    assert report["source"]["size"] == [128, 256]
    assert report["latency_ms"]["n"] == 30
    assert {"capture", "resize", "engine", "upsample", "draw", "write"} <= set(report["stages_ms"])
    assert 0 <= report["accuracy"]["miou"] <= 1
    assert {"cpu", "cores", "packages"} <= set(report["environment"])


def test_video_writes_the_segmenters_own_labels(tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    video = make_video(Path("drive.mp4"), 8, (90, 126), 30)
    arguments = ["--model", str(tiny_model), "--output", "out", "--save", "overlay,labels", "--json", "report.json"]
    assert call("rtseg-video", str(video), *arguments) == 0
    assert capfd.readouterr().err == ""
    with av.open("out/drive.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (90, 126, 30)
        assert stream.codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == 8
    with rtseg.load(str(tiny_model)) as segmenter, rtseg.open_source(video) as source:
        for frame in source:
            saved = cv2.imread(f"out/drive_labels/{frame.index:06d}.png", cv2.IMREAD_UNCHANGED)
            assert saved.dtype == np.uint8
            np.testing.assert_array_equal(saved, segmenter(frame))
    assert len(np.unique(saved)) > 3  # else the comparison is meaningless
    (entry,) = json.loads(Path("report.json").read_text(encoding="utf-8"))["inputs"]
    assert entry["input"] == "drive.mp4"
    assert entry["outputs"] == ["out/drive.mp4", "out/drive_labels"]
    assert (entry["frames"], entry["corrupt"], entry["error"]) == (8, 0, None)


@pytest.mark.slow
def test_bench_measures_every_combination(tiny_model: Path) -> None:
    sizes = ["--size", "64x96", "--size", "32x64"]
    arguments = ["--model", str(tiny_model), *sizes, "--engine", "onnxruntime", "--runs", "3", "--frames", "5"]
    assert call("rtseg-bench", *arguments, "--source-size", "64x96", "--json", "figures.json") == 0
    figures = json.loads(Path("figures.json").read_text(encoding="utf-8"))
    assert {"cpu", "cores", "packages"} <= set(figures["environment"])
    assert [result["size"] for result in figures["results"]] == [[64, 96], [32, 64]]
    for result in figures["results"]:
        assert (result["engine"], result["precision"], result["frames"]) == ("onnxruntime", "fp32", 5)
        assert {"p50", "p90", "p99"} <= set(result["engine_ms"])
        assert result["end_to_end_fps"] > 0


@pytest.mark.parametrize("wrong", ["--precision fp32 --precision int8", "--size 64x96 --size 63x96",
                                   "--engine onnxruntime --engine onnxruntim"])  # fmt: skip
def test_bench_finds_what_cannot_run_before_it_measures(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setattr("rtseg.live.bench.bench", lambda *_: pytest.fail("it measures"))
    assert call("rtseg-bench", "--model", str(tiny_model), *wrong.split()) in (2, 6)


def test_bench_keeps_what_it_measured_before_an_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rtseg.live.bench as runtime

    whole = runtime._whole_loop

    def breaks_later(*arguments: object) -> object:
        monkeypatch.setattr(runtime, "_whole_loop", breaks)
        return whole(*arguments)  # type: ignore[arg-type]

    def breaks(*_: object) -> object:
        raise EngineError("it broke")

    monkeypatch.setattr(runtime, "_whole_loop", breaks_later)
    arguments = ["--model", str(tiny_model), "--size", "64x96", "--size", "32x64", "--runs", "2", "--frames", "3"]
    assert call("rtseg-bench", *arguments, "--source-size", "64x96", "--json", "figures.json") == 5
    (kept,) = json.loads(Path("figures.json").read_text(encoding="utf-8"))["results"]
    assert kept["size"] == [64, 96]


@pytest.mark.parametrize("name", ["video", "main"])
def test_commands_run_as_modules(name: str) -> None:
    command = [sys.executable, "-m", f"rtseg.apps.{name}", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=ROOT)
    assert (done.returncode, done.stdout.strip()) == (0, rtseg.__version__)


@pytest.mark.parametrize("columns", [80, 50])
def test_the_models_can_be_read_in_a_narrow_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert call("rtseg models") == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= columns
    first_words = [line.split()[0] for line in printed.splitlines() if line.startswith(" ") and line.strip()]
    assert set(shipped()) <= set(first_words)
    assert columns < 80 or "onnxruntime" in printed
