"""The graph that ships: a camera's picture in, logits or labels out.

Colour order, scaling, mean and standard deviation live here and nowhere else, so that training, evaluation,
calibration and live use cannot drift apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import Normalisation, SegmentationModel

OUTPUTS = ("logits", "labels")


def normalise(images: Tensor, by: Normalisation) -> Tensor:
    """uint8 BGR (N, H, W, 3) -> float32 RGB (N, 3, H, W) of about zero mean and unit variance."""
    mean = torch.tensor([255 * value for value in by.mean], device=images.device)
    scale = torch.tensor([1 / (255 * value) for value in by.std], device=images.device)
    rgb = images.permute(0, 3, 1, 2).flip(1).float()
    return (rgb - mean[:, None, None]) * scale[:, None, None]


def network_input(network: SegmentationModel, images: Tensor) -> Tensor:
    """Pictures uint8 BGR (N, H, W, 3) -> what the network takes, float32 (N, 3, H, W), channels last in memory."""
    return normalise(images, network.normalisation).contiguous(memory_format=torch.channels_last)


class ExitsGraph(nn.Module):
    """A network with exits behind its pre-processing: the logits of every exit, the end of the network last."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 BGR (N, H, W, 3) -> float32 (N, C, h, w) of each exit, each at its own size."""
        features = self.model.features(normalise(images, self.model.normalisation))
        early = self.model.auxiliary_logits(features)[: len(self.model.early)]
        return *early, self.model.classify(features)


class DeployGraph(nn.Module):
    """A network behind its pre-processing.

    Args:
        model: the network; put it in evaluation mode for anything but tests.
        output: 'logits' gives float32 (N, C, H/s, W/s), 'labels' gives uint8 (N, H, W) at the input's own size.

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
        """uint8 BGR (N, H, W, 3) -> what `output` says."""
        logits: Tensor = self.model(normalise(images, self.model.normalisation))
        if self.output == "logits":
            return logits
        stride = self.model.logits_stride
        if stride > 1:
            logits = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)
