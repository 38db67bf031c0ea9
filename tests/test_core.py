import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from rtseg.core.card import Card, CardFile
from rtseg.core.errors import OutputError, RtsegError, UsageError, WeightsError
from rtseg.core.files import atomic_path, file_sha256, write_json
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.core.registry import Registry
from rtseg.core.sizes import check_multiple, nearest_multiple, parse_size
from rtseg.core.timing import Durations, RateMeter
from rtseg.core.zoo import Artifact, resolve
from rtseg.metrics.confusion import ConfusionMatrix


def test_registry_imports_on_demand_and_names_close_matches() -> None:
    registry: Registry[type] = Registry("tool", {"counter": "collections:Counter", "broken": "no_such_module:x"})
    assert registry.get("counter").__name__ == "Counter"
    with pytest.raises(UsageError, match=r"unknown tool 'conter': did you mean counter\? allowed: counter, broken"):
        registry.get("conter")
    with pytest.raises(ValueError, match="registered already"):
        registry.add("counter", "collections:OrderedDict")


def test_exit_codes_are_distinct() -> None:
    ours = [error for error in RtsegError.__subclasses__() if error.__module__ == RtsegError.__module__]
    codes = [error.exit_code for error in ours]
    assert len(codes) == 6
    assert len(set(codes)) == len(codes)
    assert not set(codes) & {0, 1, 130}


@pytest.mark.parametrize("text", ["256", "256x", "x512", "0x512", "256x0", "-1x4", "256x512x3", "axb"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="HEIGHTxWIDTH"):
        parse_size(text)


def test_sizes() -> None:
    assert parse_size(" 256X512 ") == (256, 512)
    assert nearest_multiple((360, 480), 32) == (352, 480)
    assert nearest_multiple((1, 47), 32) == (32, 32)
    with pytest.raises(UsageError, match="multiples of 32; the nearest is 256x512"):
        check_multiple((250, 512), 32, "icnet")


def test_label_set_checks_itself_and_survives_json() -> None:
    assert LabelSet.from_json(json.loads(json.dumps(CAMVID11.to_json()))) == CAMVID11
    assert tuple(CAMVID11.palette_bgr[CAMVID11.index("road")]) == (128, 64, 128)
    assert not CAMVID11.palette_bgr[11:].any()
    with pytest.raises(UsageError, match="did you mean car"):
        CAMVID11.index("cars")
    with pytest.raises(ValueError, match="is also class"):
        LabelSet("x", ("a", "b"), ((0, 0, 0), (1, 1, 1)), ignore_index=1)


def test_confusion_matrix_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 12, (2, 40, 50)).astype(np.uint8)
    predicted[predicted == 11] = 0
    matrix = ConfusionMatrix(CAMVID11)
    matrix.update(predicted[:20], truth[:20])
    matrix.update(predicted[20:], truth[20:])
    known = truth != 11
    for index, iou in enumerate(matrix.iou):
        hit, seen = (predicted == index) & known, (truth == index) & known
        assert iou == pytest.approx((hit & seen).sum() / (hit | seen).sum())
    assert matrix.miou == pytest.approx(float(np.mean(matrix.iou)))
    assert matrix.pixel_accuracy == pytest.approx(float((predicted == truth)[known].mean()))


def test_confusion_matrix_leaves_out_absent_classes_and_refuses_bad_input() -> None:
    matrix = ConfusionMatrix(CAMVID11)
    assert math.isnan(matrix.miou)
    assert matrix.to_json()["miou"] is None
    ones = np.ones((4, 4), np.uint8)
    matrix.update(ones, ones)
    assert matrix.miou == 1.0
    assert matrix.to_json()["iou"]["sky"] is None
    with pytest.raises(UsageError, match="sizes must agree"):
        matrix.update(ones, ones[:2])
    with pytest.raises(UsageError, match="id 12"):
        matrix.update(ones * 12, ones)


def test_durations_keep_outliers() -> None:
    durations = Durations()
    assert durations.summary_ms() == {"n": 0}
    for seconds in [0.001] * 98 + [1.0, 1.0]:
        durations.add(seconds)
    summary = durations.summary_ms()
    assert summary["n"] == 100
    assert summary["p50"] == pytest.approx(1.0)
    assert summary["p99"] == pytest.approx(1000.0)


