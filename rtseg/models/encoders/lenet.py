"""LeNet-5 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE).

Three 5x5 convolutions of 6, 16 and 120 channels with tanh, each followed by the mean of 2x2 places: stride 8.

Deviations: colour pictures; convolutions keep the size; the second one reads all channels, where the paper's table
leaves some out; the means have no factor and bias of their own; the third convolution is followed by a mean as well,
so that there are features at strides 4 and 8. Nothing is dilated: output stride 8 is its own.
"""

from torch import nn

from rtseg.models.base import initialise
from rtseg.models.encoders.base import Encoder, TrunkOptions
from rtseg.models.encoders.staged import Staged

CHANNELS = (6, 16, 120)


class LeNet5(Staged):
    """Features at strides 4 and 8."""

    cut = Encoder.cut  # there is nothing behind stride 8

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
