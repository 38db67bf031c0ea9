"""Label upsampling against a float64 reference, its edge cases, its errors, and its use from several threads."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import cv2
import numpy as np
import pytest
from reference import interpolate

from rtseg.core.errors import UsageError
from rtseg.core.zoo import resolve, shipped
from rtseg.pictures import upsample
from rtseg.pictures._jit import compiled
from rtseg.pictures.upsample import border_share, upsample_labels

SIZES = [
    ((16, 32), (64, 128)),  # whole ratio
    ((13, 21), (77, 150)),  # odd, other ratios per axis
    ((33, 47), (34, 49)),  # barely larger
    ((20, 30), (20, 30)),  # same size
    ((37, 53), (11, 200)),  # down and up
    ((64, 99), (9, 13)),  # down by more than two
    ((64, 64), (32, 32)),  # down by two: every sample midway
    ((1, 1), (5, 7)),
    ((1, 9), (31, 80)),
    ((9, 1), (80, 3)),
    ((50, 40), (1, 1)),
    ((45, 60), (360, 481)),  # large enough to be split among threads
]


def random_logits(classes: int, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 5, (classes, *size_hw)).astype(np.float32)


def smooth_logits(classes: int, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    coarse = random_logits(classes, (4, 5), seed)
    return np.stack([cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def assert_exact(labels: np.ndarray, logits: np.ndarray, size_hw: tuple[int, int]) -> None:
    """Every label's class has the best score, or one less than 1e-5 of the largest logit below it."""
    assert labels.shape == size_hw
    assert labels.dtype == np.uint8
    values = interpolate(logits, size_hw)
    chosen = np.take_along_axis(values, labels[None].astype(int), 0)[0]
    assert (values.max(0) - chosen).max() <= 1e-5 * np.abs(logits).max()
    assert (labels != values.argmax(0)).mean() < 1e-3


@pytest.mark.parametrize("make", [random_logits, smooth_logits])
@pytest.mark.parametrize("classes", [2, 11, 19])
@pytest.mark.parametrize(("coarse_hw", "size_hw"), SIZES)
def test_equals_interpolation_and_argmax(make, classes, coarse_hw, size_hw):
    logits = make(classes, coarse_hw)
    labels = upsample_labels(logits, size_hw)
    assert_exact(labels, logits, size_hw)
    for threads in (1, 5):
        np.testing.assert_array_equal(upsample_labels(logits, size_hw, threads=threads), labels)


@pytest.mark.slow
@pytest.mark.parametrize(("coarse_hw", "size_hw"), SIZES)
def test_reference_is_torchs_interpolation(coarse_hw, size_hw):
    import torch

    logits = random_logits(3, coarse_hw)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None].double(), size_hw, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(interpolate(logits, size_hw), theirs[0].numpy(), atol=1e-9)


@pytest.fixture(scope="module")
def street():
    from rtseg.scenes import StreetScene

    return StreetScene((128, 256), seed=3).render(0)[0]


@pytest.mark.parametrize("name", sorted(shipped()))
def test_exact_on_shipped_networks(name, street):
    from rtseg.engines import EngineOptions, load_engine

    with load_engine("onnxruntime", resolve(name), EngineOptions((128, 256))) as engine:
        logits = engine.infer(street).copy()
    for size_hw in [(180, 240), (257, 515), (50, 75)]:
        assert_exact(upsample_labels(logits, size_hw), logits, size_hw)


def test_same_size_is_argmax():
    logits = random_logits(7, (31, 45))
    np.testing.assert_array_equal(upsample_labels(logits, (31, 45)), logits.argmax(0))


def test_ties_go_to_the_lowest_class():
    plane = random_logits(1, (9, 14))[0]
    below = plane - 1
    assert (upsample_labels(np.stack([below, plane, plane, plane]), (50, 61)) == 1).all()
    assert (upsample_labels(np.stack([plane, plane]), (50, 61)) == 0).all()
    logits = random_logits(4, (9, 14))
    twice = np.concatenate([logits, logits])
    np.testing.assert_array_equal(upsample_labels(twice, (50, 61)), upsample_labels(logits, (50, 61)))


def test_tie_in_the_middle_of_a_cell():
    logits = np.array([[[0, 2]], [[2, 0]]], np.float32)  # the classes meet midway, at the third of five pixels
    assert upsample_labels(logits, (1, 5))[0].tolist() == [1, 1, 0, 0, 0]


def test_a_class_that_is_best_at_no_corner_may_win_between():
    logits = np.array([[[3, -3]], [[-3, 3]], [[1, 1]]], np.float32)
    assert 2 in upsample_labels(logits, (8, 16))


def test_one_class_and_the_most_classes():
    assert not upsample_labels(random_logits(1, (4, 5)), (9, 9)).any()
    logits = random_logits(256, (6, 8))
    logits[255, 2, 3] = 99
    labels = upsample_labels(logits, (60, 80))
    assert labels[25, 35] == 255
    assert_exact(labels, logits, (60, 80))


