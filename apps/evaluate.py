"""`rtseg eval`: scores a network with any engine on any data set, and how steady its labels are on a video."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rtseg.apps._exits import score_exits, tell_exits
from rtseg.apps._idle import refuse_idle
from rtseg.apps._score_data import about, score_averaged, score_data, score_steady
from rtseg.apps._scores import tell_scores, tell_stability
from rtseg.core.errors import UsageError
from rtseg.core.files import write_json
from rtseg.core.runspec import AUTO, RunSpec
from rtseg.core.sizes import parse_size


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `rtseg eval` takes.

    Attributes:
        model: A network that ships (`rtseg models` lists them), or the path of an ONNX file with its card beside it.
        data: Data set (`rtseg data list` names them); camvid by default. With --stability, no data set is scored unless
            --data or --root is given.
        root: The data set's folder.
        split: val, test, train, or another split of the data set.
        engine: 'auto' takes the fastest installed engine, measured once on this machine.
        precision: fp32, fp16 or int8. It is never replaced: a precision that cannot run is an error.
        size: The network's input size, HEIGHTxWIDTH; by default it depends on the size of the pictures.
        threads: CPU threads; by default every core.
        flip: Also score test-time averaging over each picture and its mirror image. Reported separately.
        scales: Also score test-time averaging over these factors of the input size, for example 0.75,1,1.25. Reported
            separately.
        exits: Also score every early exit of the network, leaving early, and refining regions with the settings in its
            card.
        calibrate_exits: Find when frames, and regions of frames, may stop early if this much mIoU may be lost on the
            split, 0.002 for 0.2 points; write the result, and the scores of each exit, into the network's card.
        boundary_tolerance: How far a boundary may be off for the boundary F1, as a share of the picture's diagonal.
        steady: Also score labels that are averaged over time, as with `rtseg-video --steady`: with --stability, and on
            the split, whose pictures must then be consecutive frames. Reported separately.
        calibrate: Fit the temperature of the network's confidence on the split, which must not be one that it was
            trained on, and write it into the network's card.
        stability: Also measure, on this source, how often labels flip on still pixels and how consistent they are along
            the optical flow: a video, a folder of consecutive frames, a URL, a camera, or synthetic.
        frames: How many frames of that source; by default all, or 300 if it has no end.
        picture: Draw picture, ground truth and prediction of four evenly spaced pictures of the split into this file.
        enter: Write the figures of the data set into the network's card.
        json: Write the figures to this file.
    """

    model: str = "icnet"
    data: str | None = None
    root: Path | None = None
    split: str = "val"
    engine: str = "auto"
    precision: str = "fp32"
    size: str | None = None
    threads: int | None = None
    flip: Annotated[bool, Parameter(negative="")] = False
    scales: str = "1"
    steady: Annotated[bool, Parameter(negative="")] = False
    calibrate: Annotated[bool, Parameter(negative="")] = False
    exits: Annotated[bool, Parameter(negative="")] = False
    calibrate_exits: float | None = None
    boundary_tolerance: float = 0.0075
    stability: str | None = None
    frames: int | None = None
    picture: Path | None = None
    enter: Annotated[bool, Parameter(negative="")] = False
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.enter and (self.data_set is None or self.precision != "fp32"):
            raise UsageError("--enter writes fp32 figures on a data set: give --data, leave --precision out")
        if self.calibrate and (self.data_set is None or self.precision != "fp32"):
            raise UsageError("--calibrate fits the fp32 form on a data set: give --data, leave --precision out")
        if self.frames is not None and self.frames < 2:
            raise UsageError(f"--frames {self.frames} is not allowed: stability compares frames, so give 2 or more")
        if self.frames is not None and self.stability is None:
            raise UsageError("--frames is for --stability SOURCE: give that too; a split is always scored as a whole")
        if (self.averages or self.picture is not None or self.scores_exits) and self.data_set is None:
            raise UsageError("--flip, --scales, --picture and --exits need a data set: give --data or --root too")
        if self.data_set is None:
            refuse_idle(self, ("split", "boundary_tolerance"), "is for a data set: give --data or --root too")
        if self.scores_exits and self.precision == AUTO:
            raise UsageError("--exits and --calibrate-exits need one precision: give --precision fp32 or int8")
        if self.calibrate_exits is not None and not 0 <= self.calibrate_exits < 1:
            raise UsageError(f"--calibrate-exits {self.calibrate_exits} is not allowed: give the mIoU that may be "
                             "lost, 0 or more, for example 0.002")  # fmt: skip

    @property
    def data_set(self) -> str | None:
        """The data set to score, if any."""
        return self.data or ("camvid" if self.stability is None or self.root is not None else None)

    @property
    def scores_exits(self) -> bool:
        """Whether early exits are scored too."""
        return self.exits or self.calibrate_exits is not None

    @property
    def averages(self) -> bool:
        """Whether test-time averaging is scored too."""
        return self.flip or self.factors != (1.0,)

    @property
    def factors(self) -> tuple[float, ...]:
        """`scales` as numbers."""
        try:
            return tuple(float(factor) for factor in self.scales.split(","))
        except ValueError:
            raise UsageError(f"--scales {self.scales!r} is not a list of factors, for example 0.75,1,1.25") from None


