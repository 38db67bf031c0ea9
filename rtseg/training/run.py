"""A training run from its configuration to its best weights."""

import hashlib
import json
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
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.core.sizes import check_multiple
from rtseg.datasets import DataSet
from rtseg.models import SegmentationModel, build_model
from rtseg.models.weights import is_classifier, may_lack, restore
from rtseg.sinks.base import make_folder
from rtseg.training.averaging import Averaging
from rtseg.training.before import check_unseen, read_data
from rtseg.training.begun import go_on, read_begun
from rtseg.training.checkpoint import SafetensorsIO
from rtseg.training.config import TrainConfig
from rtseg.training.data import Loaders
from rtseg.training.losses import class_weights
from rtseg.training.optimise import check_trunk
from rtseg.training.origin import find_origin
from rtseg.training.precision import choose_precision, keep_gradients_true
from rtseg.training.progress import RunProgress
from rtseg.training.report import KeepBest, KeepLast, Pictures
from rtseg.training.summary import is_reported, parting, read_curves, write_report
from rtseg.training.task import SegmentationTask
from rtseg.training.teach import TEACHING, find_teachers
from rtseg.training.unlabelled import UnlabelledViews, gather

log = logging.getLogger(__name__)

_PLUGIN_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(config: TrainConfig) -> Path:
    """Trains a network and returns the run's folder: `best.safetensors`, its card `best.json`, and `report`.

    A run whose folder holds `last.ckpt` goes on from there.

    Raises:
        UsageError: a name or size that does not fit, or a precision that the device does not compute with.
        InputError: the data set cannot be read.
        OutputError: the run's folder cannot be written.
    """
    made = [folder for folder in (config.output, *config.output.parents) if not folder.exists()]
    make_folder(config.output)
    try:
        with kept_determinism():
            _train(config)
    except BaseException:
        with suppress(OSError):  # a run that was refused leaves no folder; one with something in it stays
            for folder in made:
                folder.rmdir()
        raise
    return config.output


