"""Precision audit: the type each convolution runs in, read from TensorRT's own layer report (TensorRT 10 and 11)."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rtseg.core.errors import EngineError
from rtseg.engines.tensorrt.typed_graph import Convolution

WANTED_SHARE = 0.9
"""Share of the attributable convolution work that must run in the requested type."""

_TYPES = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "fp16": re.compile(r"\b(fp16|half)\b", re.IGNORECASE),
    "bf16": re.compile(r"\b(bf16|bfloat16)\b", re.IGNORECASE),
    "fp32": re.compile(r"\b(fp32|float)\b", re.IGNORECASE),
}
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class Layer:
    """One layer of a built engine.

    Attributes:
        name: TensorRT's own, made of the names of everything that it fused.
        kind: its layer type, for example 'CaskConvolution'.
        nodes: names of the ONNX nodes that it computes.
        precision: the type that it computes in: that of its weights or of its first input; '' if unknown.
        format: memory layout of its first output.
        tactic: the kernel.
        ms: mean time, if it was measured.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    precision: str
    format: str
    tactic: str
    ms: float | None = None


@dataclass(frozen=True)
class Audit:
    """The types in which an engine's convolutions run.

    Attributes:
        attributable: share, 0..1, of the work that can be attributed to a layer of the engine.
        as_asked: share of the attributable work that runs in the requested type.
        shares: type -> share of the attributable work.
        wrong: one line per convolution that runs in another type, most expensive first.
    """

    attributable: float
    as_asked: float
    shares: dict[str, float]
    wrong: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_layers(text: str, times_ms: Mapping[str, float] | None = None) -> list[Layer]:
    """Reads TensorRT's layer report of an engine built with detailed verbosity.

    Raises:
        EngineError: it has only names, or is not the JSON that TensorRT 10 and 11 write.
    """
    times_ms = times_ms or {}
    try:
        entries = json.loads(text)["Layers"]
        if any(isinstance(entry, str) for entry in entries):
            raise EngineError(
                "TensorRT reports the layers' names only: the engine was built without detailed verbosity"
            )
        return [_layer(entry, times_ms) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"TensorRT's layer report cannot be read: {type(error).__name__}: {error}") from error


def _layer(entry: dict[str, Any], times_ms: Mapping[str, float]) -> Layer:
    inputs, outputs = entry.get("Inputs") or [], entry.get("Outputs") or []
    weights = entry.get("Weights")
    precision = type_name(weights["Type"]) if isinstance(weights, dict) and "Type" in weights else ""
    if not precision and inputs:
        precision = type_name(_type_text(inputs[0]))
    return Layer(
        name=entry["Name"],
        kind=entry.get("LayerType", ""),
        nodes=tuple(dict.fromkeys(_NODE.findall(entry.get("Metadata") or ""))),
        precision=precision,
        format=_format_text(outputs[0]) if outputs else "",
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or ""),
        ms=times_ms.get(entry["Name"]),
    )


def _type_text(tensor: dict[str, Any]) -> str:
    """TensorRT 10 writes 'Format/Datatype' in one string; 11 writes 'DataType' beside 'Format'."""
    return str(tensor.get("DataType") or tensor.get("Datatype") or tensor.get("Format/Datatype") or "")


def _format_text(tensor: dict[str, Any]) -> str:
    return str(tensor.get("Format/Datatype") or tensor.get("Format") or "")


def type_name(text: str) -> str:
    """'Half', 'FP16' or 'Channel major FP16 format' -> 'fp16'; '' for types that we do not use."""
    return next((name for name, pattern in _TYPES.items() if pattern.search(text)), "")


def audit(layers: list[Layer], convolutions: Mapping[str, Convolution]) -> Audit:
    """Weights each convolution that a layer names by its multiply-accumulates."""
    ran: dict[str, Layer] = {}
    for layer in layers:
        for node in layer.nodes:
            # a reformatting copy has the name of the layer that it feeds; only the convolution counts
            if node in convolutions and layer.precision and (node not in ran or _computes(layer)):
                ran[node] = layer
    total = sum(convolution.macs for convolution in convolutions.values())
    known = sum(convolutions[name].macs for name in ran)
    shares: dict[str, float] = {}
    for name, layer in ran.items():
        shares[layer.precision] = shares.get(layer.precision, 0.0) + convolutions[name].macs / known
    wrong = [name for name, layer in ran.items() if layer.precision != convolutions[name].precision]
    wrong.sort(key=lambda name: -convolutions[name].macs)
    lines = tuple(
        f"{name}: {ran[name].precision} instead of {convolutions[name].precision}, "
        f"{convolutions[name].macs / total:.1%} of the work, in layer {ran[name].name[:80]}"
        for name in wrong
    )
    return Audit(
        attributable=known / total if total else 0.0,
        as_asked=1 - sum(convolutions[name].macs for name in wrong) / known if known else 0.0,
        shares=shares,
        wrong=lines,
    )


def _computes(layer: Layer) -> bool:
    return "reformat" not in layer.kind.lower()


def require(result: Audit) -> None:
    """Raises EngineError with the layers if less than 90 % of the attributable work runs in the requested type."""
    if result.attributable == 0:
        raise EngineError("TensorRT's layer report names no convolution, so it cannot be told what the engine runs in")
    if result.as_asked < WANTED_SHARE:
        raise EngineError(
            f"only {result.as_asked:.1%} of the convolution work runs in the type that was asked for, "
            f"{WANTED_SHARE:.0%} is needed: {'; '.join(result.wrong[:8])}"
        )
