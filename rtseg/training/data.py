"""The torch side of the data: augmented training samples in an order that follows from the seed alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler

from rtseg.datasets import DataSet, open_data
from rtseg.training.augment import training_augmentation
from rtseg.training.config import TrainConfig


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that follows from seed and epoch, so that a resumed run sees the same."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return ((self.epoch, int(index)) for index in order)


class TrainingSet(Dataset[tuple[Tensor, Tensor]]):
    """A data set and a share of street scenes, augmented; keeps read samples in memory (0.7 MB each)."""

    def __init__(self, config: TrainConfig, data: DataSet) -> None:
        self.data, self.seed = data, config.seed
        self.scenes = open_data("scenes", None, "train") if config.scenes > 0 else None
        if self.scenes is not None and self.scenes.labels != data.labels:
            self.scenes = None
        self.scene_count = round(len(data) * config.scenes) if self.scenes is not None else 0
        self.augment = training_augmentation(config.crop_hw, config.scale, data.labels.ignore_index)
        self._read: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.data) + self.scene_count

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(epoch, index) -> image uint8 BGR (h, w, 3), labels int64 (h, w)."""
        epoch, index = key
        image, labels = self._sample(epoch, index)
        self.augment.set_random_seed(hash((self.seed, epoch, index)) & 0x7FFFFFFF)
        augmented = self.augment(image=image, mask=labels)
        return torch.from_numpy(augmented["image"]), torch.from_numpy(augmented["mask"]).long()

    def _sample(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        source, position = self.data, index
        if index >= len(self.data):
            assert self.scenes is not None
            source = self.scenes
            position = (epoch * self.scene_count + index - len(self.data)) % len(source)
            index = len(self.data) + position
        if index not in self._read:
            sample = source.sample(position)
            self._read[index] = sample.image, sample.labels
        return self._read[index]


def training_loader(config: TrainConfig, data: DataSet) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of (uint8 (N, h, w, 3), int64 (N, h, w)); the last, incomplete batch is dropped."""
    samples = TrainingSet(config, data)
    return DataLoader(
        samples,
        batch_size=min(config.batch_size, len(samples)),
        sampler=EpochSampler(len(samples), config.seed),
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        drop_last=True,
    )


def holdout_loader(sets: list[DataSet]) -> DataLoader[tuple[int, int]]:
    """Yields (set, index) pairs, one at a time; the samples themselves differ in size and are read by the task."""
    pairs: list[Dataset[tuple[int, int]]] = [_Pairs(number, len(data)) for number, data in enumerate(sets)]
    return DataLoader(ConcatDataset(pairs), batch_size=None)


class _Pairs(Dataset[tuple[int, int]]):
    def __init__(self, number: int, length: int) -> None:
        self.number, self.length = number, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.number, index
