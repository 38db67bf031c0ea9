"""The plan of a run: everything decided and checked before its first step; the rest is built from it."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.core.zoo import BEST
from rtseg.datasets import DataSet
from rtseg.training.before import check_unseen, read_data
from rtseg.training.begun import go_on, is_reported, lost_best, read_begun
from rtseg.training.config import TrainConfig
from rtseg.training.data import batches_of, sample_count
from rtseg.training.distill.base import MethodConfig
from rtseg.training.distill.lessons import methods_of
from rtseg.training.distill.teachers import find_teachers
from rtseg.training.networks import build_networks
from rtseg.training.origin import Origin, find_origin
from rtseg.training.precision import choose_precision
from rtseg.training.pruning.scratch import scratch
from rtseg.training.unlabelled.pool import Pool, gather

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """A training run before its first step.

    Attributes:
        config: the configuration, completed from the data.
        data: the training data.
        holdouts: the data to score; at least one.
        precision: training precision: fp32, bf16 or fp16.
        start: the network whose weights, or only whose shape, the run starts from.
        teachers: the networks that teach.
        methods: teaching methods by name, including those by which the network teaches itself.
        pool: pictures without labels.
        lineage: where the weights come from, for the card.
        settings: settings that a run must share to resume this one.
        epochs_done: epochs that earlier starts have completed.
        cycle_from: epochs after which the schedule begins.
        finished: whether nothing is left to do.
    """

    config: TrainConfig
    data: DataSet
    holdouts: tuple[DataSet, ...]
    precision: str
    start: Origin | None
    teachers: tuple[Origin, ...]
    methods: dict[str, MethodConfig]
    pool: Pool | None
    lineage: dict[str, Any]
    settings: dict[str, Any]
    epochs_done: int
    cycle_from: int
    finished: bool

    def __deepcopy__(self, _: Any) -> Self:
        return self  # the averaged copy of a task needs no data sets

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return self.data.labels

    @property
    def train_size(self) -> Size:
        """(height, width) of the pictures that crops are cut from; scoring uses it too."""
        return self.config.train_hw or self.data.size_hw

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if any."""
        return checkpoint_of(self.config) if self.epochs_done else None


def checkpoint_of(config: TrainConfig) -> Path:
    """The checkpoint in a run's folder."""
    return config.output / "last.ckpt"


def make_plan(config: TrainConfig) -> TrainingPlan:
    """Decides and checks everything about a run.

    All networks are built here once and discarded, because only that shows whether they fit.

    Raises:
        UsageError: a name or size does not fit, the device does not support the precision, or the folder holds a run
            that was started with other settings.
        InputError: the data set, or a picture without labels, cannot be read.
        WeightsError: the initial weights, or a teacher's, are missing or damaged.
        OutputError: a video frame cannot be stored.
    """
    config, data, holdouts = read_data(config)
    precision = choose_precision(config.precision)
    if config.sync_batch_norm and not torch.cuda.is_available():
        raise UsageError("synchronised batch norm needs GPUs: leave --sync-batch-norm out")
    start = None if config.init is None else find_origin(config.init)
    if start is not None and config.from_scratch:
        config = scratch(config, start)
    teachers = tuple(find_teachers(config.teacher, data.labels.names))
    for origin in (*([start] if start and not config.from_scratch else []), *teachers):
        check_unseen(origin.given, origin.recipe, config)
    methods = methods_of(config)
    taken = build_networks(config, len(data.labels), start, teachers, methods).start
    if taken is not None and (line := taken.told()) is not None:
        log.warning(line)
    pool = None
    if config.unlabelled is not None:
        pool = gather(config.unlabelled, config.unlabelled_every, config.output, holdouts)
    lineage = {
        **({"init": taken.identity()} if taken is not None else {}),
        **({"shape_of": start.identity()} if start is not None and config.from_scratch else {}),
        **({"unlabelled": pool.identity()} if pool is not None else {}),
        **({"teachers": [origin.identity() for origin in teachers]} if teachers else {}),
    }
    settings = run_settings(config, [data, *holdouts], lineage)
    begun = read_begun(checkpoint_of(config))
    cycle_from = 0 if begun is None else go_on(begun, settings, config.output)
    if cycle_from and config.sparse:
        raise UsageError(f"the sparse run in {config.output} is done, and its phases cannot be lengthened: start "
                         f"another --output with --init {config.output / BEST}")  # fmt: skip
    done = begun is not None and begun.epochs_done == config.epochs
    if done and (why := lost_best(config.output)) is not None:
        raise WeightsError(f"the run in {config.output} is done, but its best weights are lost ({why}): a larger "
                           "--epochs keeps the best of what follows, or give another --output")  # fmt: skip
    batches_of(sample_count(config, data), config.batch_size, config.devices)
    return TrainingPlan(
        config=config, data=data, holdouts=tuple(holdouts), precision=precision, start=start, teachers=teachers,
        methods=methods, pool=pool, lineage=lineage, settings=settings,
        epochs_done=0 if begun is None else begun.epochs_done,
        cycle_from=cycle_from,
        finished=done and is_reported(config.output),
    )  # fmt: skip


def run_settings(config: TrainConfig, sets: Sequence[DataSet], lineage: dict[str, Any]) -> dict[str, Any]:
    """Settings that a resumed run must share with the original; the same keys in every run."""
    names = {data.split: data.picture_names() for data in sets}
    listing = json.dumps([sets[0].labels.names, names])
    pool = lineage.get("unlabelled")
    return {
        **config.decisive(),
        "pictures": len(sets[0]),
        "data_set": hashlib.sha256(listing.encode()).hexdigest(),
        "init": lineage.get("init"),
        "shape_of": lineage.get("shape_of"),
        "teachers": lineage.get("teachers"),
        "unlabelled": pool and f"{pool['pictures']} pictures, {pool['frames']} frames, {pool['sha256'][:12]}…",
    }
