"""Xception (Chollet 2017, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR, arXiv 1610.02357),
from timm (`legacy_xception`, the paper's own form).

Deviations: the first two convolutions are padded, so that features are exactly 1/4, 1/8, 1/16 and 1/32 of the image;
stages are dilated instead of strided once the output stride is reached. Images are scaled to -1..1, as in the paper.
"""

import timm
from torch import nn

from rtseg.models.base import Normalisation, initialise
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import spread
from rtseg.models.encoders.staged import Staged

PICTURES = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
_CHANNELS = (128, 256, 728, 2048)


def _without_stride(block: nn.Module) -> None:
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
        if isinstance(layer, nn.MaxPool2d):
            layer.stride = 1


def xception(options: TrunkOptions) -> Staged:
    """Xception."""
    layers = dict(timm.create_model("legacy_xception", num_classes=0).named_children())
    budget = StrideBudget(options.output_stride)
    budget.spend(2)  # the first convolution
    stages: list[list[nn.Module]] = [[]]
    for name, layer in layers.items():
        if name in ("global_pool", "fc"):
            continue
        if hasattr(layer, "skip") and layer.skip is not None:  # a block that ends with a pooling
            stride, before, _ = budget.spend(2)
            if stride == 1:
                _without_stride(layer)
            spread(layer, before)
            stages.append([layer])
        else:
            if isinstance(layer, nn.Conv2d):  # the first two
                layer.padding = (1, 1)
            spread(layer, budget.rate)
            stages[-1].append(layer)
    encoder = Staged(stages, _CHANNELS)
    encoder.normalisation = PICTURES
    initialise(encoder)
    return encoder
