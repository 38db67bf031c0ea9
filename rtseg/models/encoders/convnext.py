"""ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s", CVPR, arXiv 2201.03545), from timm; the atto variant is timm's
own.

Deviations: stages are dilated instead of strided once the output stride is reached, which shifts the features of each
dilated stage by half a cell (the 2x2 convolution between stages has no centre).
"""

from typing import Any

import timm

from rtseg.models.blocks import scaled
from rtseg.models.encoders.base import TrunkOptions
from rtseg.models.encoders.staged import Staged


def _convnext(name: str, dims: tuple[int, ...], options: TrunkOptions) -> Staged:
    widths = tuple(scaled(channels, options.width) for channels in dims)
    network: Any = timm.create_model(name, num_classes=0, dims=widths, output_stride=options.output_stride)
    first, *others = network.stages
    return Staged([[], [network.stem, first], *([stage] for stage in others)], widths)


def convnext_atto(options: TrunkOptions) -> Staged:
    """ConvNeXt with 3.7 million parameters, classifier included."""
    return _convnext("convnext_atto", (40, 80, 160, 320), options)


def convnext_tiny(options: TrunkOptions) -> Staged:
    """ConvNeXt-T."""
    return _convnext("convnext_tiny", (96, 192, 384, 768), options)


def convnext_small(options: TrunkOptions) -> Staged:
    """ConvNeXt-S."""
    return _convnext("convnext_small", (96, 192, 384, 768), options)
