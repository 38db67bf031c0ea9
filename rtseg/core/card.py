"""The card of a network: what it is, how it was made, how it scores, and which files hold it."""

from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from rtseg.core.checked import check_fields, is_number, is_size, is_table, is_text, is_texts, is_whole, may_be_none
from rtseg.core.errors import UsageError, WeightsError
from rtseg.core.exits import REGIONS, Regions
from rtseg.core.files import read_json, write_json
from rtseg.core.labels import LabelSet
from rtseg.core.registry import unknown_name
from rtseg.core.sizes import Size, check_multiple, format_size, nearest_multiple

PRECISIONS = ("fp32", "fp16", "int8")
_TILE_HALOS = 4  # side of a tile by default, in halos: with its halo, a tile is 2.25 times the work
IMPORTED = "imported"
"""The architecture of a network from `rtseg import`: a graph only, with no torch model behind it."""

Output = Literal["logits", "labels"]
OUTPUTS: tuple[str, ...] = get_args(Output)


@dataclass(frozen=True)
class CardFile:
    """One ONNX file of a network, next to its card."""

    file: str
    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_fields(self, {"file": is_text, "sha256": is_text, "bytes": is_whole(0)})


@dataclass(frozen=True)
class Exit:
    """Where a network may stop: the graph that computes up to here from the outputs of the graphs before it.

    Attributes:
        name: the features that its classifier sees; the end of the network is 'last'.
        files: precision -> the graph. The first graph takes the picture; each outputs logits.
        gmac_1024x2048: 1e9 multiply-accumulates for one 1024x2048 picture up to here, earlier graphs included.
        hands_on: the tensors that it outputs beside its logits, for later graphs.
        metrics: as in `Card`.
        threshold: a frame whose mean entropy (0..1) is below this may stop here; None if it was not calibrated, and
            for the last exit.
        halo: pixels around a part of the picture that later graphs need for the same result as on the whole picture, a
            multiple of the card's `size_multiple`; None if they depend on the whole picture, if it was not measured,
            and for the last exit.
        regions: which regions stop here while others continue, as calibrated; at most one exit has this.
    """

    name: str
    files: dict[str, CardFile]
    gmac_1024x2048: float
    hands_on: tuple[str, ...] = ()
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    threshold: float | None = None
    halo: int | None = None
    regions: Regions | None = None

    def __post_init__(self) -> None:
        check_fields(self, {"name": is_text, "gmac_1024x2048": is_number, "hands_on": is_texts, "metrics": _is_figures,
                            "threshold": may_be_none(is_number), "halo": may_be_none(is_whole(0))})  # fmt: skip


