"""Regions without torch: tiles, parts of a picture, the labeller that refines uncertain tiles, and its scores."""

import json
from dataclasses import replace

import numpy as np
import pytest
from exit_files import card_with_exits, make_exits

from rtseg.batch.plan import Choice as BatchChoice
from rtseg.batch.task import Look
from rtseg.core.card import Card
from rtseg.core.errors import EngineError, UsageError
from rtseg.core.exits import Regions
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.runspec import RunSpec
from rtseg.engines import EngineOptions, load_engine
from rtseg.engines.run import Run
from rtseg.live.labellers.early import every_exit, open_labeller
from rtseg.live.labellers.refining import Refining
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.metrics.regions import Choice, RegionScores, Start, cheapest, tile_sizes
from rtseg.pictures.tiles import Tiling

SIZE = (64, 96)
ENGINES = [pytest.param("onnxruntime"), pytest.param("openvino", marks=pytest.mark.openvino)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_exits(tmp_path_factory.mktemp("exits"), regions=Regions(0.5, (32, 96)))


@pytest.fixture(scope="module")
def image():
    """Uniformly grey, with noise in the middle: exits agree at the edges but not there."""
    picture = np.full((*SIZE, 3), 100, np.uint8)
    picture[20:44, 36:60] = np.random.default_rng(1).integers(0, 256, (24, 24, 3))
    return picture


# Tiles


def test_tiles_and_their_parts_by_hand():
    """80x96 in tiles of 32x48: the last row of tiles is 16 high, and parts end at the picture's edges."""
    tiling = Tiling((80, 96), (32, 48), 16)
    assert tiling.tiles[:3] == [(0, 0, 32, 48), (0, 48, 32, 96), (32, 0, 64, 48)]
    assert tiling.tiles[-1] == (64, 48, 80, 96)
    assert tiling.part_hw == (64, 80)
    assert [tiling.corner(tile) for tile in tiling.tiles] == [(0, 0), (0, 16), (16, 0), (16, 16), (16, 0), (16, 16)]
    assert tiling.work(0) == 0
    assert tiling.work(1) == pytest.approx(64 * 80 / (80 * 96))
    assert tiling.work(2) == 1  # more than the picture
    assert Tiling((64, 64), (64, 64), 32).part_hw == (64, 64)


def test_the_least_sure_cell_decides_about_a_tile():
    sure = np.ones((5, 6))  # cells of 16 pixels
    sure[1, 2], sure[4, 5] = 0.5, 0.25
    np.testing.assert_array_equal(Tiling((80, 96), (32, 48), 16).least(sure), [0.5, 1, 1, 1, 1, 0.25])


def test_parts_join_to_the_picture_around_their_tiles():
    tiling = Tiling((80, 96), (32, 48), 16)
    whole = np.random.default_rng(2).random((2, 20, 24)).astype(np.float32)  # cells of 4 pixels
    tiles = [tiling.tiles[1], tiling.tiles[4]]
    corners = [tiling.corner(tile) for tile in tiles]
    parts = np.stack([whole[:, top // 4 : top // 4 + 16, left // 4 : left // 4 + 20] for top, left in corners])
    joined = tiling.join(parts, tiles)
    known = np.zeros((20, 24), bool)
    known[0:9, 11:24] = known[15:20, 0:13] = True  # one cell more than rows 0-8, columns 12-24, and 16-20, 0-12
    np.testing.assert_array_equal(joined, whole * known)


@pytest.mark.parametrize("frame_hw", [(80, 96), (123, 77), (40, 48), (7, 5)])
def test_each_pixel_of_a_frame_is_in_one_tile(frame_hw):
    tiling = Tiling((80, 96), (32, 48), 16)
    found = np.full(frame_hw, -1)
    for number, tile in enumerate(tiling.tiles):
        place = tiling.pixels(tile, frame_hw).slices
        assert (found[place] == -1).all()
        found[place] = number
    rows, columns = ((np.arange(pixels) + 0.5) * side / pixels for pixels, side in zip(frame_hw, (80, 96), strict=True))
    np.testing.assert_array_equal(found, rows[:, None] // 32 * 2 + columns // 48)


# Engines


@pytest.fixture(params=ENGINES)
def engine(request, artifact):
    with load_engine(request.param, artifact, EngineOptions(SIZE, exits=True)) as loaded:
        yield loaded


def test_parts_give_what_the_whole_picture_gives_there(engine, image):
    """The network sees means of 4x4 pixels, so parts need no halo; two sizes, and two numbers of parts."""
    whole = engine.infer(image).copy()
    run = engine.start(image)
    run.logits()
    for corners, (height, width) in (
        ([(0, 0), (16, 32), (32, 64)], (32, 32)),
        ([(32, 32)], (32, 32)),
        ([(48, 0), (16, 0)], (16, 96)),
    ):
        parts = run.parts(corners, (height, width))
        assert parts.shape == (len(corners), 11, height // 4, width // 4)
        for part, (top, left) in zip(parts, corners, strict=True):
            expected = whole[:, top // 4 : (top + height) // 4, left // 4 : (left + width) // 4]
            np.testing.assert_allclose(part, expected, atol=1e-4 * np.abs(whole).max())
    assert (run.exit, run.more) == ("coarse", True)
    run.logits()
    np.testing.assert_allclose(run.logits(), whole, atol=1e-4 * np.abs(whole).max())


def test_the_graphs_behind_an_exit_see_the_parts_alone(engine, image):
    """Their inputs: two parts of 32x32 pixels of three planes, once for each graph behind the exit, and no more."""
    run = engine.start(image)
    run.logits()
    run.parts([(0, 0)], (32, 32))  # loads the graphs
    seen = []
    for graph in engine._opened[1, (32, 32)]:
        graph.run = recording(graph.run, seen)
    engine._step = lambda number: pytest.fail("a graph ran on the whole picture")
    run.parts([(0, 0), (32, 64)], (32, 32))
    assert seen == [{"planes": (2, 3, 32, 32)}] * 2


def recording(run, seen):
    def recorded(given):
        seen.append({name: array.shape for name, array in given.items()})
        return run(given)

    return recorded


def test_parts_of_a_run_that_has_not_begun_or_is_over_are_told(engine, image):
    run = engine.start(image)
    with pytest.raises(EngineError, match="ask for the logits of one first"):
        run.parts([(0, 0)], (32, 32))
    run.logits()
    for corner, size in (((8, 0), (32, 32)), ((0, 0), (32, 40)), ((48, 0), (32, 32)), ((0, -16), (32, 32))):
        with pytest.raises(UsageError, match="must lie inside, on multiples of 16"):
            run.parts([(0, 0), corner], size)
    engine.infer(image)
    with pytest.raises(EngineError, match="given another picture"):
        run.parts([(0, 0)], (32, 32))
    run = engine.start(image)
    while run.more:
        run.logits()
    with pytest.raises(EngineError, match="last was the last exit"):
        run.parts([(0, 0)], (32, 32))


# The labeller


@pytest.fixture
def parts(monkeypatch):
    """The corners of the parts that were run, call by call, without those of loading."""
    seen, run_parts = [], Run.parts

    def counted(self, corners, size_hw):
        seen.append(list(corners))
        return run_parts(self, corners, size_hw)

    monkeypatch.setattr(Run, "parts", counted)
    return seen


def made(artifact, exit, image, seen):
    """A labeller's result for a picture, and the parts that it ran."""
    with open_labeller(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1, exit)) as labeller:
        assert isinstance(labeller, Refining)
        labeller.prepare(image.shape[:2])
        seen.clear()
        labeller.submit(Frame(image, 0, 0.0, 0.0))
        return labeller.collect(), list(seen)


def with_regions(artifact, level):
    return replace(artifact, card=artifact.card.with_exit("coarse", regions=Regions(level, (32, 32))))


def at_exits(artifact, image):
    with Segmenter(RunSpec(artifact, "onnxruntime", "fp32", SIZE, 1, "last")) as segmenter:
        return every_exit(segmenter, image)


def test_where_every_cell_is_sure_nothing_is_refined(artifact, image, parts):
    labelled, ran = made(artifact, "coarse:0", image, parts)
    assert (labelled.exit, ran) == ("coarse", [])
    np.testing.assert_array_equal(labelled.labels, at_exits(artifact, image)[0].labels)


def test_where_no_cell_is_sure_the_whole_picture_goes_on(artifact, image, parts):
    labelled, ran = made(artifact, "coarse:2", image, parts)
    assert (labelled.exit, ran) == ("last", [])
    np.testing.assert_array_equal(labelled.labels, at_exits(artifact, image)[-1].labels)


@pytest.mark.parametrize("frame_hw", [SIZE, (90, 150)])
def test_an_unsure_tile_gets_the_labels_of_the_end_and_all_others_keep_those_of_the_exit(
    artifact, image, parts, frame_hw
):
    """One tile of six is less certain than the level, which is between those of the two least certain ones."""
    frame = np.kron(image, np.ones((2, 2, 1), np.uint8))[: frame_hw[0], : frame_hw[1]]
    tiling = Tiling(SIZE, (32, 32), 16)
    seen = at_exits(artifact, frame)
    least = tiling.least(seen[0].sure)
    lowest, second, *_ = sorted(least.tolist())
    assert second - lowest > 1e-3
    labelled, ran = made(with_regions(artifact, (lowest + second) / 2), "regions", frame, parts)
    tile = tiling.tiles[int(least.argmin())]
    assert (labelled.exit, ran) == ("regions", [[tiling.corner(tile)]])
    rows, columns = ((np.arange(pixels) + 0.5) * side / pixels for pixels, side in zip(frame_hw, SIZE, strict=True))
    inside = ((rows >= tile.top) & (rows < tile.bottom))[:, None] & ((columns >= tile.left) & (columns < tile.right))
    expected = np.where(inside, seen[-1].labels, seen[0].labels)
    np.testing.assert_array_equal(labelled.labels, expected)
    assert (expected != seen[0].labels).any()
    assert set(labelled.stages_s) == {"resize", "engine", "upsample"}


def test_how_sure_a_cell_is_by_hand(artifact, image):
    """1 / Σ exp(z - max z) of the exit's own logits."""
    with load_engine("onnxruntime", artifact, EngineOptions(SIZE, exits=True)) as engine:
        logits = engine.start(image).logits().astype(np.float64)
    expected = 1 / np.exp(logits - logits.max(0)).sum(0)
    np.testing.assert_allclose(at_exits(artifact, image)[0].sure, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("card", "exit", "told"),
    [
        (card_with_exits(), "regions", "no regions calibrated that save work: run rtseg eval --calibrate-exits"),
        (card_with_exits(halo=32), "regions", "or try early:0.9"),
        (card_with_exits(), "early:0.9", "cannot be refined from early on: what follows sees the whole picture"),
        (card_with_exits(halo=32), "erly:0.9", "unknown early exit of fake 'erly': did you mean early"),
        (card_with_exits(halo=32), "last:0.9", "unknown early exit of fake 'last'.*allowed: early"),
        (card_with_exits(halo=32), "early:sure", "give a probability after the colon.*early:0.9"),
        (card_with_exits(halo=32), "early:-1", "give a probability after the colon"),
        (card_with_exits(halo=32), "early:nan", "give a probability after the colon"),
    ],
)
def test_regions_that_cannot_be_are_told(card, exit, told):
    with pytest.raises(UsageError, match=told):
        card.check_exit(exit)


def test_a_card_keeps_its_regions(tmp_path):
    card = card_with_exits(halo=32, regions=Regions(0.75, (64, 96)))
    card.save(tmp_path / "fake.json")
    loaded = Card.load(tmp_path / "fake.json")
    assert loaded == card
    early = card.exits[0]
    assert loaded.find_regions("regions") == (early, Regions(0.75, (64, 96)))
    assert loaded.find_regions("early:0.5") == (early, Regions(0.5, (64, 96)))
    assert loaded.find_regions("early") is None


def test_tiles_that_were_not_calibrated_are_four_halos_wide():
    assert card_with_exits(halo=32).find_regions("early:0.5")[1] == Regions(0.5, (128, 128))


def test_a_card_of_before_there_were_regions_is_read():
    data = json.loads(json.dumps(card_with_exits().to_json()))
    for exit in data["exits"]:
        del exit["halo"], exit["regions"]
    assert Card.from_json(data) == card_with_exits()


def test_unfinished_work_with_other_regions_is_other_work(artifact):
    spec = RunSpec("exits", "onnxruntime", "fp32", SIZE, 1, "regions")
    first = BatchChoice(artifact.card, spec, Look())
    other = BatchChoice(with_regions(artifact, 0.5).card, spec, Look())
    assert first.settings(spec)["thresholds"] == ["coarse", 0.5, 32, 96, 16]
    assert other.settings(spec)["thresholds"] == ["coarse", 0.5, 32, 32, 16]
    assert first.settings(replace(spec, exit="coarse"))["thresholds"] is None


# Scores

TWO = LabelSet("two", ("a", "b"), ((0, 0, 0), (255, 255, 255)))
START = Start(0, "early", 4, (1.0, 3.0))


def test_scores_of_regions_by_hand():
    """16x32 in two tiles of 16x16, whose parts are 16x24; truth: class 1 on the right. The exit takes 32 pixels of the
    left tile, and 64 of the right one, for the other class; the end is right. The left tile is sure with 0.8, the right
    one with 0.6. With w pixels of each class wrong IoU is (256 - w) / (256 + w') and so on."""
    truth = np.zeros((16, 32), np.uint8)
    truth[:, 16:] = 1
    early = truth.copy()
    early[:2, :16], early[:4, 16:] = 1, 0
    sure = np.full((2, 4), 0.9)
    sure[0, 0], sure[1, 3] = 0.8, 0.6
    scores = RegionScores(TWO, [START], (16, 32), 8, [(16, 16)], (0.5, 0.7, 0.85))
    scores.update([early, truth], [sure, np.ones((4, 8))], truth)
    none, one, both = scores.choices()
    assert none.miou == pytest.approx((224 / 320 + 192 / 288) / 2)
    assert (none.cost, none.refined) == (1.0, 0.0)
    assert one.miou == pytest.approx((224 / 256 + 256 / 288) / 2)
    assert (one.cost, one.refined) == (pytest.approx(1 + 2 * 24 / 32), 0.5)
    assert both.miou == 1
    assert (both.cost, both.refined) == (3.0, 1.0)  # two parts are more than the picture, which goes on as it is
    assert one.regions == Regions(0.7, (16, 16))
    assert cheapest(scores.choices(), 0.88) == one
    assert cheapest(scores.choices(), 0.5) == none
    assert cheapest(scores.choices(), 0.9) is None  # what costs as much as the whole network saves nothing


def test_scores_are_of_the_labels_that_the_labeller_gives(artifact, image):
    """On a frame of another size than the network's input; its truth is what the network's end says of its mirror
    image, and a band of it is ignored."""
    frame = np.kron(image, np.ones((2, 2, 1), np.uint8))[:90, :150]
    seen = at_exits(artifact, frame)
    truth = seen[-1].labels[:, ::-1].copy()
    truth[10:20] = artifact.card.labels.ignore_index
    least = np.sort(Tiling(SIZE, (32, 32), 16).least(seen[0].sure))
    level = float(least[0] + least[1]) / 2
    scores = RegionScores(artifact.card.labels, [Start(0, "coarse", 16, (1.0, 3.0))], SIZE, 16, [(32, 32)], [level])
    for _ in range(2):
        scores.update([each.labels for each in seen], [each.sure for each in seen], truth)
    (choice,) = scores.choices()
    with open_labeller(RunSpec(with_regions(artifact, level), "onnxruntime", "fp32", SIZE, 1, "regions")) as labeller:
        labels = labeller(frame)
    expected = ConfusionMatrix(artifact.card.labels)
    expected.update(labels, truth)
    assert choice.miou == pytest.approx(expected.miou)
    assert choice.cost == pytest.approx(1 + 2 * 64 * 64 / (64 * 96))


def test_tiles_that_are_tried():
    assert tile_sizes((128, 192), 32) == [(64, 64), (96, 96), (64, 192), (96, 192)]


def test_the_choice_of_least_cost_is_taken():
    choices = [Choice(START, Regions(level, (8, 8)), miou, cost, 0.5) for level, miou, cost in
               ((0.1, 0.5, 1.0), (0.2, 0.7, 2.5), (0.3, 0.71, 2.0), (0.4, 0.8, 3.0))]  # fmt: skip
    assert cheapest(choices, 0.7) == choices[2]
    assert cheapest(choices, 0.75) is None
