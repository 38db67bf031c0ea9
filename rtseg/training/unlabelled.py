"""Learning from pictures without labels: weak-to-strong consistency after UniMatch (Yang et al. 2023, "Revisiting
Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR, arXiv 2208.09910).

The network labels a weak view of a picture (scaled, cropped, flipped). What it is sure of there, it has to say about
two strong views of the same crop: other light and colours, and a piece of another picture pasted in (CutMix, Yun 2019).

Deviations: no third stream with dropped features (our networks have no common place between trunk and decoder, and it
would make a step a third longer), so the two strong views have the whole weight; labels and logits are compared at the
logits' size; classes are weighted as in the labelled term; pieces come from the pictures of the batch.
"""

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rtseg.core.errors import InputError, OutputError, UsageError
from rtseg.core.paths import walk
from rtseg.core.sizes import Size, same_pixels
from rtseg.datasets import DataSet
from rtseg.datasets.check import ALIKE_BITS, difference_hash
from rtseg.models import SegmentationModel
from rtseg.models.deploy import normalise
from rtseg.pictures.resize import resize_image
from rtseg.sources.images import read_image
from rtseg.sources.kinds import IMAGE_SUFFIXES, kind_of
from rtseg.sources.video import VideoSource
from rtseg.training.augment import geometry, photometry
from rtseg.training.config import TrainConfig
from rtseg.training.losses import shrink_labels

log = logging.getLogger(__name__)

_LIGHT = 0.5  # share of the strong views that get another light or weather, at least
_PADDING = 255
_CUT_SHARE, _CUT_AREA, _CUT_RATIO = 0.5, (0.02, 0.4), (0.3, 1 / 0.3)  # the paper's
_QUALITY = 95  # of the JPEG files that frames are kept as


@dataclass(frozen=True)
class Pool:
    """Pictures without labels.

    Attributes:
        paths: files that can be read, pictures first, then frames of videos.
        names: what they are called in the user's folder: `park/1.png`, of frame 30 of a video `drive.mp4#30`.
        frames: how many are frames of videos.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    frames: int

    def identity(self) -> dict[str, Any]:
        """What a card says about them: how many, and the hash of their names."""
        digest = hashlib.sha256(json.dumps(self.names).encode()).hexdigest()
        return {"pictures": len(self.paths) - self.frames, "frames": self.frames, "sha256": digest}


def gather(folder: Path, every_s: float, run: Path, holdouts: Sequence[DataSet]) -> Pool:
    """Finds the pictures of a folder, of any depth, and takes a frame of its videos every `every_s` seconds.

    Frames are kept as JPEG below `run/unlabelled`, so that a run that goes on does not read the videos again.

    Raises:
        InputError: there is nothing to read, or a file cannot be read.
        UsageError: a picture of a holdout is among them.
        OutputError: a frame cannot be kept.
    """
    found = _files(folder, run)
    pictures = [path for path in found if kind_of(path) == "picture"]
    videos = [path for path in found if kind_of(path) == "video"]
    if not pictures and not videos:
        raise InputError(f"--unlabelled {folder} holds no picture and no video: give a folder that does, of any depth")
    console = Console(stderr=True)  # bars, for a pass over all files may take minutes
    bar = partial(track, console=console, transient=True, disable=not console.is_terminal)
    with ThreadPoolExecutor() as pool:
        for _ in bar(pool.map(partial(_check, folder), pictures), "pictures without labels", total=len(pictures)):
            pass
    _check_not_held_out(pictures, holdouts)
    frames = [frame for path in bar(videos, "frames of videos") for frame in _kept_frames(path, folder, every_s, run)]
    names = [path.relative_to(folder).as_posix() for path in pictures] + [name for _, name in frames]
    log.warning("learning from %d pictures without labels and from %d frames of %d videos, one every %g s",
                len(pictures), len(frames), len(videos), every_s)  # fmt: skip
    return Pool((*pictures, *(path for path, _ in frames)), tuple(names), len(frames))


def _files(folder: Path, run: Path) -> list[Path]:
    """All files below the folder but hidden ones and, where the run's folder is there too, the run's own."""
    if not folder.is_dir():
        raise InputError(f"--unlabelled {folder} is no folder: give one that holds pictures or videos")
    own = run.resolve() if run.resolve().is_relative_to(folder.resolve()) else None
    return [
        here / name
        for here, _, names in walk(folder)
        for name in names
        if not name.startswith(".") and not (own and (here / name).resolve().is_relative_to(own))
    ]


def _check(folder: Path, path: Path) -> None:
    try:
        read_image(path)
    except InputError as error:
        raise InputError(f"{error}; repair it or take it out of --unlabelled {folder}") from error


def _check_not_held_out(pictures: list[Path], holdouts: Sequence[DataSet]) -> None:
    """Raises UsageError for a picture with the name and the looks of a holdout's; a name such as 0001 is no proof."""
    held: dict[str, list[tuple[DataSet, int]]] = {}
    for data in holdouts:
        for index, name in enumerate(data.picture_names()):
            held.setdefault(_bare(name), []).append((data, index))
    for path in pictures:
        for data, index in held.get(_bare(path.name), []):
            ours, theirs = difference_hash(read_image(path)), difference_hash(data.sample(index).image)
            if np.bitwise_count(ours ^ theirs).sum() <= ALIKE_BITS:
                raise UsageError(
                    f"{path} is a picture of the holdout {data.split}, which must not be learned from: "
                    "take the holdout's pictures out of --unlabelled, or give other --holdouts"
                )


