"""Overlay: exact colours, class filter, legend and HUD if they fit, split view."""

import numpy as np
import pytest

import rtseg
from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.labels import CAMVID11, LabelSet
from rtseg.pictures.lettering import legend_names, unwritten
from rtseg.pictures.overlay import Overlay, legend, overlay

CAR, ROAD, IGNORED = CAMVID11.index("car"), CAMVID11.index("road"), CAMVID11.ignore_index


def scene(size_hw: tuple[int, int] = (40, 60)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    labels = rng.integers(0, len(CAMVID11) + 1, size_hw, dtype=np.uint8)  # includes ignored pixels
    return image, labels


def bare(**settings: object) -> Overlay:
    return Overlay(CAMVID11, legend=False, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("opacity", [0.0, 77 / 256, 0.5, 1.0])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (33, 47), (40, 60), (3, 32), (2, 100)])
@pytest.mark.parametrize("even", [False, True])  # large areas of one label are drawn differently
def test_blend_equals_the_formula(opacity: float, size_hw: tuple[int, int], even: bool) -> None:
    image, labels = scene(size_hw)
    if even:
        labels[:] = labels[:, :1]
    original = image.copy()
    picture = bare(opacity=opacity).render(image, labels)
    colour = CAMVID11.palette_bgr[labels].astype(np.float64)
    expected = np.where((labels < len(CAMVID11))[..., None], image * (1 - opacity) + colour * opacity, image)
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() <= 0.5 + 1e-4  # rounded, not truncated
    assert np.array_equal(image, original)


def test_class_filter_leaves_the_rest_as_it_is() -> None:
    image, labels = scene()
    picture = bare(opacity=1.0, show=["car", "road"]).render(image, labels)
    shown = (labels == CAR) | (labels == ROAD)
    assert np.array_equal(picture[~shown], image[~shown])
    assert np.array_equal(picture[shown], CAMVID11.palette_bgr[labels[shown]])
    assert np.array_equal(bare(show=[]).render(image, labels), image)


def test_unknown_class_names_the_close_ones() -> None:
    with pytest.raises(UsageError, match="did you mean car"):
        Overlay(CAMVID11, show=["cars"])


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_impossible_opacity_is_refused_at_any_time(opacity: float) -> None:
    with pytest.raises(UsageError, match="opacity"):
        Overlay(CAMVID11, opacity)
    drawing = Overlay(CAMVID11)
    with pytest.raises(UsageError, match="opacity"):
        drawing.opacity = opacity
    assert drawing.opacity == 0.5


def test_opacity_may_change_between_frames() -> None:
    image, labels = scene()
    drawing = bare(opacity=1.0)
    drawing.render(image, labels)
    drawing.opacity = 0.0
    assert np.array_equal(drawing.render(image, labels), image)


def test_out_is_used_and_may_be_the_image_itself() -> None:
    image, labels = scene()
    for split in (False, True):
        drawing = bare(split=split)
        expected = drawing.render(image, labels)
        out = np.empty_like(image)
        assert drawing.render(image, labels, out=out) is out
        assert np.array_equal(out, expected)
        own = image.copy()
        assert np.array_equal(drawing.render(own, labels, out=own), expected)


def test_read_only_and_sliced_arrays_are_taken() -> None:
    image, labels = scene()
    expected = bare().render(image[:, ::2].copy(), labels[:, ::2].copy())
    assert np.array_equal(bare().render(image[:, ::2], labels[:, ::2]), expected)
    image.flags.writeable = labels.flags.writeable = False
    bare().render(image, labels)


def test_split_view_shows_the_picture_left_and_bare_colours_right() -> None:
    image, labels = scene((40, 60))
    labels[labels == IGNORED] = CAR
    picture = bare(split=True, opacity=0.2).render(image, labels)
    assert picture.shape == image.shape
    assert np.array_equal(picture[:, :29], image[:, :29])
    assert np.array_equal(picture[:, 32:], CAMVID11.palette_bgr[labels][:, 32:])
    one = np.zeros((1, 1, 3), np.uint8)
    assert bare(split=True).render(one, np.zeros((1, 1), np.uint8)).shape == (1, 1, 3)


def test_legend_shows_every_shown_class_in_the_upper_right_corner() -> None:
    image = np.zeros((512, 1024, 3), np.uint8)
    labels = np.full((512, 1024), IGNORED, np.uint8)
    picture = Overlay(CAMVID11).render(image, labels)
    assert picture[:, :700].max() == 0
    swatches = {tuple(pixel) for pixel in np.rint(picture[:, 700:].reshape(-1, 3) / 0.75).astype(int)}
    for colour in CAMVID11.palette_bgr[: len(CAMVID11)]:
        assert any(np.abs(np.array(swatch) - colour).max() <= 1 for swatch in swatches)
    only = Overlay(CAMVID11, show=["car"]).render(image, labels)
    assert 0 < (only > 0).any(2).sum() < (picture > 0).any(2).sum() / 4


