"""The ONNX file as a checkpoint: fine-tuning and the torch engine start from the shipped file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rtseg.core.errors import WeightsError
from rtseg.core.zoo import Artifact
from rtseg.models import build_model
from rtseg.models.base import SegmentationModel


def may_lack(key: str) -> bool:
    """Whether the graph of a whole network may lack a state-dict key: a counter, or part of a classifier that only
    training or an early exit uses."""
    return key.startswith(("auxiliary", "exits.")) or key.endswith("num_batches_tracked")


def is_classifier(key: str) -> bool:
    """Whether a state-dict key belongs to the layer that outputs the classes, in our networks or in smp's."""
    return key.startswith(("classifier.", "network.segmentation_head."))


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads a network's parameters and buffers, as float32, from an ONNX file written by `rtseg export`.

    Raises:
        WeightsError: the file cannot be read.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises its own exceptions, which differ between its implementations
        raise WeightsError(f"{path} is not an ONNX file that can be read: {error}") from error
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32)) for tensor in graph.initializer
    }


def restore(model: SegmentationModel, weights: dict[str, Tensor], origin: str) -> None:
    """Loads weights into a network; only those that inference does not need may be missing.

    Args:
        model: receives the weights.
        weights: by state-dict key.
        origin: where they come from, for the error message.

    Raises:
        WeightsError: a weight is missing, has another shape, or has no place in the network.
    """
    own = model.state_dict()
    problems = [f"lacks {name}" for name in own if name not in weights and not may_lack(name)]
    problems += [f"has {name}, which is not in the network" for name in weights if name not in own]
    problems += [
        f"has {name} as {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own if name in weights and weights[name].shape != own[name].shape
    ]  # fmt: skip
    if problems:
        raise WeightsError(f"{origin} does not fit {type(model).__name__} with {model.config}: it {problems[0]}")
    model.load_state_dict(weights, strict=False)


def load_network(artifact: Artifact) -> SegmentationModel:
    """Rebuilds the torch network that an ONNX file was exported from, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, or does not fit its card.
    """
    model = build_model(artifact.card.model, artifact.card.config)
    restore(model, load_weights(artifact), str(artifact.file("fp32")))
    return model.eval()


def load_weights(artifact: Artifact) -> dict[str, Tensor]:
    """All weights of a network by state-dict key, exits included; raises as `load_network` does."""
    weights = load_state_dict(artifact.file("fp32"))
    for path in artifact.chain("fp32") if artifact.card.exits else ():
        weights |= load_state_dict(path)
    return weights
