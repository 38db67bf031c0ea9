"""LeNet-5 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE).

Three 5x5 convolutions of 6, 16 and 120 channels with tanh, each followed by a 2x2 mean: stride 8.

Deviations: colour images; convolutions keep the size; the second one reads all channels, where the paper's table leaves
some out; the means have no learned factor and bias; the third convolution is also followed by a mean, so that there are
features at strides 4 and 8. Nothing is dilated: the output stride is always 8.
"""

from torch import nn

from rtseg.models.base import initialise
from rtseg.models.encoders.base import Encoder, TrunkOptions
from rtseg.models.encoders.staged import Staged

CHANNELS = (6, 16, 120)


class LeNet5(Staged):
    """Features at strides 4 and 8."""

    cut = Encoder.cut  # nothing comes after stride 8

    def __init__(self, options: TrunkOptions) -> None:
        widths = [max(2, round(channels * options.width)) for channels in CHANNELS]
        stages = [
            [nn.Conv2d(inputs, outputs, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)]
            for inputs, outputs in zip([3, *widths], widths, strict=False)
        ]
        super().__init__(stages, widths[1:])
        initialise(self)


def lenet5(options: TrunkOptions) -> LeNet5:
    """LeNet-5."""
    return LeNet5(options)
