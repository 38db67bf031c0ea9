"""`rtseg compile --engine tensorrt`: builds, checks and caches an engine for this machine's GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rtseg.apps._console import plain_console, tracked
from rtseg.apps._overwrite import check_outputs, source_files
from rtseg.apps.compile import ALLOWED_LOSS, CompileOptions, calibration_pictures, input_size, score
from rtseg.core.errors import EngineError, ParityError, UsageError
from rtseg.core.files import write_json
from rtseg.core.sizes import Size, format_size
from rtseg.core.zoo import Artifact

if TYPE_CHECKING:
    import numpy as np

    from rtseg.engines.tensorrt.cache import EngineCache, PlanKey

_SENSITIVITY_PICTURES = 2
_LISTED = 8


def compile_tensorrt(artifact: Artifact, options: CompileOptions) -> None:
    """Builds the engine for the options unless it is cached, makes it the preferred one, and prints what it is.

    Raises:
        UsageError: options that contradict each other, or INT8 for a network without activation ranges.
        EngineError: no GPU, TensorRT missing, or it cannot build the network as asked.
        ParityError: its labels differ from onnxruntime's, or INT8 loses too much mIoU.
    """
    check_options(artifact, options)
    check_report(artifact, options)
    from rtseg.engines import missing

    if (reason := missing("tensorrt")) is not None:
        raise EngineError(reason)
    try:
        from rtseg.engines.cuda.memory import Device
        from rtseg.engines.tensorrt.cache import BuildOptions, EngineCache
        from rtseg.engines.tensorrt.compile import build_entry
        from rtseg.engines.tensorrt.engine import plan_key
        from rtseg.engines.tensorrt.plan import check_version
    except (ImportError, OSError) as error:
        said = " ".join(str(error).split())
        raise EngineError(
            f"TensorRT is installed but cannot be loaded ({said}): pip install 'rtseg[tensorrt]'"
        ) from error

    check_version()
    device, cache, precision = Device(), EngineCache(), options.precision or "fp16"
    size_hw = input_size(artifact.card, options.size)
    keep = (*options.keep, *worst_convolutions(artifact, options))
    built = BuildOptions(options.optimization_level, options.workspace, options.tf32, keep)
    key = plan_key(artifact.card, precision, size_hw, device.info, built)
    pictures = calibration_pictures(options, size_hw) if options.frames is not None else []
    with cache.lock(key):
        entry = None if options.rebuild else cache.find(key)
        fresh = entry is None
        entry = entry or build_entry(artifact, key, device, cache, pictures)
    report = {**entry.report, "precision": precision, "tf32": options.tf32, "size": list(size_hw), "key": key.to_json()}
    with preferred(cache, key):  # so that this engine is scored
        if options.data is not None:
            report["miou"] = check_loss(artifact, precision, options, size_hw)
    if options.report is not None:
        write_json(options.report, report)
    tell(artifact.card.name, report, fresh)


@contextmanager
def preferred(cache: "EngineCache", key: "PlanKey") -> Iterator[None]:
    """Makes an engine the preferred one; after an error, the previous one is preferred again."""
    before = cache.preferred(key)
    cache.prefer(key)
    try:
        yield
    except ParityError as error:
        cache.refuse(key, str(error).partition(";")[0], before)
        raise
    except BaseException:
        cache.restore(key, before)
        raise


def check_options(artifact: Artifact, options: CompileOptions) -> None:
    """Finds errors before minutes are spent on building."""
    if not 0 <= options.optimization_level <= 5:
        raise UsageError(f"--optimization-level {options.optimization_level} is not allowed: give 0 to 5")
    if options.workspace is not None and options.workspace < 1:
        raise UsageError(f"--workspace {options.workspace} is too little: give MiB, 1 or more")
    if options.tf32 and options.precision != "fp32":
        raise UsageError("--tf32 goes with --precision fp32 only")
    if options.keep_worst < 0 or (options.keep_worst and options.precision != "int8"):
        raise UsageError("--keep-worst goes with --precision int8 only, and takes 0 or more")
    if options.precision == "int8" and not artifact.card.activation_ranges:
        raise UsageError(
            f"the card of {artifact.card.name} has no activation ranges: rtseg compile --precision int8 with --data "
            "and --root, or with --frames, measures them"
        )


def check_report(artifact: Artifact, options: CompileOptions) -> None:
    """Raises UsageError if the report would replace an input, OutputError if it cannot be written."""
    inputs = {
        "the network": artifact.paths,
        "a file of the data set": [options.root],
        "a picture of --frames": source_files(str(options.frames)) if options.frames is not None else [],
    }
    check_outputs({"--report": options.report}, inputs)


def worst_convolutions(artifact: Artifact, options: CompileOptions) -> list[str]:
    """Names of the convolutions that --keep-worst keeps in FP16."""
    if not options.keep_worst:
        return []
    found = sensitivity(artifact, options)[: options.keep_worst]
    plain_console().print("kept in fp16:\n" + sensitivity_lines(found))
    return [entry.convolution for entry in found]


def sensitivity(artifact: Artifact, options: CompileOptions) -> list[Any]:
    """Every convolution that INT8 quantises, most sensitive first, measured on the CPU at the training size."""
    from rtseg.engines.tensorrt.gate import street_frames
    from rtseg.engines.tensorrt.sensitivity import measure_sensitivity

    size_hw = input_size(artifact.card, None)
    given: list[np.ndarray] = []
    if options.frames is not None or options.data is not None:
        given = calibration_pictures(options, size_hw)
    images = (given or street_frames(size_hw))[:_SENSITIVITY_PICTURES]
    ranges = artifact.card.activation_ranges
    return measure_sensitivity(
        artifact.file("fp32"), ranges, images, lambda names: tracked(list(names), "measuring sensitivity")
    )


def sensitivity_lines(found: list[Any]) -> str:
    """One line per convolution."""
    return "\n".join(
        f"  {entry.convolution}: {entry.differing:.2%} of the cells change, logits by {entry.error:.1%}"
        for entry in found
    )


def check_loss(artifact: Artifact, precision: str, options: CompileOptions, size_hw: Size) -> dict[str, float]:
    """mIoU of onnxruntime's FP32 file and of the engine, at the same input size.

    Raises:
        ParityError: INT8 loses more than allowed; lists the convolutions that lose most.
    """
    before = score(artifact, "fp32", options, size=size_hw)["miou"]
    after = score(artifact, precision, options, "tensorrt", size_hw)["miou"]
    lost = before - after
    console = plain_console()
    line = f"mIoU on {options.data} val: fp32 {before:.4f}, tensorrt {precision} {after:.4f}, lost {lost:.4f}"
    console.print(line)
    if precision == "int8" and lost > ALLOWED_LOSS:
        if not options.force:
            worst = sensitivity_lines(sensitivity(artifact, options)[:_LISTED])
            console.print(f"most sensitive to INT8:\n{worst}")
            raise ParityError(
                f"{line}; {ALLOWED_LOSS} is allowed, nothing was kept: --keep-worst 4 keeps the four most sensitive "
                "convolutions in FP16, --force keeps the engine as it is"
            )
        console.print(f"kept because of --force, though more than {ALLOWED_LOSS} is lost")
    return {"fp32": before, precision: after, "lost": round(lost, 4)}


def tell(name: str, report: dict[str, Any], fresh: bool) -> None:
    """Prints in a few lines what was built: everything is read from the result, nothing from the options."""
    audit = report["audit"]
    shares = ", ".join(f"{share:.1%} {kind}" for kind, share in sorted(audit["shares"].items(), key=lambda kv: -kv[1]))
    tf32 = " with TF32" if report["tf32"] else ""
    print_line = plain_console().print
    print_line(
        f"{name} {report['precision']}{tf32} at {format_size(report['size'])}: {'built' if fresh else 'kept already'}, "
        f"TensorRT {report['tensorrt']} on {report['gpu']}; {report['agreement']:.2%} of onnxruntime's labels on "
        f"{report['frames']} frames",
    )
    print_line(
        f"convolution work: {shares}; {audit['as_asked']:.1%} as asked, {audit['attributable']:.1%} attributable",
    )
    for line in audit["wrong"][:_LISTED]:
        print_line(f"  {line}")
    slowest = sorted((layer for layer in report["layers"] if layer["ms"]), key=lambda layer: -layer["ms"])[:_LISTED]
    for layer in slowest:
        print_line(
            f"  {layer['ms']:.3f} ms  {layer['precision'] or '?':5} {layer['name'][:60]}  [{layer['format']}]",
        )  # fmt: skip
