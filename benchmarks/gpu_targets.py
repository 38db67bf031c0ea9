"""The targets for the rows of `gpu.py`, as ratios of rows in the same run; `met` is None while a row is missing."""

from collections.abc import Iterator
from typing import Any

Rows = dict[str, Any]
_LOSS = {"fp16": 0.002, "int8": 0.005}
_AGAINST_TORCH = {"enet": 2.0, "icnet": 2.0}
_OTHERS = 1.2
_PLACE = "icnet/fp16/1024x2048"


def targets(rows: Rows) -> list[dict[str, Any]]:
    """Every target with the measured value; roofline shares, which have no target, come last."""
    return [*_speed(rows), *_against_torch(rows), *_labels(rows), *_accuracy(rows), *_roofline(rows)]


def target(text: str, wanted: float | None, measured: float | None) -> dict[str, Any]:
    met = None if measured is None or wanted is None else measured >= wanted
    return {"target": text, "wanted": wanted, "measured": None if measured is None else round(measured, 4), "met": met}


def _figure(rows: Rows, name: str, *path: str) -> Any:
    """A figure of a finished row, by its keys; None if it is missing."""
    found: Any = rows.get(name, {})
    if found.get("status") != "done":
        return None
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _speed(rows: Rows) -> Iterator[dict[str, Any]]:
    row = f"tensorrt/{_PLACE}"
    yield target("ICNet FP16 at 1024x2048, network alone, fps", 800, _figure(rows, row, "network_fps"))
    yield target("the same from host picture to host labels, fps", 400, _figure(rows, row, "throughput_fps"))
    decode, loop = (_figure(rows, f"loop/{_PLACE}", name) for name in ("decode_fps", "loop_fps"))
    yield target("the same in the whole loop on a file, fps", min(120, 0.9 * decode) if decode else None, loop)


def _against_torch(rows: Rows) -> Iterator[dict[str, Any]]:
    """One picture at a time, both in the same precision and size: the ratio of the medians."""
    for name in sorted(rows):
        if name.startswith("torch-cuda/"):
            place = name.removeprefix("torch-cuda/")
            theirs, ours = (_figure(rows, row, "labels_ms", "p50") for row in (name, f"tensorrt/{place}"))
            ratio = theirs / ours if theirs and ours else None
            wanted = _AGAINST_TORCH.get(place.split("/")[0], _OTHERS)
            yield target(f"{place}, host to labels, times as fast as compiled torch", wanted, ratio)


def _labels(rows: Rows) -> Iterator[dict[str, Any]]:
    for name in sorted(rows):
        if name.startswith("torch-cuda/"):
            place = name.removeprefix("torch-cuda/")
            ours = _figure(rows, f"tensorrt/{place}", "label_kernel_ms", "p50")
            for form, wanted in (("eager", 5.0), ("compiled", None)):
                theirs = _figure(rows, name, "label_torch_ms", form)
                ratio = theirs / ours if theirs and ours else None
                yield target(f"{place}, upsampling and argmax, times as fast as {form} torch", wanted, ratio)


def _accuracy(rows: Rows) -> Iterator[dict[str, Any]]:
    for name in sorted(rows):
        if name.startswith("miou/tensorrt/"):
            _, _, model, precision = name.split("/")
            ours, theirs = _figure(rows, name, "miou"), _figure(rows, f"miou/torch-cuda/{model}/fp32", "miou")
            kept = ours - theirs if ours is not None and theirs is not None else None
            yield target(f"{model} {precision}, mIoU on CamVid val minus torch's", -_LOSS.get(precision, 0.002), kept)


def _roofline(rows: Rows) -> Iterator[dict[str, Any]]:
    """Shares of the half-precision matrix peak and the copy bandwidth measured in the same run."""
    peak, bandwidth = (_figure(rows, "machine", "ceilings", name) for name in ("half_tflops", "copy_gbps"))
    for name in sorted(rows):
        fps, work = _figure(rows, name, "network_fps"), _figure(rows, name, "work")
        if fps and work and peak and bandwidth:
            yield target(f"{name}, share of the FP16 matrix peak", None, work["gflop"] * fps / 1e3 / peak)
            yield target(f"{name}, share of the memory bandwidth", None, work["gb"] * fps / bandwidth)
