"""A training run from its configuration to its best weights."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from rtseg.sinks.base import make_folder
from rtseg.sinks.lock import Lock
from rtseg.training.averaging import Averaging
from rtseg.training.checkpoint import SafetensorsIO
from rtseg.training.config import TrainConfig
from rtseg.training.failures import told
from rtseg.training.loaders import Loaders
from rtseg.training.losses import class_weights
from rtseg.training.networks import build_networks
from rtseg.training.plan import TrainingPlan, make_plan
from rtseg.training.progress import RunProgress
from rtseg.training.report import KeepBest, KeepLast, Pictures
from rtseg.training.sparse import phases_of
from rtseg.training.sparse.callback import SparseTraining
from rtseg.training.summary import parting, read_curves, write_report
from rtseg.training.task import SegmentationTask

log = logging.getLogger(__name__)

_PLUGIN_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(config: TrainConfig) -> Path:
    """Trains a network and returns the run's folder: `best.safetensors`, its card `best.json`, and `report`.

    If the folder holds `last.ckpt`, the run resumes from there.

    Raises:
        UsageError: a name or size does not fit, or the device does not support the precision.
        InputError: the data set cannot be read.
        OutputError: the run's folder cannot be written, or another run is writing to it.
    """
    made = [folder for folder in (config.output, *config.output.parents) if not folder.exists()]
    make_folder(config.output)
    try:
        with run_lock(config.output), kept_determinism():
            if config.threads:
                torch.set_num_threads(config.threads)
            _train(make_plan(config))
    except BaseException:
        with suppress(OSError):  # a refused run leaves no empty folder behind
            for folder in made:
                folder.rmdir()
        raise
    return config.output


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Locks a run's folder, in its first process; raises OutputError if another run holds the lock."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]  # Lightning sets it on the function
        yield
        return
    busy = f"another rtseg train is writing to {folder}: wait for it, or choose another --output"
    with Lock(folder / ".rtseg-train.lock", busy):
        yield


@contextmanager
def kept_determinism() -> Iterator[None]:
    """Restores torch's global setting, which Lightning would leave as the run set it."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _train(plan: TrainingPlan) -> None:
    config = plan.config
    if plan.finished:
        log.info("the run in %s is done: %d epochs; a larger --epochs lengthens it", config.output, config.epochs)
        return
    if plan.checkpoint is not None:
        log.info("resumed at epoch %d of %d", min(plan.epochs_done + 1, config.epochs), config.epochs)
    task, loaders, trainer = construct(plan)
    try:
        with told(config):
            trainer.fit(task, datamodule=loaders, ckpt_path=plan.checkpoint, weights_only=False)
    except SystemExit as error:  # how Lightning ends a run on Ctrl+C
        raise KeyboardInterrupt from error
    if trainer.is_global_zero:
        write_report(config.output, task)
        apart = parting(read_curves(config.output))
        if apart:
            log.warning(apart)


def construct(plan: TrainingPlan) -> tuple[SegmentationTask, Loaders, L.Trainer]:
    """Builds everything that a run needs; fresh weights depend on the plan's seed."""
    config = plan.config
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    random.seed(config.seed)
    networks = build_networks(config, len(plan.labels), plan.start, plan.teachers, plan.methods)
    labelled = not any(method.makes_pictures for method in plan.methods.values())
    weights = class_weights(plan.data, config.class_balance if labelled else 0)
    task = SegmentationTask(plan, networks, weights)
    return task, Loaders(plan), _trainer(plan)


def _trainer(plan: TrainingPlan) -> L.Trainer:
    config = plan.config
    precision: Any = _PLUGIN_PRECISION[plan.precision]
    folder = config.output
    averaging, phases = Averaging(config.ema), phases_of(config)
    callbacks: list[L.Callback] = [
        *([SparseTraining(phases, averaging)] if phases else []),
        KeepBest(folder, config.keep == "last"),  # these two before the averaging, which takes its weights back
        Pictures(folder),
        averaging,
        KeepLast(folder, config.checkpoint_every),
        RunProgress(),
    ]
    return L.Trainer(
        max_epochs=config.epochs,
        precision=precision,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="curves"),  # one file per start: curves/version_N/metrics.csv
        plugins=[SafetensorsIO()],
        check_val_every_n_epoch=config.validate_every,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        gradient_clip_val=5.0,
        accumulate_grad_batches=config.accumulate,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        sync_batchnorm=config.sync_batch_norm,
        use_distributed_sampler=False,
        deterministic=config.deterministic,
        enable_model_summary=False,
    )
