"""The ONNX file as a checkpoint: what ships is also where fine-tuning and the torch engine start."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rtseg.core.errors import WeightsError
from rtseg.core.weights import Artifact
from rtseg.models import build_model
from rtseg.models.base import SegmentationModel

OPTIONAL = "auxiliary"
"""State-dict keys that start so belong to classifiers that only training uses: an exported file has none."""


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
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {
        name: torch.from_numpy(array.astype(np.float32))
        for name, array in arrays.items()
        if array.dtype in (np.float16, np.float32)
    }


def restore(model: SegmentationModel, weights: dict[str, Tensor], origin: str) -> None:
    """Puts weights into a network; only auxiliary classifiers and batch counters may be missing from them.

    Args:
        model: receives the weights.
        weights: by state-dict key; keys that the network does not have are ignored.
        origin: where they come from, for the error message.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """
    wanted = model.state_dict()
    found = {name: tensor for name, tensor in weights.items() if name in wanted}
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    needed = [name for name in missing if not name.startswith(OPTIONAL)]
    shapes = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if needed or shapes:
        what = f"lacks {needed[0]}" if needed else (
            f"has {shapes[0]} as {tuple(found[shapes[0]].shape)} instead of {tuple(wanted[shapes[0]].shape)}"
        )  # fmt: skip
        raise WeightsError(f"{origin} does not fit {type(model).__name__} of {model.config}: it {what}")
    model.load_state_dict(found, strict=False)


def load_network(artifact: Artifact) -> SegmentationModel:
    """Rebuilds the torch network that an ONNX file was exported from, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, or does not fit its card.
    """
    path = artifact.file("fp32")
    model = build_model(artifact.card.model, artifact.card.config)
    restore(model, load_state_dict(path), str(path))
    return model.eval()
