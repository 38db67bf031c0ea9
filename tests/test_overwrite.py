"""No command overwrites a file that it reads, or one of its outputs with another."""

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fakes import make_network
from folder_tree import make_folder, write_classes
from videos import make_video

from rtseg.apps._console import run
from rtseg.apps._overwrite import check_outputs
from rtseg.apps.export import ExportOptions, check_files
from rtseg.core.errors import OutputError, UsageError

CAM = "rtseg-cam --no-window --source a.mp4 --frames 2"
VIDEO = "rtseg-video a.mp4 --output out"
CHECK = "rtseg data check --root mine"
EVAL = "rtseg eval --data folder --root mine --stability a.mp4"
BENCH = "rtseg-bench --source a.mp4 --runs 2 --frames 2"
APPS = {"rtseg-cam": "cam", "rtseg-video": "video", "rtseg-bench": "bench", "rtseg": "main"}


@pytest.fixture(autouse=True)
def _folder_with_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video with a hard link and a symbolic link, a list, a folder of pictures, a data set and a network."""
    monkeypatch.chdir(tmp_path)
    make_video(Path("a.mp4"), 3, (64, 96))
    os.link("a.mp4", "hard.mp4")
    os.symlink("a.mp4", "soft.mp4")
    Path("list.txt").write_text("a.mp4\n")
    make_folder(Path("mine"), ["p_000"])
    write_classes(Path("mine"))
    Path("nets").mkdir()
    make_network(Path("nets"), "net")
    odd = make_network(Path("nets"), "odd.int8").with_suffix(".json")
    odd.write_text(odd.read_text().replace('"name": "odd.int8"', '"name": "odd"'))
    make_network(Path("nets"), "best")
    Path("nets", "best.safetensors").write_text("weights")


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


# fmt: off
REFUSED = [
    (f"{CAM} --json a.mp4", "--json a.mp4 would overwrite the source"),
    (f"{CAM} --json hard.mp4", "would overwrite the source"),
    (f"{CAM} --json soft.mp4", "would overwrite the source"),
    (f"{CAM} --record mine/../a.mp4", "would overwrite the source"),
    (f"{CAM} --record same.mp4 --json same.mp4", "would overwrite what --record writes"),
    (f"{CAM} --record same.mp4 --json same.partial.mp4", "would overwrite what --record writes"),
    (f"{CAM} --json nets/net.json", "would overwrite the network"),
    (f"{CAM} --record nets/net.onnx", "would overwrite the network"),
    ("rtseg-cam --no-window --source mine/images --json mine/images/p_000.jpg", "overwrite the source"),
    (f"{VIDEO} --json a.mp4", "would overwrite an input"),
    (f"{VIDEO} --json out/a.mp4", "would overwrite what --output writes"),
    (f"{VIDEO} --json out/a_summary.json", "would overwrite what --output writes"),
    (f"{VIDEO} --json out/a_labels/000000.png", "would overwrite what --output writes"),
    (f"{VIDEO} --json out", "would overwrite what --json writes"),
    (f"{VIDEO} --json nets/net.json", "would overwrite the network"),
    ("rtseg-video list.txt --output out --json list.txt", "would overwrite a list of inputs"),
    ("rtseg-video l*.txt --output out --json list.txt", "would overwrite a list of inputs"),
    ("rtseg-video mine/images --output out --json mine/images/p_000.jpg", "would overwrite an input"),
    (f"{CHECK} --picture mine/images/p_000.jpg", "would overwrite a file of the data set"),
    (f"{CHECK} --json mine/classes.json", "would overwrite a file of the data set"),
    (f"{CHECK} --picture new.png --json new.png", "would overwrite what --json writes"),
    (f"{EVAL} --json mine/classes.json", "would overwrite a file of the data set"),
    (f"{EVAL} --picture mine/images/p_000.jpg", "would overwrite a file of the data set"),
    (f"{EVAL} --picture new.png --json new.png", "would overwrite what --picture writes"),
    (f"{EVAL} --json a.mp4", "would overwrite the source"),
    (f"{EVAL} --json nets/net.json", "would overwrite the network"),
    (f"{BENCH} --json a.mp4", "would overwrite the source"),
    (f"{BENCH} --json nets/net.json", "would overwrite a network"),
    (f"{BENCH} --json new.png --plot new.png --split camvid/val", "would overwrite what --plot writes"),
    ("rtseg compile --engine tensorrt --report nets/net.json", "would overwrite the network"),
    ("rtseg compile --engine tensorrt --frames a.mp4 --report a.mp4", "would overwrite a picture of --frames"),
    *(
        pytest.param(f"rtseg train --model enet --root mine {start} nets/best.onnx --output nets",
                     "would overwrite a network", marks=pytest.mark.slow)  # loads torch
        for start in ("--init", "--teacher")
    ),
    ("rtseg compile --precision int8 --frames mine/images --model nets/odd.int8.onnx", "would overwrite the network"),
]
# fmt: on


@pytest.mark.parametrize(("line", "words"), REFUSED)
def test_refused(line: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = contents()
    code, said = command(line, capfd)
    assert words in said
    assert code == 2
    assert contents() == before


def command(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """A command line's exit code and its stderr; the network is the test's own."""
    name, *words = line.split()
    module = import_module(f"rtseg.apps.{APPS[name]}")
    app = module.build_app() if name == "rtseg" else module.app
    if words[:2] != ["data", "check"] and "--model" not in words:
        words += ["--model", "nets/net.onnx"]
    with pytest.raises(SystemExit) as ended:
        run(app, words)
    return ended.value.code, capfd.readouterr().err


def test_a_report_is_replaced_beside_what_is_read(capfd: pytest.CaptureFixture[str]) -> None:
    """The same command resumes with the same report, even if that is beside the inputs."""
    for _ in range(2):
        assert command("rtseg-video mine/images --output out --json mine/images/r.json", capfd)[0] == 0
        assert command(f"{CAM} --json report.json", capfd)[0] == 0
    assert json.loads(Path("report.json").read_text())["frames"] == 2
    assert json.loads(Path("mine/images/r.json").read_text())["inputs"][0]["skipped"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"model": "nets/net.onnx"}, "net"),
        ({"checkpoint": Path("nets/best.safetensors")}, "best"),
        ({"model": "enet", "untrained": True, "root": Path("nets")}, "net"),
    ],
)
def test_an_export_does_not_replace_what_it_is_made_of(options: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=r"--folder nets/\w+\.\w+ would overwrite"):
        check_files(ExportOptions(**options, folder=Path("nets")), name)
    check_files(ExportOptions(**options, folder=Path("nets")), "other")
    check_files(ExportOptions(**options, folder=Path("nets"), output="labels"), name)


def test_a_file_that_cannot_be_written_is_found() -> None:
    with pytest.raises(OutputError, match="it is a folder"):
        check_outputs({"--json": Path("nets")}, {})
    os.mkfifo("pipe.json")  # and /dev/null, which root would have replaced by a file
    for place in ("pipe.json", os.devnull):
        with pytest.raises(OutputError, match="it is a pipe, socket or device; give a file name"):
            check_outputs({"--json": Path(place)}, {})
    with pytest.raises(UsageError, match="the data set"):
        check_outputs({"--json": Path("mine/classes.json")}, {"the data set": [Path("mine/../mine")]})
    os.symlink(Path("mine", "masks").absolute(), "nets/masks")  # a data set's folder may be on another disk
    with pytest.raises(UsageError, match="the data set"):
        check_outputs({"--json": Path("nets/masks/p_000.png")}, {"the data set": [Path("nets")]})
    Path("report.json").write_text("{}")
    check_outputs({"--json": Path("mine/../report.json")}, {"the data set": [Path("mine")]})
    check_outputs({"--json": Path("mine/new.json")}, {"the data set": [Path("mine")]})
