"""`rtseg doctor --bundle`: contains what a bug report needs, and nothing that identifies its user."""

import json
import socket
from pathlib import Path
from zipfile import ZipFile

import pytest
from test_commands import call

import rtseg
from rtseg.apps import doctor
from rtseg.apps._private import Private

HOME = "/Users/Anna Berg"
SECRETS = ("anna", "berg", "hunter2", "workshop", "secret", "holiday", "10.0.0.7", "/", "\\\\")


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home folder, user name and machine name of a person."""
    monkeypatch.setenv("HOME", HOME)
    monkeypatch.setenv("USERPROFILE", HOME)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "aberg")
    monkeypatch.setattr(socket, "gethostname", lambda: "workshop.local")


REPORT = {
    "inputs": [
        {
            "input": f"{HOME}/films/my secret holiday.mp4",
            "outputs": ["labelled/my secret holiday.mp4"],
            "error": "my secret holiday.mp4: aberg@workshop cannot write /mnt/disk 2/out: the disk is full",
            "notes": ["rtsp://aberg:hunter2@10.0.0.7/live gave 3 frames", "C:\\Users\\anna\\x.onnx has sha256 12ab"],
            "model": "icnet", "fps": 27.5, "stages_ms": {"engine": {"mean": 12.5, "n": 90}},
        },
        {"source": "synthetic", "error": None, "size": [256, 512]},
    ],
    "environment": {"cpu": "A CPU", "packages": {"openvino": "2026.1.0"}},
}  # fmt: skip


def test_a_bundle_holds_what_helps_and_nothing_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine(cameras: bool) -> list[doctor.Check]:
        return [
            doctor.Check("Python", "ok", f"3.12.1, Linux x86_64, {HOME}/.venv/bin/python"),
            doctor.Check(
                "weights icnet", "broken", f"{HOME}/rtseg/weights/icnet.onnx is missing", "install rtseg again"
            ),
            doctor.Check("camera 0", "ok", "Anna's secret camera"),
        ]

    monkeypatch.setattr(doctor, "examine", examine)
    (tmp_path / "run.json").write_text(json.dumps(REPORT))
    code = call("rtseg doctor", "--bundle", str(tmp_path / "bug.zip"), "--report", str(tmp_path / "run.json"))
    assert code == 5  # the defect is still reported, and the bundle is written
    assert "look at it before you send it" in capsys.readouterr().out
    with ZipFile(tmp_path / "bug.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert list(texts) == ["about.txt", "doctor.txt", "machine.json", "report.json"]
    for name in ("doctor.txt", "machine.json", "report.json"):
        private = [word for word in SECRETS if word in texts[name].lower() and word != "/"]
        assert private == [], texts[name]
    assert "/" not in texts["doctor.txt"] + texts["report.json"]
    assert texts["doctor.txt"].splitlines() == [
        "ok       Python: 3.12.1, Linux x86_64, <path>",
        "broken   weights icnet: <path> is missing",
        "         install rtseg again",
        "ok       camera 0: can be opened",
    ]
    machine = json.loads(texts["machine.json"])
    assert machine["rtseg"] == rtseg.__version__
    assert {"numpy", "av", "numba"} <= set(machine["packages"])
    assert machine["cpu_flags"]
    first, second = json.loads(texts["report.json"])["inputs"]
    assert (first["fps"], first["model"], first["stages_ms"]) == (27.5, "icnet", {"engine": {"mean": 12.5, "n": 90}})
    assert "the disk is full" in first["error"]
    assert first["notes"][0] == "<address> gave 3 frames"
    assert (second["source"], second["size"]) == ("synthetic", [256, 512])
    assert json.loads(texts["report.json"])["environment"] == REPORT["environment"]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("0.754 mIoU on camvid/val, 1024x2048, 3/4 of CPU/GPU", "0.754 mIoU on camvid/val, 1024x2048, 3/4 of CPU/GPU"),
        ("PyAV 18.1.0, FFmpeg n8.0, libx264", "PyAV 18.1.0, FFmpeg n8.0, libx264"),
        ("kept in /opt/rtseg/__pycache__, which cannot be written", "kept in <path>, which cannot be written"),
        ("no such file: ../a.mp4", "no such file: <path>"),
        ("~/x and ./y.txt and D:\\z and \\\\server\\share", "<path> and <path> and <path> and <path>"),
        ("cannot write /mnt/my big disk/out: full", "cannot write <path>: full"),
        ("films/anna.mkv is damaged", "<path> is damaged"),
        ("Aberg's clip.MP4", "<name>'s <file>"),
    ],
)
def test_what_is_private_in_a_text(text: str, clean: str) -> None:
    assert Private().text(text) == clean


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--bundle", "bug.tar"), 4, "a bundle is a ZIP file, name it bug.zip"),
        (("--report", "run.json"), 2, "give --bundle FILE.zip too"),
        (("--bundle", "bug.zip", "--report", "gone.json"), 3, "gone.json cannot be read"),
        (("--bundle", "bug.zip", "--report", "bug.zip"), 3, "bug.zip is not a JSON report"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "examine", lambda cameras: pytest.fail("it was examined"))
    Path("bug.zip").write_text("mine")
    assert call("rtseg doctor", *arguments) == code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert Path("bug.zip").read_text() == "mine"