@contextmanager
def kept_determinism() -> Iterator[None]:
    """Gives torch's global setting back: Lightning would leave a run's own to the caller."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _train(config: TrainConfig) -> None:
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    random.seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    config, data, holdouts = read_data(config)
    for name in (config.init, *config.teacher):
        if name is not None:
            check_unseen(name, find_origin(name).recipe, config)
    model = build_model(config.model, {**architecture(config), "classes": len(data.labels)})
    check_multiple(config.crop_hw, model.size_multiple, config.model)
    check_trunk(config, model)
    lineage: dict[str, Any] = {"init": start_from(model, config.init)} if config.init is not None else {}
    views = None
    if config.unlabelled is not None:
        pool = gather(config.unlabelled, config.unlabelled_every, config.output, holdouts)
        views, lineage["unlabelled"] = UnlabelledViews(config, pool.paths), pool.identity()
    keep_gradients_true(model)
    model = model.to(memory_format=torch.channels_last)
    teaching = None
    if config.teacher:
        origins = find_teachers(config.teacher, data.labels.names)
        teachers = [origin.network() for origin in origins]
        teaching = TEACHING.get(config.teaching)(model, teachers, config.temperature)
        teaching.compiled = config.compile
        for teacher, origin in zip(teachers, origins, strict=True):
            check_multiple(config.crop_hw, teacher.size_multiple, f"the teacher {origin.name}")
        lineage["teachers"] = [origin.identity() for origin in origins]
    settings, last = run_settings(config, [data, *holdouts], lineage), config.output / "last.ckpt"
    begun = read_begun(last)
    cycle_from = 0 if begun is None else go_on(begun, settings, config.output)
    if begun is not None:
        if begun.epochs_done == config.epochs and is_reported(config.output):
            log.info("the run in %s is done: %d epochs; a larger --epochs lengthens it", config.output, config.epochs)
            return
        log.info("resumed at epoch %d of %d", min(begun.epochs_done + 1, config.epochs), config.epochs)
    task = SegmentationTask(config, model, class_weights(data, config.class_balance), holdouts, teaching)
    task.lineage, task.train_size = lineage, config.train_hw or data.size_hw
    task.settings, task.cycle_from = settings, cycle_from
    trainer = _trainer(config)
    resumed = None if begun is None else last
    try:
        trainer.fit(task, datamodule=Loaders(config, data, holdouts, views), ckpt_path=resumed, weights_only=False)
    except SystemExit as error:  # how Lightning ends a run that Ctrl+C stopped
        raise KeyboardInterrupt from error
    if trainer.is_global_zero:
        write_report(config.output, task)
        apart = parting(read_curves(config.output))
        if apart:
            log.warning(apart)


def run_settings(config: TrainConfig, sets: list[DataSet], lineage: dict[str, Any]) -> dict[str, Any]:
    """What a run that goes on must have in common with the one that was begun: the same keys in every run."""
    names = {data.split: data.picture_names() for data in sets}
    listing = json.dumps([sets[0].labels.names, names])
    pool = lineage.get("unlabelled")
    return {
        **config.decisive(),
        "pictures": len(sets[0]),
        "data_set": hashlib.sha256(listing.encode()).hexdigest(),
        "init": lineage.get("init"),
        "teachers": lineage.get("teachers"),
        "unlabelled": pool and f"{pool['pictures']} pictures, {pool['frames']} frames, {pool['sha256'][:12]}…",
    }


def architecture(config: TrainConfig) -> dict[str, Any]:
    """The fields that the network is built with: those of what it starts from, then those that were asked for."""
    start = find_origin(config.init) if config.init is not None else None
    before = start.config if start is not None and start.model == config.model else {}
    return {**before, **config.model_config()}


def start_from(model: SegmentationModel, init: str) -> dict[str, Any]:
    """Loads the weights of a trained network, as `find_origin` finds it, into `model`; returns what they are.

    Classifiers keep their fresh weights where their shape differs, as with another number of classes. From a network
    of another architecture that has layers of its own, only the trunk is taken. What starts fresh is logged.

    Raises:
        UsageError: the same architecture with other fields, or architectures that do not have the same trunk.
        WeightsError: the file is missing or damaged.
    """
    origin = find_origin(init)
    state, known = origin.state(), origin.identity()
    source = build_model(origin.model, origin.config)
    own = model.state_dict()
    if not set(state) <= set(own):
        restore(source, state, init)
        try:
            take_trunk(model, source)
        except UsageError:
            lacking = next((name for name in own if name not in state and not may_lack(name)), None)
            if type(source) is type(model) and lacking is not None:
                raise _does_not_fit(model, source, init, lacking, None) from None
            raise
        log.warning("from %s only the trunk is taken, the rest starts fresh", init)
        return {**known, "part": "trunk"}
    fitting = {name: value for name, value in state.items() if value.shape == own[name].shape}
    fresh = [name for name in own if name not in fitting and not name.endswith("num_batches_tracked")]
    whole = type(source) is type(model)  # or one is a part of the other, such as ENet's encoder
    for name in fresh:
        if not (is_classifier(name) or may_lack(name) or (name not in state and not whole)):
            raise _does_not_fit(model, source, init, name, state.get(name))
    model.load_state_dict(fitting, strict=False)
    if fresh:
        parts = dict.fromkeys(name if name.startswith("network") else name.split(".")[0] for name in fresh)
        log.warning("%s has no fitting weights for %s: they start fresh", init, ", ".join(parts))
    return known


def _does_not_fit(
    model: SegmentationModel, source: SegmentationModel, init: str, name: str, value: Tensor | None
) -> UsageError:
    """The error for a weight that `source`, which is what `init` holds, lacks or has in another shape."""
    wanted = tuple(model.state_dict()[name].shape)
    found = f"lacks {name}" if value is None else f"has {name} as {tuple(value.shape)} instead of {wanted}"
    theirs = source.config_json()
    differing = [f for f, v in model.config_json().items() if f != "classes" and theirs.get(f) != v]
    out = " and ".join("--encoder" if f == "encoder" else f"--set {f}" for f in differing)
    hint = f"leave {out} out" if out else "start from another network"
    return UsageError(f"{init} does not fit {type(model).__name__} with {model.config}: it {found}: {hint}")


def take_trunk(model: SegmentationModel, source: SegmentationModel) -> None:
    """Gives `model` the trunk of `source`, whose weights must have the same shapes in the same order.

    Raises:
        UsageError: one of them has no trunk, or they differ.
    """
    own, found = (nn.ModuleList(network.trunk()).state_dict() for network in (model, source))
    shapes = [[tuple(value.shape) for value in state.values()] for state in (own, found)]
    if not own or shapes[0] != shapes[1]:
        raise UsageError(f"a {type(model).__name__} with {model.config} cannot start from a {type(source).__name__} "
                         f"with {source.config}: their trunks are not the same")  # fmt: skip
    with torch.no_grad():
        for target, value in zip(own.values(), found.values(), strict=True):
            target.copy_(value)
        for copy in model.trunk_copies():
            state = list(copy.state_dict().values())
            for target, value in zip(state, list(found.values())[: len(state)], strict=True):
                target.copy_(value)


def _trainer(config: TrainConfig) -> L.Trainer:
    if config.sync_batch_norm and not torch.cuda.is_available():
        raise UsageError("synchronised batch norm needs GPUs: leave --sync-batch-norm out")
    precision: Any = _PLUGIN_PRECISION[choose_precision(config.precision)]
    folder = config.output
    callbacks: list[L.Callback] = [
        KeepBest(folder, config.keep == "last"),  # this and the next before the averaging, which takes its weights back
        Pictures(folder),
        Averaging(config.ema),
        KeepLast(folder, config.checkpoint_every),
        RunProgress(),
    ]
    return L.Trainer(
        max_epochs=config.epochs,
        precision=precision,
        callbacks=callbacks,
        logger=CSVLogger(folder, name="curves"),  # one file for each start: curves/version_N/metrics.csv
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
