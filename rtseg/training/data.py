"""The torch side of the data: augmented training samples, in an order that depends on the seed alone."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from rtseg.core.errors import RtsegError, UsageError
from rtseg.core.sizes import same_pixels
from rtseg.datasets import DataSet, open_data
from rtseg.pictures.resize import resize_image, resize_labels
from rtseg.training.augment import paste_classes, training_augmentation
from rtseg.training.config import TrainConfig
from rtseg.training.unlabelled.views import UnlabelledViews

_KEPT_BYTES = 2 << 30  # CamVid's train split takes 0.3 GB, Cityscapes' 24 GB


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends on seed and epoch, so that a resumed run sees the same samples.

    With several processes, each takes every n-th batch of the same order, and all take equally many.

    Args:
        length: number of samples.
        seed: of the order.
        batch_size: number of consecutive samples in a batch; the last, incomplete batch is left out.
        rank: this process.
        world: number of processes.
        epoch: the first epoch, because workers get their first indices before the trainer sets it.
    """

    def __init__(self, length: int, seed: int, batch_size: int, rank: int = 0, world: int = 1, epoch: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, epoch
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.batches = batches_of(length, batch_size, world)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        batches = order[: self.batches * self.world * self.batch_size].reshape(-1, self.batch_size)
        return ((self.epoch, int(index)) for index in batches[self.rank :: self.world].ravel())


def batches_of(length: int, batch_size: int, world: int) -> int:
    """Full batches per epoch for each of `world` processes; raises UsageError if there are none."""
    batches = length // batch_size // world
    if batches == 0:
        each = f" for each of {world} processes" if world > 1 else ""
        remedy = f"--batch-size {length // world} or less" if length >= world else "fewer --devices"
        raise UsageError(f"{length} pictures make no batch of {batch_size}{each}: give {remedy}")
    return batches


def sample_count(config: TrainConfig, data: DataSet) -> int:
    """Pictures per epoch: those of the split, plus the share of street scenes."""
    return len(data) + round(len(data) * (config.scenes or 0))


class TrainingSet(Dataset[tuple[Tensor, ...] | RtsegError]):
    """A data set and a share of street scenes, augmented; caches samples, up to 2 GiB per process.

    With pictures without labels, each sample also brings the next of them, so their order depends on that of the
    samples and not on the process that reads them.
    """

    def __init__(self, config: TrainConfig, data: DataSet, unlabelled: UnlabelledViews | None = None) -> None:
        self.data, self.seed, self.class_mix = data, config.seed, config.class_mix
        self.unlabelled = unlabelled
        self.scenes = open_data("scenes", None, "train") if config.scenes else None
        self.scene_count = sample_count(config, data) - len(data)
        self.train_hw = config.train_hw
        self.augment = training_augmentation(config.crop_hw, config.scale, data.labels.ignore_index, config.light)
        self._read: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._room = _KEPT_BYTES

    def __len__(self) -> int:
        return len(self.data) + self.scene_count

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...] | RtsegError:
        """(epoch, index) -> image uint8 BGR (h, w, 3), labels uint8 (h, w), which become int64 on the device.

        With pictures without labels, the views of one (`UnlabelledViews`) follow. If a picture can no longer be read,
        the error is returned instead of raised: torch would raise another, with a worker's traceback in its text.
        """
        try:
            return self._made(*key)
        except RtsegError as error:
            return error

    def _made(self, epoch: int, index: int) -> tuple[Tensor, ...]:
        self.augment.set_random_seed(hash((self.seed, epoch, index)) & 0x7FFFFFFF)
        image, labels = self._augmented(epoch, index)
        rng = np.random.default_rng((self.seed, epoch, index))
        if rng.random() < self.class_mix:
            other = self._augmented(epoch, int(rng.integers(len(self))))
            image, labels = paste_classes(image, labels, *other, self.data.labels.ignore_index, rng)
        more = () if self.unlabelled is None else self.unlabelled.take(epoch * len(self) + index)
        return torch.from_numpy(image), torch.from_numpy(labels), *more

    def _augmented(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, labels = self._sample(epoch, index)
        augmented = self.augment(image=image, mask=labels)
        return augmented["image"], augmented["mask"]

    def _sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        source, position = self.data, index
        if index >= len(self.data):
            assert self.scenes is not None
            source = self.scenes
            position = (epoch * self.scene_count + index - len(self.data)) % len(source)
            index = len(self.data) + position
        if index in self._read:
            return self._read[index]
        sample = source.sample(position)
        image, labels = sample.image, sample.labels
        if self.train_hw is not None:
            size_hw = same_pixels((labels.shape[0], labels.shape[1]), self.train_hw)
            image, labels = resize_image(image, size_hw), resize_labels(labels, size_hw)
        self._room -= image.nbytes + labels.nbytes
        if self._room >= 0:
            self._read[index] = image, labels
        return image, labels


def batch_of(samples: list[tuple[Tensor, ...] | RtsegError]) -> Any:
    """The samples' tensors stacked, or the first error among them, which `SegmentationTask` raises."""
    errors = [sample for sample in samples if isinstance(sample, RtsegError)]
    return errors[0] if errors else default_collate(samples)


class SampleLoader(DataLoader[Any]):
    """A data loader whose workers use OpenCV with one thread each.

    The processes are forked while OpenCV has only one thread in this process too. Its thread pool does not survive a
    fork: a worker that inherits one and shuts it down would wait forever for threads that it does not have.
    """

    def __iter__(self) -> Any:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            return super().__iter__()
        finally:
            cv2.setNumThreads(before)


def training_loader(
    config: TrainConfig, data: DataSet, rank: int = 0, unlabelled: UnlabelledViews | None = None, epoch: int = 0
) -> DataLoader[tuple[Tensor, ...]]:
    """Batches of (uint8 (N, h, w, 3), uint8 (N, h, w), …) from `epoch` on; the last, incomplete batch is dropped."""
    samples = TrainingSet(config, data, unlabelled)
    return SampleLoader(
        samples,
        batch_size=config.batch_size,
        sampler=EpochSampler(len(samples), config.seed, config.batch_size, rank, config.devices, epoch),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        prefetch_factor=4 if config.workers else None,
        pin_memory=torch.cuda.is_available(),
        collate_fn=batch_of,
        worker_init_fn=_one_thread,
        drop_last=True,
    )


def _one_thread(_: int) -> None:
    """Limits OpenCV to one thread per worker: with one per core in each, they slowed each other down on 16 cores.

    No effect in a forked process, see `SampleLoader`; a spawned one starts with OpenCV's default.
    """
    cv2.setNumThreads(1)
