"""Exits without torch: cards, engines that stop and continue, entropies, thresholds, the labeller that leaves early."""

import gc
import json
import weakref
from dataclasses import replace
from math import log

import numpy as np
import onnx
import pytest
from exit_files import NAMES, card_with_exits, make_exits, means
from fakes import FakeSource, fake_card
from onnx import numpy_helper

from rtseg.core.card import Card
from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.engines import EngineOptions, candidates, load_engine
from rtseg.engines.auto import int8_problem
from rtseg.engines.table import load_named
from rtseg.engines.trial import first_chain_run, first_run
from rtseg.live.labellers.early import EarlyExit, every_exit, open_labeller
from rtseg.live.labellers.still import Still
from rtseg.live.loop import Loop
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.exits import NEVER, ExitScores
from rtseg.pictures.entropy import MOST_CELLS, entropy, mean_entropy
from rtseg.pictures.upsample import upsample_labels

SIZE = (64, 96)
ENGINES = [pytest.param("onnxruntime"), pytest.param("openvino", marks=pytest.mark.openvino)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_exits(tmp_path_factory.mktemp("exits"), (0.5, 0.5, None))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(params=ENGINES)
def engine(request, artifact):
    with load_engine(request.param, artifact, EngineOptions(SIZE, exits=True)) as loaded:
        yield loaded


def expected(artifact, image, cells):
    """The logits of the exit that sees means of this many pixels, computed with numpy."""
    graph = onnx.load(artifact.file("fp32")).graph
    weights, bias = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer)
    return np.einsum("kc,chw->khw", weights[:, :, 0, 0], means(image, cells)) + bias[:, None, None]


def test_a_card_keeps_its_exits(tmp_path):
    card = card_with_exits(threshold=0.25, metrics={"fp32": {"camvid/val": {"miou": 0.5}}})
    card.save(tmp_path / "fake.json")
    assert Card.load(tmp_path / "fake.json") == card
    changed = card.with_exit("early", threshold=0.125)
    assert [each.threshold for each in changed.exits] == [0.125, None]


def test_a_card_without_exits_is_as_before():
    data = fake_card().to_json()
    assert "exits" not in data
    assert Card.from_json(json.loads(json.dumps(data))).exits == ()


def test_a_first_run_gives_every_picture_of_every_size_at_every_exit(artifact):
    rng = np.random.default_rng(2)
    batches = [rng.integers(0, 256, (count, *size, 3), np.uint8) for count, size in ((2, (32, 48)), (3, (48, 32)))]
    chain, (whole, _) = first_chain_run(artifact.chain("fp32"), batches), first_run(artifact.file("fp32"), batches)
    for batch, made in zip(batches, chain, strict=True):
        for logits, cells in zip(made, (16, 8, 4), strict=True):
            np.testing.assert_allclose(logits, [expected(artifact, image, cells) for image in batch], atol=1e-3)
    np.testing.assert_array_equal(whole, chain[0][-1])


