"""SE-ResNet (Hu et al. 2018, "Squeeze-and-Excitation Networks", CVPR): a ResNet that scales the channels of its
residuals before they are added.

Deviations: those of `rtseg.models.encoders.resnet`; the inner layer has a sixteenth of the channels, but at least 8 and
a multiple of 8, as in timm's weights.
"""

from torch import nn

from rtseg.models.blocks import scaled
from rtseg.models.encoders.base import TrunkOptions
from rtseg.models.encoders.resnet import BasicBlock, Bottleneck, ResNet
from rtseg.models.encoders.squeeze import SqueezeExcite


def _gate(outputs: int) -> SqueezeExcite:
    return SqueezeExcite(outputs, scaled(outputs, 1 / 16), nn.Sigmoid())


class SEBasicBlock(BasicBlock):
    """`BasicBlock` with squeeze and excitation."""

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        return [*super()._layers(inputs, outputs, stride, dilation, before), _gate(outputs)]


class SEBottleneck(Bottleneck):
    """`Bottleneck` with squeeze and excitation."""

    def _layers(self, inputs: int, outputs: int, stride: int, dilation: int, before: int) -> list[nn.Module]:
        return [*super()._layers(inputs, outputs, stride, dilation, before), _gate(outputs)]


def seresnet18(options: TrunkOptions) -> ResNet:
    """SE-ResNet-18."""
    return ResNet(SEBasicBlock, (2, 2, 2, 2), options)


def seresnet34(options: TrunkOptions) -> ResNet:
    """SE-ResNet-34."""
    return ResNet(SEBasicBlock, (3, 4, 6, 3), options)


def seresnet50(options: TrunkOptions) -> ResNet:
    """SE-ResNet-50."""
    return ResNet(SEBottleneck, (3, 4, 6, 3), options)


def seresnet101(options: TrunkOptions) -> ResNet:
    """SE-ResNet-101."""
    return ResNet(SEBottleneck, (3, 4, 23, 3), options)