def test_a_legend_calls_by_its_number_what_it_has_no_letters_for() -> None:
    """It showed ??? for each class of a Chinese data set."""
    names = ("道路", "Straße", "Gehölz", "road №1", "car")
    labels = LabelSet("mixed", names, tuple((index, 0, 0) for index in range(5)))
    assert legend_names(labels) == ("class 0", "Strasse", "Geholz", "road No1", "car")
    assert unwritten(labels) == "legends in pictures have Latin letters only: class 0 is 道路"
    assert unwritten(CAMVID11) is None
    plain = LabelSet("plain", ("class 0", *names[1:]), labels.palette_rgb)
    assert np.array_equal(legend(labels), legend(plain))


@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30), (64, 64), (512, 90)])
def test_legend_and_text_stay_away_where_they_do_not_fit(size_hw: tuple[int, int]) -> None:
    image, labels = scene(size_hw)
    assert np.array_equal(Overlay(CAMVID11).render(image, labels), bare().render(image, labels))
    assert Overlay(CAMVID11).render(image, labels, hud=["a long line of text " * 5] * 20).shape == image.shape


def test_hud_is_readable_on_white_and_on_black() -> None:
    labels = np.full((256, 512), IGNORED, np.uint8)
    for ground in (0, 255):
        image = np.full((256, 512, 3), ground, np.uint8)
        picture = bare().render(image, labels, hud=["27.3 fps", "p50 31.2 ms"])
        corner = picture[:40, :100].astype(int)
        assert corner.max() > 240
        assert corner.min() < 130
        assert np.array_equal(picture[100:], image[100:])


@pytest.mark.parametrize(
    ("image", "labels", "out", "expected"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 6), np.uint8), None, "image is uint8"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), None, "image is uint8"),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8), None, "image is float32"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64), None, "labels are int64"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((0, 5), np.uint8), None, "labels are uint8"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 4, 3), np.uint8), "out is"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((4, 10, 3), np.uint8)[:, ::2], "out must"),
    ],
)
def test_what_does_not_fit_is_one_line(
    image: np.ndarray, labels: np.ndarray, out: np.ndarray | None, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        Overlay(CAMVID11, split=True).render(image, labels, out=out)
    assert "\n" not in str(caught.value)


def test_public_overlay_takes_a_frame_or_a_picture() -> None:
    image, labels = scene()
    expected = bare(opacity=0.4).render(image, labels)
    assert np.array_equal(overlay(image, labels, CAMVID11, 0.4), expected)
    assert np.array_equal(rtseg.overlay(Frame(image, 0, 0.0, 0.0), labels, CAMVID11, opacity=0.4), expected)


def test_names_are_no_label_set():
    with pytest.raises(UsageError, match=r"overlay needs a label set, such as segmenter.labels, not tuple"):
        overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8), ("road", "sky"))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_what_is_not_sure_is_grey(kind: type) -> None:
    image, labels = scene()
    levels = np.random.default_rng(1).integers(0, 256, labels.shape, np.uint8)
    sure = levels if kind is np.uint8 else levels.astype(np.float32) / 255
    plain = overlay(image, labels, CAMVID11, opacity=0.5)
    picture = overlay(image, labels, CAMVID11, opacity=0.5, confidence=sure, unsure=0.6)
    low = levels < 153
    assert np.array_equal(picture[~low], plain[~low])
    assert np.abs(picture[low] - (image[low] * 0.5 + 64)).max() <= 0.5
    assert np.array_equal(overlay(image, labels, CAMVID11, confidence=sure, unsure=0), overlay(image, labels, CAMVID11))
    assert np.array_equal(bare().render(image, labels, confidence=sure), bare().render(image, labels))  # not requested


def test_the_legend_says_what_grey_means() -> None:
    image, labels = np.zeros((512, 1024, 3), np.uint8), np.full((512, 1024), CAR, np.uint8)
    sure = np.full((512, 1024), 255, np.uint8)
    plain = overlay(image, labels, CAMVID11, opacity=0, legend=True)
    greyed = overlay(image, labels, CAMVID11, opacity=0, legend=True, confidence=sure)
    below = (greyed > 0).any(2) & ~(plain > 0).any(2)
    assert below.any()
    assert np.flatnonzero(below.any(1)).min() >= np.flatnonzero((plain > 0).any((1, 2))).max() - 2


def test_a_confidence_that_does_not_fit_is_one_line() -> None:
    image, labels = scene()
    for sure in (np.ones((3, 4), np.float32), np.ones(labels.shape, np.float64)):
        with pytest.raises(UsageError, match=r"confidence is float.* \(.*\): want uint8 \(0 to 255\) or float32"):
            overlay(image, labels, CAMVID11, confidence=sure)
    with pytest.raises(UsageError, match=r"confidence is <U1 \(\): want uint8"):
        overlay(image, labels, CAMVID11, confidence="x")
    for unsure in (2, "x"):
        with pytest.raises(UsageError, match=f"a confidence of {unsure!r} is not allowed: give 0"):
            overlay(image, labels, CAMVID11, confidence=np.ones(labels.shape, np.float32), unsure=unsure)