def test_the_files_of_the_chain_are_checked(tmp_path):
    artifact = make_exits(tmp_path)
    assert {path.name for path in artifact.paths} == {"exits.json", "exits.onnx"} | {
        f"exits.exit{number}.onnx" for number in (1, 2, 3)
    }
    (tmp_path / "exits.exit2.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"exits\.exit2\.onnx has 1 bytes"):
        artifact.chain("fp32")
    with pytest.raises(UsageError, match="no int8 file for its exit coarse; it has: fp32"):
        artifact.chain("int8")


def test_a_run_goes_from_exit_to_exit(engine, artifact, image):
    run = engine.start(image)
    for name, cells in zip(NAMES, (16, 8, 4), strict=True):
        assert run.more
        np.testing.assert_allclose(run.logits(), expected(artifact, image, cells), rtol=1e-4, atol=1e-2)
        assert run.exit == name
    assert not run.more
    with pytest.raises(EngineError, match="last was the last exit"):
        run.logits()


def test_the_end_of_the_chain_is_the_whole_network(engine, artifact, image):
    with load_engine(engine.info.engine, artifact, EngineOptions(SIZE)) as whole:
        logits, labels = whole.infer(image).copy(), whole.labels(image, (100, 150))
    np.testing.assert_allclose(engine.infer(image), logits, atol=1e-4 * np.abs(logits).max())
    np.testing.assert_array_equal(engine.labels(image, (100, 150)), labels)
    engine.submit(image, (100, 150))
    np.testing.assert_array_equal(engine.collect().labels, labels)


def test_a_run_that_is_dropped_leaves_the_engine_free(engine, artifact, image):
    picture = image[::-1].copy()
    gone = weakref.ref(picture)
    run = engine.start(picture)
    run.logits()
    del picture, run
    gc.collect()
    assert gone() is None
    assert engine.start(image).logits().shape == (11, 4, 6)
    np.testing.assert_allclose(engine.infer(image), expected(artifact, image, 4), rtol=1e-4, atol=1e-2)


def test_a_run_ends_with_the_next_picture(engine, image):
    run = engine.start(image)
    run.logits()
    engine.infer(image)
    with pytest.raises(EngineError, match="given another picture"):
        run.logits()
    run = engine.start(image)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        run.logits()
    with pytest.raises(EngineError, match="closed"):
        engine.start(image)


def test_what_is_handed_on_is_not_copied(artifact, image):
    """Each tensor is in one place, which one graph writes and later ones read."""
    with load_engine("onnxruntime", artifact, EngineOptions(SIZE, exits=True)) as engine:
        engine.start(image).logits()
        planes = next(output for output in engine._steps[0].binding.get_outputs() if output.shape()[1] == 3)
        planes.update_inplace(np.zeros((1, 3, *SIZE), np.float32))  # wipes the first graph's output
        assert np.ptp(engine._step(1).reshape(11, -1), axis=1).max() == 0  # the second graph reads that same memory


def test_an_engine_that_was_loaded_whole_does_not_stop(artifact, image):
    with (
        load_engine("onnxruntime", artifact, EngineOptions(SIZE)) as engine,
        pytest.raises(UsageError, match="load it with exits=True"),
    ):
        engine.start(image)


def test_several_in_flight_start_one_at_a_time(artifact, image):
    with load_engine("onnxruntime", artifact, EngineOptions(SIZE, threads=2, in_flight=2, exits=True)) as pool:
        assert pool.start(image).logits().shape == (11, 4, 6)
        pool.submit(image, SIZE)
        with pytest.raises(EngineError, match="in flight"):
            pool.start(image)
        pool.collect()


@pytest.mark.parametrize("load", [load_named, load_engine])
def test_engines_that_cannot_stop_say_so(artifact, load):
    """Whether they are installed or not: suggesting an installation would not help."""
    with pytest.raises(UsageError, match=r"tensorrt cannot stop at an exit.*onnxruntime or openvino"):
        load("tensorrt", artifact, EngineOptions(SIZE, exits=True))


def test_auto_takes_an_engine_that_can_stop(artifact, monkeypatch):
    monkeypatch.setattr("rtseg.engines.auto.available", lambda name: True)
    several = replace(artifact, card=replace(artifact.card, engine_order=("torch", "tensorrt", "onnxruntime")))
    assert candidates("auto", several, exits=True) == ["onnxruntime"]
    assert int8_problem(artifact.card, exits=True) == "its exits have no INT8 files"


def test_entropy_by_hand():
    """Of (1/2, 1/4, 1/4): (ln 2 / 2 + ln 4 / 2) / ln 3. Of equal scores 1, of one that leads by 100, 0."""
    logits = np.zeros((3, 1, 3), np.float32)
    logits[:, 0, 0] = np.log([0.5, 0.25, 0.25]) + 7
    logits[0, 0, 2] = 100
    np.testing.assert_allclose(entropy(logits)[0], [1.5 * log(2) / log(3), 1, 0], atol=1e-6)
    assert mean_entropy(logits) == pytest.approx((1.5 * log(2) / log(3) + 1) / 3, abs=1e-6)
    assert mean_entropy(np.ones((1, 2, 2), np.float32)) == 0


def test_the_entropy_of_a_large_picture_is_that_of_a_grid_of_cells():
    logits = np.zeros((2, 256, 256), np.float32)
    logits[0, ::2, ::2] = 100  # every second cell of every second row is sure, and these are looked at
    assert logits[0].size == 4 * MOST_CELLS
    assert mean_entropy(logits) == pytest.approx(0)
    assert mean_entropy(logits[:, :128, :128]) == pytest.approx(0.75)


TWO = LabelSet("two", ("a", "b"), ((0, 0, 0), (255, 255, 255)))


def scores(rows):
    """For frames of four pixels, two of each class, with exits of cost 1 and 3; the last is always right.

    Args:
        rows: entropy of the first exit, and how many pixels of class 0 it labels as class 1.
    """
    found = ExitScores(TWO, ("early", "last"), (1.0, 3.0))
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    for unsure, wrong in rows:
        early = truth.copy()
        early[0, :wrong] = 1
        found.update([early, truth], (unsure, 0.0), truth)
    return found


def test_thresholds_by_hand():
    """Four frames of 2 + 2 pixels; the early exit is right on those of entropy 0.1 and 0.2, and takes one pixel of
    class 0 for class 1 on those of 0.3 and 0.4. With w such pixels IoU is (8 - w) / 8 and 8 / (8 + w)."""
    found = scores([(0.3, 1), (0.1, 0), (0.4, 1), (0.2, 0)])
    assert found.at(0).miou == pytest.approx((6 / 8 + 8 / 10) / 2)
    assert found.at(1).miou == 1
    assert found.calibrate(0.0) == [pytest.approx(0.25)]
    one_wrong = (7 / 8 + 8 / 9) / 2
    assert found.calibrate(1 - one_wrong - 1e-9) == [pytest.approx(0.25)]
    assert found.calibrate(1 - one_wrong + 1e-9) == [pytest.approx(0.35)]
    (all_leave,) = found.calibrate(0.5)
    assert 0.4 < all_leave < 0.41
    matrix, shares, cost = found.leaving([0.35])
    assert (matrix.miou, shares, cost) == (pytest.approx(one_wrong), [0.75, 0.25], pytest.approx(1.5))
    figures = found.to_json([0.35])
    assert figures["auto"]["stopped"] == {"early": 0.75, "last": 0.25}
    assert [each["gmac"] for each in figures["exits"]] == [1.0, 3.0]
    assert "auto" not in found.to_json([None])


def test_an_exit_that_loses_too_much_is_never_taken():
    found = scores([(0.1, 2), (0.2, 1)])
    assert found.calibrate(0.0) == [NEVER]
    assert found.leaving([NEVER])[1] == [0.0, 1.0]


@pytest.mark.parametrize("name", NAMES)
def test_a_labeller_stops_where_it_is_told(artifact, image, name):
    with open_labeller(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1, name)) as labeller:
        labeller.submit(Frame(image, 0, 0.0, 0.0))
        made = labeller.collect()
    assert isinstance(labeller, EarlyExit)
    assert made.exit == name
    logits = expected(artifact, image, dict(zip(NAMES, (16, 8, 4), strict=True))[name]).astype(np.float32)
    assert (made.labels == upsample_labels(logits, SIZE)).mean() > 0.999
    assert set(made.stages_s) == {"resize", "engine", "upsample"}


