"""The ONNX file as a checkpoint: what ships is also where fine-tuning and the torch engine start."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rtseg.core.errors import WeightsError
from rtseg.core.zoo import Artifact
from rtseg.models import build_model
from rtseg.models.base import SegmentationModel


def may_lack(key: str) -> bool:
    """Whether the graph of a whole network need not hold a state-dict key: classifiers that only training or an early
    exit uses, and counters."""
    return key.startswith(("auxiliary", "exits.")) or key.endswith("num_batches_tracked")


def is_classifier(key: str) -> bool:
    """Whether a state-dict key is of the layer that gives the classes, in our networks or in those of smp."""
    return key.startswith(("classifier.", "network.segmentation_head."))


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the parameters and buffers of a network from the ONNX file that `rtseg export` made, as float32.

    Raises:
        WeightsError: the file cannot be read.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises its own kinds, which differ between its implementations
        raise WeightsError(f"{path} is not an ONNX file that can be read: {error}") from error
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32)) for tensor in graph.initializer
    }


def restore(model: SegmentationModel, weights: dict[str, Tensor], origin: str) -> None:
    """Puts weights into a network; only what only training uses may be missing from them.

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
    """All weights of a network by state-dict key, those of its exits among them; raises as `load_network` does."""
    weights = load_state_dict(artifact.file("fp32"))
    for path in artifact.chain("fp32") if artifact.card.exits else ():
        weights |= load_state_dict(path)
    return weights
