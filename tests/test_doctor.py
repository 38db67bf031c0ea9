"""`rtseg doctor`, `rtseg models` and the `rtseg` command itself."""

import json
import os
from pathlib import Path

import pytest
from fakes import fake_card

from rtseg.apps import doctor, main
from rtseg.apps._console import run
from rtseg.core.card import CardFile
from rtseg.core.errors import EngineError
from rtseg.core.files import file_sha256


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with one network whose file is intact."""
    network = tmp_path / "tiny.onnx"
    network.write_bytes(b"network")
    file = CardFile(network.name, file_sha256(network), network.stat().st_size)
    fake_card(name="tiny", files={"fp32": file}, parameters=370_000, data_terms="drawn here").save(
        tmp_path / "tiny.json"
    )
    for module in ("rtseg.core.zoo", "rtseg.apps.models"):
        monkeypatch.setattr(f"{module}.weights_folder", lambda: tmp_path)
    return tmp_path


def rtseg(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    """Exit code, standard output and standard error of `rtseg ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        run(main.build_app(), arguments)
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = rtseg(capsys)
    assert code == 0
    assert all(name in out for name in main.COMMANDS)


def test_an_unknown_command_names_the_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = rtseg(capsys, "modles", "--json")
    assert code == 2
    assert err.count("\n") == 1
    assert "did you mean models" in err


def test_training_without_torch_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "find_spec", lambda name: None)
    code, _, err = rtseg(capsys, "train", "--model", "enet")
    assert code == 5
    assert err.count("\n") == 1
    assert "rtseg[train]" in err


def test_models_lists_what_ships(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    code, out, _ = rtseg(capsys, "models")
    assert code == 0
    for shown in ("tiny", "0.37 M", "fp32", "camvid/val 0.500", "onnxruntime", "tiny: drawn here"):
        assert shown in out


def test_models_as_json(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    code, out, _ = rtseg(capsys, "models", "--json")
    (card,) = json.loads(out)
    assert (code, card["name"], card["files"]["fp32"]["bytes"]) == (0, "tiny", 7)


def test_models_without_weights(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    (weights / "tiny.json").unlink()
    code, _, err = rtseg(capsys, "models")
    assert code == 6
    assert "no weights found" in err


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("info", 0), ("warning", 0), ("broken", 5)])
def test_doctor_ends_with_5_where_the_main_path_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda cameras: iter([doctor.Check("part", state, "found", "fix it so")]))
    ended, out, err = rtseg(capsys, "doctor")
    assert ended == code
    assert f"{state}: part: fix it so" in out
    assert ("part broken" in err) == (state == "broken")


def test_doctor_runs_every_check(monkeypatch: pytest.MonkeyPatch, weights: Path) -> None:
    monkeypatch.setattr(doctor, "check_engines", lambda: [])
    checks = {check.name: check for check in doctor.examine()}
    assert {"Python", "threads", "OpenCV", "display", "video files", "numba", "weights tiny", "NVIDIA GPU"} <= set(
        checks
    )
    assert "libx264" in checks["video files"].found
    assert [check for check in checks.values() if check.state == "broken"] == []


@pytest.mark.parametrize(
    ("packages", "windows", "state"),
    [
        ({"opencv-python"}, "QT", "ok"),
        ({"opencv-python", "opencv-python-headless"}, "", "warning"),
        ({"opencv-python", "opencv-python-headless"}, "QT", "warning"),
        ({"opencv-python-headless"}, "", "warning"),
    ],
)
def test_headless_opencv_is_found(
    monkeypatch: pytest.MonkeyPatch, packages: set[str], windows: str, state: str
) -> None:
    monkeypatch.setattr(doctor, "installed", lambda package: "1" if package in packages else None)
    monkeypatch.setattr("cv2.currentUIFramework", lambda: windows)
    (check,) = doctor.check_opencv()
    assert check.state == state
    assert ("pip install opencv-python" in check.fix) == (state != "ok")


def test_a_library_that_cannot_load_is_broken_and_named() -> None:
    def check() -> list[doctor.Check]:
        raise ImportError("libGL.so.1: cannot open shared object file")

    (line,) = doctor.guarded("OpenCV", check, "reinstall")
    assert line.state == "broken"
    assert "apt install libgl1" in line.fix


@pytest.mark.parametrize("damage", [b"networ", b"artwork", None])
def test_damaged_weights_are_broken(weights: Path, damage: bytes | None) -> None:
    network = weights / "tiny.onnx"
    network.unlink() if damage is None else network.write_bytes(damage)
    (check,) = doctor.guarded("weights", doctor.check_weights, "install again")
    assert check.state == "broken"
    assert "tiny.onnx" in check.found


def crash(name: str) -> str:
    os._exit(3)


def refuse(name: str) -> str:
    raise EngineError("it does not run here")


@pytest.mark.parametrize(
    ("probe", "found"), [pytest.param(crash, "crashed", marks=pytest.mark.slow), (refuse, "it does not run here")]
)
def test_an_engine_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch, probe: object, found: str) -> None:
    monkeypatch.setattr(doctor, "probe_engine", probe)
    monkeypatch.setattr("rtseg.engines.missing", lambda name: None if name == "onnxruntime" else "not installed")
    checks = {check.name: check for check in doctor.check_engines()}
    assert (checks["engine onnxruntime"].state, checks["engine torch"].state) == ("warning", "info")
    assert found in checks["engine onnxruntime"].found
    assert checks["engines"].state == "broken"