def test_any_memory_layout_is_taken():
    logits = random_logits(5, (12, 16))
    expected = upsample_labels(logits, (40, 50))
    channels_last = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    read_only = logits.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + logits.tobytes(), np.float32, offset=1).reshape(logits.shape)
    for other in (channels_last, read_only, unaligned, np.repeat(logits, 2, 2)[:, :, ::2]):
        np.testing.assert_array_equal(upsample_labels(other, (40, 50)), expected)


def test_out_is_filled_and_returned():
    logits = random_logits(5, (12, 16))
    out = np.full((130, 150), 77, np.uint8)
    assert upsample_labels(logits, (130, 150), out) is out
    np.testing.assert_array_equal(out, upsample_labels(logits, (130, 150)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_logits_still_give_some_class(value):
    logits = random_logits(3, (8, 8))
    logits[1, 2:6, 2:6] = value
    assert upsample_labels(logits, (100, 101)).max() < 3
    assert upsample_labels(np.full((3, 8, 8), value, np.float32), (100, 101)).max() < 3


@pytest.mark.parametrize(
    ("logits", "says"),
    [
        (np.zeros((3, 4, 4)), "float32.*float64"),
        (np.zeros((4, 4), np.float32), r"\(4, 4\)"),
        (np.zeros((1, 3, 4, 4), np.float32), r"\(1, 3, 4, 4\)"),
        (np.zeros((0, 4, 4), np.float32), r"\(0, 4, 4\)"),
        (np.zeros((3, 0, 4), np.float32), r"\(3, 0, 4\)"),
        (np.zeros((257, 4, 4), np.float32), "256"),
    ],
)
def test_wrong_logits(logits, says):
    with pytest.raises(UsageError, match=says):
        upsample_labels(logits, (8, 8))
    with pytest.raises(UsageError, match=says):
        border_share(logits, (8, 8))


@pytest.mark.parametrize("size_hw", [(0, 8), (8, -1)])
def test_wrong_size(size_hw):
    with pytest.raises(UsageError, match="1 or more"):
        upsample_labels(random_logits(3, (4, 4)), size_hw)


def test_wrong_threads():
    with pytest.raises(UsageError, match="0 threads"):
        upsample_labels(random_logits(3, (4, 4)), (8, 8), threads=0)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (np.zeros((8, 9), np.uint8), r"\(8, 8\).*\(8, 9\)"),
        (np.zeros((8, 8), np.int32), "int32"),
        (np.zeros((8, 16), np.uint8)[:, ::2], "not contiguous"),
        (np.frombuffer(bytes(64), np.uint8).reshape(8, 8), "read-only"),
    ],
)
def test_wrong_out(out, says):
    with pytest.raises(UsageError, match=says):
        upsample_labels(random_logits(3, (4, 4)), (8, 8), out)


def test_two_threads_at_once():
    """Two pipelines in one process, each with its own data and helpers, always get their own labels."""
    jobs = [(random_logits(11, (24, 40), seed), (192 + seed, 320)) for seed in range(2)]
    expected = [upsample_labels(logits, size_hw, threads=1) for logits, size_hw in jobs]

    def repeat(job: int) -> int:
        out = np.empty_like(expected[job])
        return sum(not np.array_equal(upsample_labels(*jobs[job], out, threads=3), expected[job]) for _ in range(60))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(repeat, range(2))) == [0, 0]


def test_helpers_that_are_all_busy_hold_up_nothing(monkeypatch):
    logits = random_logits(11, (24, 40))
    expected = upsample_labels(logits, (200, 300), threads=1)
    release = Event()
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(upsample, "_POOL", pool)
        blocker = pool.submit(release.wait, 30)
        try:
            np.testing.assert_array_equal(upsample_labels(logits, (200, 300), threads=4), expected)
            assert not blocker.done()
        finally:
            release.set()


def test_border_share():
    logits = np.zeros((2, 4, 4), np.float32)
    assert border_share(logits, (64, 64)) == 0
    logits[1, :, 2:] = 1  # a vertical edge: one of four columns of cells (the last column is the clamped edge)
    assert border_share(logits, (64, 64)) == 0.25
    logits[1] = np.indices((4, 4)).sum(0) % 2
    assert border_share(logits, (64, 64)) == 15 / 16  # only the clamped corner has one class


def test_import_leaves_numba_alone():
    code = "import sys, rtseg.pictures.upsample; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kernels_compile_where_no_cache_can_be_written(caplog):
    names: dict = {}
    exec("def double(x): return 2 * x", names)  # from no file, so numba has nowhere to cache it
    with caplog.at_level(logging.WARNING):
        assert compiled("int64(int64)")(names["double"])(21) == 42
    assert "NUMBA_CACHE_DIR" in caplog.text