@dataclass(frozen=True)
class Card:
    """Everything there is to know about a network without opening its graph.

    Attributes:
        name: its name for `--model`.
        model: architecture, a name of the model registry, or `IMPORTED`.
        config: the architecture's configuration (fields of its config dataclass).
        labels: classes, palette, ignore index.
        size_multiple: input height and width must be multiples of this.
        fixed_size: the only (height, width) that the graph takes; None: any that `size_multiple` allows.
        logits_stride: the logits are this many times smaller than the input in height and width, rounded up.
        output: 'logits', or 'labels': the graph outputs class ids, float32 (N, 1, h, w), which are enlarged without
            interpolation.
        train_size: (height, width) of the pictures that it was trained at.
        parameters: number of trainable parameters.
        gmac_1024x2048: 1e9 multiply-accumulates of one 1024x2048 picture; 0 if they were not counted.
        files: precision -> file; 'fp32' holds the weights as fp16 and computes in fp32.
        engine_order: engines that it runs on; if two are equally fast here, 'auto' takes the first.
        metrics: precision -> data set and split -> figures ("fp32" -> "camvid/val" -> {"miou": …, "iou": {…}}).
        recipe: how it was trained (configuration, epochs, seed).
        data_terms: where the training pictures come from, and how the weights may be used.
        normalisation: how the graph scales pictures: `mean` and `std` of RGB values in 0..1; depends on the trunk.
        activation_ranges: ONNX tensor -> [low, high], measured for the INT8 form.
        temperature: the logits are divided by it to get a confidence; labels do not depend on it.
        temperature_from: data set and split that it was fitted on; empty if it was not fitted.
        exits: in the order in which they run, the last one at the end of the network; empty if it has no early exits.
            `files` then hold the whole network as one graph, for engines that cannot stop.
    """

    name: str
    model: str
    config: dict[str, Any]
    labels: LabelSet
    size_multiple: int
    logits_stride: int
    train_size: Size
    parameters: int
    gmac_1024x2048: float
    files: dict[str, CardFile]
    engine_order: tuple[str, ...] = ("onnxruntime",)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)
    data_terms: str = ""
    normalisation: dict[str, tuple[float, ...]] = field(default_factory=dict)
    activation_ranges: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)
    fixed_size: Size | None = None
    output: Output = "logits"
    temperature: float = 1.0
    temperature_from: str = ""
    exits: tuple[Exit, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, _RULES)
        unknown = set(self.files) - set(PRECISIONS)
        if unknown:
            raise ValueError(f"card {self.name}: unknown precision {sorted(unknown)}; allowed: {', '.join(PRECISIONS)}")
        if self.output not in OUTPUTS:
            raise ValueError(f"card {self.name}: unknown output {self.output!r}; allowed: {', '.join(OUTPUTS)}")
        if not (is_number(self.temperature) and self.temperature > 0):
            raise ValueError(f"card {self.name}: temperature {self.temperature} must be a number above 0")

    @property
    def gives_labels(self) -> bool:
        """Whether the graph outputs class ids, without scores that could be interpolated."""
        return self.output == "labels"

    def check_size(self, size_hw: Size) -> Size:
        """Returns the size if the graph takes it, or raises UsageError with the sizes that it takes."""
        if self.fixed_size is None:
            return check_multiple(size_hw, self.size_multiple, self.name)
        if size_hw != self.fixed_size:
            raise UsageError(
                f"size {format_size(size_hw)} does not fit {self.name}: its graph takes {format_size(self.fixed_size)} "
                "only; leave the size out, or export the network with free height and width and import it again"
            )
        return size_hw

    def check_exit(self, exit: str) -> None:
        """Raises UsageError unless the network can stop as `RunSpec.exit` asks."""
        names = [each.name for each in self.exits]
        if not names:
            raise UsageError(f"{self.name} has no early exits: train it with --set exits=2")
        if exit == "auto":
            if all(each.threshold is None for each in self.exits):
                raise UsageError(f"the exits of {self.name} are not calibrated: run rtseg eval --calibrate-exits 0.002 "
                                 f"first, or name one of {', '.join(names)}")  # fmt: skip
        elif self.find_regions(exit) is None and exit not in names:
            raise unknown_name(f"exit of {self.name}", exit, ["auto", *names, REGIONS])

    def find_regions(self, exit: str) -> tuple[Exit, Regions] | None:
        """The exit whose unsure regions continue, and how they are found; None if whole frames stop or continue.

        Args:
            exit: as `RunSpec.exit`: 'regions' means what was calibrated, 'NAME:SURE' an exit and a probability.

        Raises:
            UsageError: nothing was calibrated, the exit or probability does not exist, or the exit has no halo.
        """
        if exit == REGIONS:
            return self._calibrated_regions()
        name, colon, text = exit.rpartition(":")
        if not colon:
            return None
        early = {each.name: each for each in self.exits[:-1]}
        if name not in early:
            raise unknown_name(f"early exit of {self.name}", name, list(early))
        try:
            sure = float(text)
        except ValueError:
            sure = -1.0
        if not (isfinite(sure) and sure >= 0):
            raise UsageError(f"exit {exit!r}: give a probability after the colon, 0 or more, for example {name}:0.9")
        halo, regions = early[name].halo, early[name].regions
        if halo is None:
            raise UsageError(f"the regions of {self.name} cannot be refined from {name} on: what follows sees the "
                             "whole picture (it pools over all of it), or the network was exported before regions "
                             "were measured; use --exit auto, or export it again")  # fmt: skip
        return early[name], Regions(sure, regions.tile_hw if regions else (_TILE_HALOS * halo, _TILE_HALOS * halo))

    def _calibrated_regions(self) -> tuple[Exit, Regions]:
        for each in self.exits:
            if each.regions is not None:
                return each, each.regions
        named = " or ".join(f"{each.name}:0.9" for each in self.exits if each.halo) or "--exit auto"
        raise UsageError(f"{self.name} has no regions calibrated that save work: run rtseg eval --calibrate-exits "
                         f"0.002, or try {named}")  # fmt: skip

    def nearest_size(self, size_hw: Size) -> Size:
        """The input size closest to `size_hw` that the graph takes."""
        return self.fixed_size or nearest_multiple(size_hw, self.size_multiple)

    def output_shape(self, size_hw: Size) -> tuple[int, int, int]:
        """(channels, height, width) of the graph's output for one picture of this size."""
        height, width = (-(-side // self.logits_stride) for side in size_hw)
        return (1 if self.gives_labels else len(self.labels)), height, width

    def figures(self, precision: str = "fp32") -> dict[str, Any]:
        """Data set and split -> the scores in a precision; empty if none were measured."""
        return self.metrics.get(precision, {})

    def with_figures(self, precision: str, figures: dict[str, Any]) -> "Card":
        """A copy with more figures for a precision; they replace those of splits that were measured before."""
        entered = {**self.figures(precision), **figures}
        return replace(self, metrics={**self.metrics, precision: entered})

    def with_exit(self, name: str, **changes: Any) -> "Card":
        """A copy with changed fields of one exit."""
        return replace(
            self, exits=tuple(replace(exit, **changes) if exit.name == name else exit for exit in self.exits)
        )

    def to_json(self) -> dict[str, Any]:
        data = {**asdict(self), "labels": self.labels.to_json()}
        if not self.exits:
            del data["exits"]
        return data

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Card":
        known = dict(data)
        known["labels"] = LabelSet.from_json(data["labels"])
        known["files"] = _files(data["files"])
        known["exits"] = tuple(_exit(exit) for exit in data.get("exits", ()))
        known["metrics"] = by_precision(data.get("metrics", {}))
        known["train_size"] = (int(data["train_size"][0]), int(data["train_size"][1]))
        if (fixed := data.get("fixed_size")) is not None:
            known["fixed_size"] = (int(fixed[0]), int(fixed[1]))
        known["engine_order"] = _as_tuple(data["engine_order"])
        known["normalisation"] = {name: tuple(v) for name, v in data.get("normalisation", {}).items()}
        ranges = data.get("activation_ranges", {})
        known["activation_ranges"] = {tensor: (float(low), float(high)) for tensor, (low, high) in ranges.items()}
        return cls(**known)

    @classmethod
    def load(cls, path: Path) -> "Card":
        """Reads a card; raises WeightsError if the file is missing or is not a card."""
        try:
            return cls.from_json(read_json(path))
        except FileNotFoundError:
            raise WeightsError(f"no card at {path}: an ONNX file needs its JSON card beside it") from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise WeightsError(f"{path} is not a card that `rtseg export` wrote: {error}") from error


def _is_figures(value: Any) -> bool:
    """precision -> split -> figures, whose mIoU is a number where there is one."""
    splits = [split for of_form in value.values() for split in of_form.values()]
    return all(is_number(split.get("miou", 0)) for split in splits)


_RULES = {
    "name": is_text, "model": is_text, "config": is_table, "size_multiple": is_whole(1, 4096),
    "logits_stride": is_whole(1, 4096), "train_size": is_size, "parameters": is_whole(0), "gmac_1024x2048": is_number,
    "engine_order": is_texts, "metrics": _is_figures, "recipe": is_table, "data_terms": is_text,
    "fixed_size": may_be_none(is_size), "temperature_from": is_text,
}  # fmt: skip


def _as_tuple(value: Any) -> Any:
    """A tuple of what was a list; text is none of letters."""
    return tuple(value) if isinstance(value, list) else value


def _files(data: dict[str, Any]) -> dict[str, CardFile]:
    return {precision: CardFile(**file) for precision, file in data.items()}


def _exit(data: dict[str, Any]) -> Exit:
    regions = Regions.from_json(data["regions"]) if data.get("regions") else None
    return Exit(**{**data, "files": _files(data["files"]), "hands_on": _as_tuple(data["hands_on"]), "regions": regions})


def by_precision(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A card's figures; cards from before November 27, 2026 had those of FP32 at the top level, beside "int8"."""
    outside = {split: figures for split, figures in metrics.items() if split not in PRECISIONS}
    found = {precision: figures for precision, figures in metrics.items() if precision in PRECISIONS}
    return {**found, "fp32": {**outside, **found.get("fp32", {})}} if outside else found
