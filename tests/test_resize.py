"""The one resize function returns the same as OpenCV, whichever path it takes."""

import cv2
import numpy as np
import pytest

from rtseg.pictures.resize import resize_image


@pytest.mark.parametrize("size_hw", [(12, 20), (24, 40), (48, 80), (96, 160), (4, 4), (1, 1)])
def test_shrinks_by_area_and_grows_bilinearly(size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    way = cv2.INTER_AREA if size_hw[0] < 48 else cv2.INTER_LINEAR
    assert np.array_equal(resize_image(image, size_hw), cv2.resize(image, size_hw[::-1], interpolation=way))


@pytest.mark.parametrize("size_hw", [(16, 28), (25, 40), (18, 30), (47, 79), (24, 79), (7, 11), (3, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_factors_that_are_no_whole_numbers_are_opencvs_to_one_level(size_hw: tuple[int, int], seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (48, 80, 3), np.uint8)
    off = resize_image(image, size_hw).astype(int) - cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(off).max() <= 1
    assert abs(off.mean()) < 0.1
    for value in (0, 7, 255):
        assert (resize_image(np.full_like(image, value), size_hw) == value).all()


def test_an_axis_that_shrinks_is_averaged_whatever_the_other_does() -> None:
    rows = np.zeros((512, 64, 3), np.uint8)
    rows[::8] = 255
    for image, size_hw in ((rows, (64, 1024)), (rows.swapaxes(0, 1), (1024, 64))):
        assert np.unique(resize_image(image, size_hw)).tolist() == [32]
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    for size_hw in ((48, 30), (20, 80)):
        assert np.array_equal(
            resize_image(image, size_hw), cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
        )
    for size_hw in ((48, 100), (90, 80)):
        assert np.array_equal(resize_image(image, size_hw), cv2.resize(image, size_hw[::-1]))


def test_a_quarter_of_other_values_is_left_to_opencv() -> None:
    image = np.random.default_rng(0).random((16, 24, 3), np.float32)
    assert np.array_equal(resize_image(image, (4, 6)), cv2.resize(image, (6, 4), interpolation=cv2.INTER_AREA))


def test_a_quarter_rounds_every_sum_as_opencv_does() -> None:
    pixels = np.minimum(255, np.clip(np.arange(4081)[:, None] - 255 * np.arange(16), 0, None)).astype(np.uint8)
    assert np.array_equal(pixels.sum(axis=1, dtype=int), np.arange(4081))
    image = np.repeat(pixels.reshape(-1, 4, 4).swapaxes(0, 1).reshape(4, -1, 1), 3, axis=2)  # 4x4 blocks in a row
    size_hw = (1, 4081)
    expected = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    assert expected.max() == 255
    assert np.array_equal(resize_image(image, size_hw), expected)


def test_a_quarter_of_a_view_with_gaps_between_its_rows() -> None:
    view = np.random.default_rng(1).integers(0, 256, (16, 50, 3), np.uint8)[:, 1:49]
    assert not view.flags.c_contiguous
    assert np.array_equal(resize_image(view, (4, 12)), cv2.resize(view, (12, 4), interpolation=cv2.INTER_AREA))
