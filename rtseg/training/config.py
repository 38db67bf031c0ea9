"""The configuration of a training run; `rtseg train` has one option per field."""

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from rtseg.core.errors import UsageError
from rtseg.core.sizes import parse_size

TEACHING_LIST = "list"
"""Value of `--teaching` that prints the teaching methods instead of training."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        model: Architecture to train, required; smp:ARCHITECTURE:ENCODER is one of segmentation-models-pytorch.
        encoder: Trunk of an architecture that is built on one (swiftnet, pspnet, deeplabv3, icnet): one listed by
            `rtseg models --encoders`, or timm:NAME for one of timm's.
        set: FIELD=VALUE of the architecture's config, for example output_stride=16, or of its encoder's own fields;
            repeat it for each field.
        data: Data set to train on; auto is your own folder if the root holds classes.json, else camvid.
        root: Folder of the data set.
        output: Folder of the run: checkpoints, curves, pictures. An existing run is resumed.
        split: Split to train on; by default the data set's own choice, train. CamVid's is `fit`, which leaves out the
            held-out `tail` of each drive.
        holdouts: Splits scored after each validation interval; the best weights are those with the best mean mIoU.
            By default the data set's own choice: val, and CamVid's `tail`.
        epochs: Passes over the split; a larger number extends a finished run by another cycle.
        batch_size: Pictures per step.
        train_size: HxW: pictures are resized on load to that many pixels, keeping their shape; frames are also brought
            to this size at run time. By default pictures stay as they are.
        crop: HxW of the crops that the network is trained on.
        scale: Smallest and largest factor by which pictures are scaled before they are cropped.
        scenes: Street scenes to add, as a share of the split's pictures; by default 0.15 if the data set has their
            classes.
        class_mix: Share of the pictures onto which half the classes of another picture are pasted (ClassMix, Olsson
            2021).
        light: Share of the pictures that get a change of light or weather: dark or overexposed, warm or cold, haze,
            uneven light, washed-out colours, a poor camera.
        optimizer: AdamW, or SGD with Nesterov momentum 0.9.
        lr: Peak learning rate.
        weight_decay: Weight decay (AdamW: decoupled), of convolutions only.
        trunk_factor: Factor on the trunk's learning rate and weight decay; 0.25 suits a pretrained trunk (SwiftNet,
            Orsic 2019).
        schedule: One-cycle (warm-up, then cosine) or poly (power 0.9, Chen 2017).
        class_balance: The c of the class weights 1 / ln(c + share) (ENet paper, 1.02 there); 0 gives all classes the
            same weight.
        ohem: Share of the pixels with the largest loss that count; 1 counts all.
        boundary: Extra weight, in addition to 1, of pixels within two pixels of a border between classes; 0 turns it
            off.
        coarse_labels: Compare at the logits' size, with labels shrunk to it, rather than at the labels' own size.
        lovasz: Weight of the Lovász-Softmax term (Berman 2018), which optimises the mean IoU itself; 0 leaves it out.
        dice: Weight of a soft Dice term (Milletari 2016), which counts every class of a batch equally; 0 leaves it out.
        ema: Decay of the running mean of the weights, which is validated and kept; reached within the first 10 / (1 -
            decay) steps.
        keep: The epoch whose weights are kept: best on the holdouts, or last, so that no holdout chooses them.
        exit_weights: Weight of each early exit in the loss (--set exits=2), given once for each, first to last; the end
            has 1 (BranchyNet, Teerapittayanon 2016). By default 1 each.
        teacher: Networks whose averaged predictions teach this one: names that ship, or paths of ONNX files or of
            runs' best.safetensors.
        teaching: How they teach, or how the network teaches itself: methods separated by commas, each with its own
            fields, for example logits,cwd:weight=2:temperature=4; list prints all methods.
        teaching_weight: Weight of all teaching terms in the loss.
        temperature: Logits are divided by this before the softmax for teaching.
        unlabelled: Folder of pictures and videos without labels to train on as well: where the network is sure of a
            picture, it must predict the same labels for it in another light (UniMatch, Yang 2023).
        unlabelled_every: Seconds between the frames that are taken from these videos.
        unlabelled_confidence: Minimum probability for the network's own labels to count.
        unlabelled_weight: Weight of that term in the loss.
        sparse: Hold small weights at zero for part of the run: dsd (dense, sparse, dense at a tenth of the rate, Han
            2017), lottery (prune, go back to early weights, train again, Frankle 2019) or magnitude (prune during
            training, Zhu 2017). Scattered zeros do not make a network faster; rtseg prune does.
        sparsity: Share of each layer's weights to hold at zero, in all convolutions except those on the picture; by
            default 0.3 for dsd, else 0.5.
        sparse_rounds: Number of rounds in which that share is reached (lottery, magnitude); each is an equal part of
            the run.
        accumulate: Batches whose gradients make up one step.
        devices: Processes that train together (DDP), each with its own batches, on as many GPUs if there are any.
        sync_batch_norm: Batch statistics over all processes; GPUs only.
        deterministic: Use only operations that give the same bits every time; slower.
        precision: 'auto' takes bf16 if the device supports it, else fp32.
        compile: Fuse the network, and its teachers, with torch.compile: takes minutes at the start, and less time for
            each step.
        validate_every: Epochs between validations; there is always one after the last epoch.
        checkpoint_every: Epochs between the checkpoints that a stopped run resumes from; the last epoch always has one.
        workers: Processes that read and augment pictures.
        threads: CPU threads of the network; 0 leaves torch's default.
        seed: Seed for weights, order and augmentation.
        init: Start from a network that ships (name), or from the path of an ONNX file or of a run's best.safetensors,
            instead of random weights; from another architecture only the trunk is used.
        from_scratch: Use only the shape of the network in --init, with random weights, as a baseline for pruning (Liu
            2019). steps trains for the given epochs (scratch-E). macs trains for more epochs, with as much arithmetic
            as the unpruned network would need for the given ones (scratch-B).
    """

    model: str = ""
    encoder: str | None = None
    set: tuple[str, ...] = ()
    root: Path | None = None
    output: Path = Path("runs/train")
    data: str = "auto"
    split: str | None = None
    holdouts: tuple[str, ...] | None = None
    epochs: int = 100
    batch_size: int = 8
    train_size: str | None = None
    crop: str = "352x480"
    scale: tuple[float, float] = (0.75, 1.5)
    scenes: float | None = None
    class_mix: float = 0.0
    light: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.02
    trunk_factor: float = 1.0
    schedule: Literal["one-cycle", "poly"] = "one-cycle"
    class_balance: float = 1.10
    ohem: float = 1.0
    boundary: float = 0.0
    coarse_labels: bool = False
    lovasz: float = 0.0
    dice: float = 0.0
    ema: float = 0.995
    keep: Literal["best", "last"] = "best"
    exit_weights: tuple[float, ...] = ()
    teacher: tuple[str, ...] = ()
    teaching: str = "logits"
    teaching_weight: float = 1.0
    temperature: float = 2.0
    unlabelled: Path | None = None
    unlabelled_every: float = 1.0
    unlabelled_confidence: float = 0.95
    unlabelled_weight: float = 1.0
    sparse: str | None = None
    sparsity: float | None = None
    sparse_rounds: int = 1
    accumulate: int = 1
    devices: int = 1
    sync_batch_norm: bool = False
    deterministic: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    validate_every: int = 5
    checkpoint_every: int = 1
    workers: int = 1
    threads: int = 0
    seed: int = 0
    init: str | None = None
    from_scratch: Literal["steps", "macs"] | None = None

    def __post_init__(self) -> None:
        if not self.model and self.teaching != TEACHING_LIST:
            raise UsageError("no network is named: give --model NAME, for example --model icnet")
        for size in (self.crop, self.train_size):
            if size is not None:
                parse_size(size)
        self.model_config()
        for name, value in asdict(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not isfinite(number) for number in numbers):
                raise UsageError(f"{name} is {value}: it must be a finite number")
        positive = {"epochs": self.epochs, "batch_size": self.batch_size, "validate_every": self.validate_every,
                    "checkpoint_every": self.checkpoint_every, "accumulate": self.accumulate,
                    "devices": self.devices, "sparse_rounds": self.sparse_rounds}  # fmt: skip
        for name, value in positive.items():
            if value < 1:
                raise UsageError(f"{name} is {value}: it must be at least 1")
        not_negative = {"workers": self.workers, "threads": self.threads, "seed": self.seed}
        for name, value in not_negative.items():
            if not 0 <= value < 2**32:
                raise UsageError(f"{name} is {value}: it must be 0 or more")
        shares = {"ohem": (self.ohem, 0.01, 1), "ema": (self.ema, 0, 0.99999), "scenes": (self.scenes or 0, 0, 10),
                  "class_mix": (self.class_mix, 0, 1), "light": (self.light, 0, 1), "dice": (self.dice, 0, 10),
                  "trunk_factor": (self.trunk_factor, 0, 1),
                  "lovasz": (self.lovasz, 0, 10), "boundary": (self.boundary, 0, 100),
                  "teaching_weight": (self.teaching_weight, 0, 100), "weight_decay": (self.weight_decay, 0, 10),
                  "unlabelled_every": (self.unlabelled_every, 0.01, 86400),
                  "unlabelled_confidence": (self.unlabelled_confidence, 0, 1),
                  "unlabelled_weight": (self.unlabelled_weight, 0, 100),
                  "sparsity": (0.5 if self.sparsity is None else self.sparsity, 0.01, 0.99),
                  "temperature": (self.temperature, 0.1, 100)}  # fmt: skip
        for name, (share, low, high) in shares.items():
            if not low <= share <= high:
                raise UsageError(f"{name} is {share}: allowed is {low} to {high}")
        if not all(0 <= weight <= 100 for weight in self.exit_weights):
            raise UsageError(f"exit_weights is {self.exit_weights}: allowed is 0 to 100 each")
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise UsageError(f"scale is {self.scale}: allowed are a smallest and a largest factor within 0.1 to 10")
        if self.sync_batch_norm and self.devices < 2:
            raise UsageError("--sync-batch-norm is for several processes: give --devices 2 or more, or leave it out")
        if self.sparse is None and (self.sparsity is not None or self.sparse_rounds != 1):
            raise UsageError("--sparsity and --sparse-rounds go with --sparse: dsd, lottery or magnitude")
        if self.from_scratch is not None and self.init is None:
            raise UsageError("--from-scratch goes with --init: it names the network that is trained from fresh weights")
        if self.lr <= 0 or self.class_balance < 0 or 0 < self.class_balance <= 1:
            raise UsageError(f"lr must be above 0 and class_balance 0 or above 1, not {self.lr}, {self.class_balance}")

    @property
    def crop_hw(self) -> tuple[int, int]:
        return parse_size(self.crop)

    @property
    def train_hw(self) -> tuple[int, int] | None:
        return None if self.train_size is None else parse_size(self.train_size)

    def model_config(self) -> dict[str, Any]:
        """The config fields to build the architecture with, except its classes.

        Raises:
            UsageError: an entry of `set` is not FIELD=VALUE or sets the classes, or `encoder` is given for a model that
                names its encoder.
        """
        if self.encoder is not None and ":" in self.model:
            raise UsageError(f"{self.model} names its encoder itself: leave --encoder {self.encoder} out")
        fields: dict[str, Any] = {} if self.encoder is None else {"encoder": self.encoder}
        for entry in self.set:
            name, equals, text = entry.partition("=")
            if not (name and equals and text):
                raise UsageError(f"--set {entry!r} is not FIELD=VALUE, for example output_stride=16")
            try:
                fields[name] = json.loads(text)  # numbers, true and false, lists such as [1,2,4]
            except ValueError:
                fields[name] = text
        if "classes" in fields:
            raise UsageError("the classes follow from the data set: leave --set classes out")
        return fields

    def decisive(self) -> dict[str, Any]:
        """The fields of `to_json` that decide the weights, and not just speed or how often the run is inspected."""
        idle = ("validate_every", "checkpoint_every", "workers", "threads", "compile")
        return {name: value for name, value in self.to_json().items() if name not in idle}

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON; paths, which do not affect the weights, are left out or cut to the file's name."""
        data = asdict(self)
        for path in ("root", "output", "init", "teacher", "unlabelled"):  # the lineage names the last three
            del data[path]
        given = [self._without_folder(entry) for entry in self.set]
        lists = {"set": given, "holdouts": list(self.holdouts or ()), "scale": list(self.scale)}
        weights = {"exit_weights": list(self.exit_weights)} if self.exit_weights else {}
        del data["exit_weights"]  # keeps the recipes of networks without exits as they were
        return {**data, **lists, **weights}

    @staticmethod
    def _without_folder(entry: str) -> str:
        field, _, value = entry.partition("=")
        return f"{field}={Path(value).name}" if field == "pretrained" else entry
