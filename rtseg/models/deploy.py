"""The graph that ships: from a camera frame to logits or labels.

Colour order, scaling, mean and standard deviation are defined here and nowhere else, so that training, evaluation,
calibration and live use cannot drift apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import Normalisation, SegmentationModel

OUTPUTS = ("logits", "labels")


def normalise(images: Tensor, by: Normalisation) -> Tensor:
    """uint8 BGR (N, H, W, 3) -> float32 RGB (N, 3, H, W), about zero mean and unit variance."""
    mean = torch.tensor([255 * value for value in by.mean], device=images.device)
    scale = torch.tensor([1 / (255 * value) for value in by.std], device=images.device)
    rgb = images.permute(0, 3, 1, 2).flip(1).float()
    return (rgb - mean[:, None, None]) * scale[:, None, None]


def network_input(network: SegmentationModel, images: Tensor) -> Tensor:
    """uint8 BGR images (N, H, W, 3) -> the network's input, float32 (N, 3, H, W), channels last in memory."""
    return normalise(images, network.normalisation).contiguous(memory_format=torch.channels_last)


class ExitsGraph(nn.Module):
    """Pre-processing and a network with exits: the logits of every exit, the network's end last."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 BGR (N, H, W, 3) -> float32 (N, C, h, w) of each exit, each at its own size."""
        features = self.model.features(normalise(images, self.model.normalisation))
        early = self.model.auxiliary_logits(features)[: len(self.model.early)]
        return *early, self.model.classify(features)


class DeployGraph(nn.Module):
    """Pre-processing and a network.

    Args:
        model: the network; put it in evaluation mode for anything but tests.
        output: 'logits' for float32 (N, C, H/s, W/s), 'labels' for uint8 (N, H, W) at the input size.

    Example:
        >>> DeployGraph(build_model("icnet", {}).eval())(torch.zeros(1, 256, 512, 3, dtype=torch.uint8)).shape
        torch.Size([1, 11, 64, 128])
    """

    def __init__(self, model: SegmentationModel, output: str = "logits") -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise UsageError(f"unknown output {output!r}; allowed: {', '.join(OUTPUTS)}")
        self.model = model
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """uint8 BGR (N, H, W, 3) -> logits or labels, see `output`."""
        logits: Tensor = self.model(normalise(images, self.model.normalisation))
        if self.output == "logits":
            return logits
        stride = self.model.logits_stride
        if stride > 1:
            logits = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)