def test_durations_with_a_window_keep_the_newest() -> None:
    durations = Durations(3)
    for seconds in (9.0, 9.0, 1.0, 2.0, 3.0, 4.0):
        durations.add(seconds)
    assert durations.summary_ms() == {"p50": 3000.0, "p90": 3800.0, "p99": 3980.0, "mean": 3000.0, "n": 3}


def test_rate_counts_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.5, 1.0])
    monkeypatch.setattr("rtseg.core.timing.perf_counter", lambda: next(times))
    meter = RateMeter()
    assert meter.fps == 0.0
    for _ in range(3):
        meter.tick()
    assert meter.fps == pytest.approx(2.0)


def test_atomic_path_leaves_nothing_after_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "x.json"
    write_json(target, {"a": 1})
    before = target.read_bytes()

    def fail() -> None:
        with atomic_path(target) as part:
            part.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_bytes() == before
    assert os.listdir(target.parent) == ["x.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "x.json", {})


def make_artifact(folder: Path) -> tuple[Card, Path]:
    weights = folder / "net.onnx"
    weights.write_bytes(b"0123456789")
    entry = CardFile("net.onnx", file_sha256(weights), 10)
    card = Card("net", "icnet", {}, CAMVID11, 32, 4, (352, 480), 1, 1.0, {"fp32": entry})
    card.save(folder / "net.json")
    return card, weights


def test_card_survives_json_and_checks_its_file(tmp_path: Path) -> None:
    card, weights = make_artifact(tmp_path)
    artifact = resolve(str(weights))
    assert artifact.card == card
    assert artifact.file("fp32") == weights
    with pytest.raises(UsageError, match="net has no int8 file; it has: fp32"):
        artifact.file("int8")
    weights.write_bytes(b"0123456780")
    with pytest.raises(WeightsError, match="sha256"):
        artifact.file("fp32")
    weights.write_bytes(b"0123")
    with pytest.raises(WeightsError, match="has 4 bytes but its card says 10"):
        artifact.file("fp32")
    weights.unlink()
    with pytest.raises(WeightsError, match="is missing"):
        Artifact(card, tmp_path).file("fp32")


def test_figures_are_kept_by_precision_and_old_cards_are_read(tmp_path):
    card, _ = make_artifact(tmp_path)
    measured = card.with_figures("fp32", {"a/val": {"miou": 0.5}, "b/val": {"miou": 0.4}})
    measured = measured.with_figures("int8", {"a/val": {"miou": 0.49}}).with_figures("fp32", {"a/val": {"miou": 0.6}})
    expected = {"fp32": {"a/val": {"miou": 0.6}, "b/val": {"miou": 0.4}}, "int8": {"a/val": {"miou": 0.49}}}
    assert measured.metrics == Card.from_json(measured.to_json()).metrics == expected
    assert card.figures() == card.figures("int8") == {}
    old = {**measured.to_json(), "metrics": {**expected["fp32"], "int8": expected["int8"]}}
    assert Card.from_json(old).metrics == expected


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', "\xff"])
def test_damaged_card_is_one_clear_error(tmp_path: Path, content: str) -> None:
    _, weights = make_artifact(tmp_path)
    weights.with_suffix(".json").write_text(content, encoding="latin-1")
    with pytest.raises(WeightsError, match="is not a card"):
        resolve(str(weights))


def test_unknown_model_is_a_usage_error() -> None:
    with pytest.raises((UsageError, WeightsError)):
        resolve("icnett")


@pytest.mark.parametrize("given", ["runs/e/best.safetensors", "runs/e/last.ckpt", "runs/e"])
def test_what_training_leaves_is_exported_first(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "e"
    run.mkdir(parents=True)
    (run / "best.safetensors").touch()
    best = re.escape(str(Path("runs/e/best.safetensors")))
    with pytest.raises(UsageError, match=f"export it first, rtseg export --checkpoint {best},"):
        resolve(given)
