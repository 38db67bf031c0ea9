"""Measures, on exported graphs, how much of the picture around a region the rest of a network needs."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from rtseg.core.card import Card
from rtseg.core.errors import EngineError
from rtseg.core.zoo import Artifact
from rtseg.engines import Engine, EngineOptions, load_engine
from rtseg.pictures.resize import resize_image
from rtseg.pictures.tiles import Tile, Tiling

log = logging.getLogger(__name__)

TOLERANCE = 1e-2
"""How far the logits of a tile may be from those of the whole picture, relative to the largest logit."""
_SIDE, _MIDDLE, _TILE = 24, 12, 2  # the picture, and where the tile in it starts, in multiples of the network's size
_MOST = 6  # in the same unit: with a larger halo, no tile saves work


def with_halos(artifact: Artifact, images: Sequence[np.ndarray]) -> Card:
    """Returns the card of a network with exits, with the smallest sufficient halo behind each exit that has one.

    A halo suffices if a part of the picture, made of a tile and this halo, yields the same logits in the tile and one
    cell around it as the whole picture. If the rest of the network sees the whole picture, no halo suffices.

    Args:
        artifact: files that passed the parity gate.
        images: uint8 BGR pictures of any size.
    """
    card = artifact.card
    side = _SIDE * card.size_multiple
    pictures = [_probe(resize_image(image, (side, side)), card.size_multiple) for image in images]
    with load_engine("onnxruntime", artifact, EngineOptions((side, side), exits=True)) as engine:
        for number, exit in enumerate(card.exits[:-1]):
            card = card.with_exit(exit.name, halo=_halo(engine, number, pictures, card.size_multiple))
    return card


def _probe(picture: np.ndarray, multiple: int) -> np.ndarray:
    """Inverts the picture outside the largest part, so that its global mean, for example, differs from a part's."""
    probe = 255 - picture
    inside = slice((_MIDDLE - _MOST) * multiple, (_MIDDLE + _TILE + _MOST) * multiple)
    probe[inside, inside] = picture[inside, inside]
    return probe


def _halo(engine: Engine, number: int, pictures: Sequence[np.ndarray], multiple: int) -> int | None:
    """The smallest halo behind an exit that suffices, as all larger ones must; None if the largest does not."""
    halos = [multiple * times for times in range(1, _MOST + 1)]
    wrong = np.zeros(len(halos), bool)
    try:
        for picture in pictures:
            wrong |= [not enough for enough in _enough(engine, number, picture, multiple, halos)]
    except EngineError as error:  # its results cannot be cut into parts
        log.info("the graphs behind an exit do not take parts of a picture: %s", error)
        return None
    if wrong[-1]:
        return None
    return halos[int(wrong.nonzero()[0].max(initial=-1)) + 1]


def _enough(engine: Engine, number: int, picture: np.ndarray, multiple: int, halos: Sequence[int]) -> Iterator[bool]:
    """Whether each halo reproduces the logits of a tile in the middle of a picture."""
    start, end, side = (times * multiple for times in (_MIDDLE, _MIDDLE + _TILE, _TILE))
    tile = Tile(start, start, end, end)
    run = engine.start(picture)
    for _ in range(number + 1):
        run.logits()
    made = []
    for halo in halos:
        tiling = Tiling(engine.info.size_hw, (side, side), halo)
        made.append(tiling.join(run.parts([tiling.corner(tile)], tiling.part_hw), [tile]))
    while run.more:
        whole = run.logits()
    stride = picture.shape[0] // whole.shape[1]
    around = slice(tile.top // stride - 1, tile.bottom // stride + 1)
    for logits in made:
        yield bool(np.abs(logits - whole)[:, around, around].max() <= TOLERANCE * np.abs(whole).max())