def command(options: EvalOptions | None = None) -> None:
    """Score a network with any engine on any data set, and how steady its labels are on a video."""
    options = options or EvalOptions()
    check_files(options)
    if options.enter or options.calibrate or options.calibrate_exits is not None:
        check_unseen(options)
    figures = score(options)
    if "miou" in figures:
        tell_scores(figures)
    if "exits" in figures:
        tell_exits(figures)
    if "stability" in figures:
        tell_stability(figures)
    if options.json is not None:
        write_json(options.json, figures)
    if options.enter:
        enter_figures(options, figures)
    if options.calibrate:
        from rtseg.apps._calibrate import enter_temperature

        enter_temperature(options.model, figures["temperature"], f"{options.data_set}/{options.split}")


def check_files(options: EvalOptions) -> None:
    """Raises UsageError if an output would replace an input, OutputError if it cannot be written."""
    from rtseg.apps._overwrite import check_outputs, source_files
    from rtseg.core.zoo import resolve
    from rtseg.sinks.base import check_picture

    inputs = {
        "a file of the data set": [options.root],
        "the source": source_files(options.stability) if options.stability is not None else [],
        "the network": resolve(options.model).paths,
    }
    check_outputs({"--json": options.json, "--picture": options.picture}, inputs)
    if options.picture is not None:
        check_picture(options.picture)


def score(options: EvalOptions) -> dict[str, Any]:
    """Measures what was asked for and returns the figures as JSON values.

    "miou" and the other keys of the data set are for the real-time path: one picture, one scale.
    """
    from rtseg.core.zoo import resolve
    from rtseg.datasets import open_data
    from rtseg.live.spec import check_spec, default_size

    size_hw = parse_size(options.size) if options.size else None
    spec = RunSpec(options.model, options.engine, options.precision, size_hw, options.threads)
    card = check_spec(spec).card
    check_before(options, spec)
    figures: dict[str, Any] = {}
    if options.data_set is not None:
        data = open_data(options.data_set, options.root, options.split)
        sized = replace(spec, size_hw=size_hw or default_size(card, data.size_hw))
        figures |= score_data(options, sized, data)
        if options.averages:
            figures["test_time"] = score_averaged(options, sized, data)
        if options.steady:
            figures["steady"] = score_steady(options, sized, data)
        if options.scores_exits:
            where = f"{options.data_set}/{options.split}"
            figures |= score_exits(resolve(options.model), sized, data, where, options.calibrate_exits)
    if options.stability is not None:
        from rtseg.apps._stability import measure_stability

        figures["stability"], info = measure_stability(options.stability, options.frames, spec, options.steady)
        figures = {**about(card, info), **figures}
    return figures


def check_before(options: EvalOptions, spec: RunSpec) -> None:
    """Finds errors in later steps before minutes are spent on earlier ones."""
    from rtseg.core.zoo import resolve
    from rtseg.live.labellers.averaging import Averaging
    from rtseg.live.labellers.scoring import check_scores
    from rtseg.live.segmenter import Segmenter
    from rtseg.live.spec import check_spec
    from rtseg.sources.open import open_source

    if options.steady or options.calibrate:
        check_scores(check_spec(spec).card)
    Averaging(Segmenter(spec), options.factors, options.flip).close()
    if options.scores_exits:
        resolve(options.model).chain(options.precision)
    if options.stability is not None and options.data_set is not None:
        open_source(options.stability).close()


def check_unseen(options: EvalOptions) -> None:
    """Raises UsageError if the network was trained on the data it would be scored on."""
    from rtseg.core.zoo import resolve
    from rtseg.datasets.lineage import seen_split

    assert options.data_set is not None
    seen = seen_split(resolve(options.model).card.recipe, options.data_set, options.split)
    if seen is not None:
        raise UsageError(f"{options.model} was trained on {seen}, which has pictures of {options.data_set}/"
                         f"{options.split}: such figures may not go into a card")  # fmt: skip


def enter_figures(options: EvalOptions, figures: dict[str, Any]) -> None:
    """Writes the data set's real-time figures into the network's card; figures for other sizes stay there."""
    from rtseg.core.zoo import resolve

    artifact = resolve(options.model)
    where = f"{options.data_set}/{options.split}"
    before = artifact.card.figures().get(where, {})
    kept = ("miou", "pixel_accuracy", "boundary_f1", "iou", "boundary_f1_by_class", "frames", "ece", "temperature",
            "ece_at_temperature_1")  # fmt: skip
    entry = {key: figures[key] for key in kept if key in figures}
    if "sizes" in before:
        entry["sizes"] = before["sizes"]
    artifact.save_card(artifact.card.with_figures("fp32", {where: entry}))