def test_a_labeller_stops_as_soon_as_it_is_sure(tmp_path, image):
    """Entropies of the three exits of the same picture decide; thresholds just above and below them."""
    with Segmenter(RunSpec(make_exits(tmp_path), "onnxruntime", "fp32", SIZE, 1, "last")) as segmenter:
        first, second, _ = (each.entropy for each in every_exit(segmenter, image))
    for thresholds, stop in (
        ((first + 1e-3, None, None), "coarse"),
        ((first - 1e-3, second + 1e-3, None), "middle"),
        ((first - 1e-3, second - 1e-3, None), "last"),
        ((NEVER, NEVER, None), "last"),
    ):
        spec = RunSpec(make_exits(tmp_path, thresholds), "onnxruntime", "fp32", SIZE, 1, "auto")
        with open_labeller(spec) as labeller:
            labeller.submit(Frame(image, 0, 0.0, 0.0))
            assert labeller.collect().exit == stop


def test_a_spec_without_an_exit_runs_to_the_end(artifact):
    with open_labeller(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1)) as labeller:
        assert isinstance(labeller, Segmenter)


@pytest.mark.parametrize(
    ("card", "exit", "told"),
    [
        (fake_card(), "auto", "fake has no early exits: train it with --set exits=2"),
        (card_with_exits(), "auto", "not calibrated: run rtseg eval --calibrate-exits"),
        (card_with_exits(threshold=0.1), "earl", "unknown exit of fake 'earl': did you mean early.*auto, early, last"),
    ],
)
def test_an_exit_that_is_not_there_is_told(card, exit, told):
    with pytest.raises(UsageError, match=told):
        card.check_exit(exit)


def test_the_loop_reports_where_frames_stopped(artifact):
    labeller = open_labeller(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1, "middle"))
    with labeller:
        loop = Loop(FakeSource(3), labeller)
        report = loop.run()
    assert loop.stats.hud(0)[-1] == "exit middle"
    assert report.to_json()["exits"] == {"middle": 3}
    assert "stopped at middle 3" in report.summary()


def test_a_frame_that_the_network_did_not_see_stopped_at_no_exit(artifact):
    image = np.full((*SIZE, 3), 100, np.uint8)
    with Still(open_labeller(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1, "middle"))) as labeller:
        made = []
        for index in range(3):
            labeller.submit(Frame(image, index, 0.0, 0.0))
            made.append(labeller.collect())
    assert [one.exit for one in made] == ["middle", "", ""]
    np.testing.assert_array_equal(made[2].labels, made[0].labels)