def _bare(name: str) -> str:
    """A picture's name without folders and suffix."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _kept_frames(video: Path, folder: Path, every_s: float, run: Path) -> Iterator[tuple[Path, str]]:
    """(file, name) of the frames that are taken of a video; it is read where an earlier start did not finish it."""
    name = video.relative_to(folder).as_posix()
    told = f"{name} {video.stat().st_size} {every_s!r}"
    kept = run / "unlabelled" / hashlib.sha256(os.fsencode(told)).hexdigest()[:16]
    if not kept.is_dir():
        part = kept.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            _take_frames(video, every_s, part)
            part.rename(kept)
        except OSError as error:
            raise OutputError(f"cannot keep frames in {kept}: {error.strerror or error}; check the folder and free "
                              "space, or take fewer frames with --unlabelled-every") from error  # fmt: skip
    for path in sorted(kept.glob("*.jpg")):
        yield path, f"{name}#{int(path.stem)}"


def _take_frames(video: Path, every_s: float, into: Path) -> None:
    taken = -1
    with VideoSource(video) as source:
        for frame in source:
            number = int(frame.timestamp_s / every_s)
            if number > taken:
                taken = number
                _, data = cv2.imencode(".jpg", frame.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                (into / f"{frame.index:08d}.jpg").write_bytes(data.tobytes())


class UnlabelledViews:
    """Makes a weak and two strong views of each picture; all of it follows from the seed and the turn.

    Args:
        config: says crop, scale, size, light and seed.
        paths: the pictures.
    """

    def __init__(self, config: TrainConfig, paths: Sequence[Path]) -> None:
        self.paths, self.seed, self.train_hw = paths, config.seed, config.train_hw
        self.weak = A.Compose(geometry(config.crop_hw, config.scale, _PADDING))
        self.strong = A.Compose(photometry(max(config.light, _LIGHT)))

    def picture(self, turn: int) -> Path:
        """Every picture comes once before one comes again, in another order each time."""
        rounds, place = divmod(turn, len(self.paths))
        return self.paths[np.random.default_rng((self.seed, rounds)).permutation(len(self.paths))[place]]

    def take(self, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """The picture whose turn it is.

        Returns:
            Its views, weak, strong and strong: uint8 BGR (3, h, w, 3). Which pixels are picture, not padding: bool
            (h, w). Where a piece of another picture is to be pasted into each strong view: bool (2, h, w).
        """
        image = read_image(self.picture(turn))
        if self.train_hw is not None:
            image = resize_image(image, same_pixels((image.shape[0], image.shape[1]), self.train_hw))
        self.weak.set_random_seed(hash((self.seed, turn)) & 0x7FFFFFFF)
        self.strong.set_random_seed(hash((self.seed, turn, 1)) & 0x7FFFFFFF)
        cropped = self.weak(image=image, mask=np.zeros(image.shape[:2], np.uint8))
        weak, known = cropped["image"], cropped["mask"] != _PADDING
        views = np.stack([weak, *(self.strong(image=weak)["image"] for _ in range(2))])
        rng = np.random.default_rng((self.seed, turn, 2))
        pasted = np.stack([cut(rng, weak.shape[:2]) for _ in range(2)])
        return torch.from_numpy(views), torch.from_numpy(known), torch.from_numpy(pasted)


def cut(rng: np.random.Generator, size_hw: Size) -> np.ndarray:
    """bool (H, W): for every second call a rectangle of 2 to 40 % of the area, else nothing."""
    area = np.zeros(size_hw, bool)
    if rng.random() < _CUT_SHARE:
        pixels = rng.uniform(*_CUT_AREA) * area.size
        ratio = math.exp(rng.uniform(*map(math.log, _CUT_RATIO)))
        height = min(size_hw[0], round(math.sqrt(pixels * ratio)))
        width = min(size_hw[1], round(math.sqrt(pixels / ratio)))
        top, left = rng.integers(size_hw[0] - height + 1), rng.integers(size_hw[1] - width + 1)
        area[top : top + height, left : left + width] = True
    return area


def consistency_loss(
    model: SegmentationModel,
    forward: Callable[[Tensor], tuple[Tensor, ...]],
    views: Tensor,
    known: Tensor,
    pasted: Tensor,
    weights: Tensor,
    confidence: float,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the strong views with what the network says, and is sure of, about the weak one.

    Args:
        model: the network that learns; it labels the weak view as it would in use, without gradients.
        forward: its `forward_train`, or that compiled.
        views: weak, strong and strong, uint8 BGR (N, 3, h, w, 3).
        known: bool (N, h, w), False in padding.
        pasted: bool (N, 2, h, w), where each strong view gets a piece of a neighbour in the batch.
        weights: of the classes, float32 (C,).
        confidence: probability from which on a label counts.

    Returns:
        The loss, a scalar: mean over all pixels but padding, where those that do not count are 0. And the share of the
        pixels that counted.
    """
    labels, sure = pseudo_labels(model, views[:, 0], confidence)
    size_hw = (labels.shape[-2], labels.shape[-1])
    known = shrink_labels(known.byte(), size_hw).bool()
    pictures, targets, counted, valid = [], [], [], []
    for number, neighbour in ((0, 1), (1, -1)):
        view, piece = views[:, 1 + number], pasted[:, number]
        small = shrink_labels(piece.byte(), size_hw).bool()
        pictures.append(torch.where(piece[..., None], view.roll(neighbour, 0), view))
        for mixed, values in ((targets, labels), (counted, sure & known), (valid, known)):
            mixed.append(torch.where(small, values.roll(neighbour, 0), values))
    truth = torch.cat(targets)
    logits = forward(_input(model, torch.cat(pictures)))[0].float()
    losses = F.cross_entropy(logits, truth, weights, reduction="none") * torch.cat(counted)
    shares = weights[truth] * torch.cat(valid)
    share = torch.cat(counted).sum() / torch.cat(valid).sum().clamp(min=1)
    return losses.sum() / shares.sum().clamp(min=1e-6), share


@torch.no_grad()
def pseudo_labels(model: SegmentationModel, images: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """uint8 BGR (N, h, w, 3) -> labels int64 and whether they are sure, bool; both (N, h', w'), of the logits' size.

    The network is in evaluation mode meanwhile: neither dropout nor the batch's own statistics.
    """
    training = model.training
    model.eval()
    probability, labels = model(_input(model, images)).float().softmax(1).max(1)
    model.train(training)
    return labels, probability >= confidence


def _input(model: SegmentationModel, images: Tensor) -> Tensor:
    return normalise(images, model.normalisation).contiguous(memory_format=torch.channels_last)
