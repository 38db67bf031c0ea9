"""EfficientNet-Lite 0, 1 and 2 (Tan and Le 2019, arXiv 1905.11946; the Lite form is the authors' own, 2020, and has no
paper): MobileNet v2's blocks with ReLU6 and without squeeze-and-excitation, which quantises well.

Images are scaled by (x - 127) / 128. Convolutions of stride 2 are padded like TensorFlow's "same": less at the top and
left than at the bottom and right.

Deviations: stages are dilated instead of strided once the output stride is reached; the last 1x1 convolution, to 1280
channels, belongs to the classifier and is left out.
"""

from math import ceil

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.models.base import Normalisation
from rtseg.models.encoders.base import TrunkOptions
from rtseg.models.encoders.mobilenet import InvertedResidual, MobileNet, Row, rounded

PICTURES = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
_STEM = 32  # whatever the width
# expansion, channels, blocks, kernel, stride
_STAGES = [(1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
           (6, 320, 1, 3, 1)]  # fmt: skip


class SamePadConv2d(nn.Conv2d):
    """A stride-2 convolution with TensorFlow's padding, for inputs of even height and width.

    Its features lie half a cell further right and down than with symmetric padding. In an exported graph the padding is
    part of the convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        padded = F.pad(x, (before, after, before, after))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def efficientnet_lite(width: float, depth: float, options: TrunkOptions) -> MobileNet:
    """Builds a member of the family.

    Args:
        width: factor on all channels but the stem's.
        depth: factor on the blocks of every stage but the first and the last.
        options: uses the output stride and a further factor on the channels.
    """
    rows, inputs = [], _STEM
    for number, (expansion, channels, blocks, kernel, stride) in enumerate(_STAGES):
        outputs = rounded(channels * width * options.width)
        count = blocks if number in (0, len(_STAGES) - 1) else ceil(blocks * depth)
        for index in range(count):
            rows.append(Row(kernel, inputs * expansion, outputs, stride if index == 0 else 1, nn.ReLU6))
            inputs = outputs
    network = MobileNet(InvertedResidual, (_STEM, nn.ReLU6), rows, 0, options)
    network.normalisation = PICTURES
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.01
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.__class__ = SamePadConv2d
    return network


def efficientnet_lite0(options: TrunkOptions) -> MobileNet:
    """EfficientNet-Lite0."""
    return efficientnet_lite(1.0, 1.0, options)


def efficientnet_lite1(options: TrunkOptions) -> MobileNet:
    """EfficientNet-Lite1."""
    return efficientnet_lite(1.0, 1.1, options)


def efficientnet_lite2(options: TrunkOptions) -> MobileNet:
    """EfficientNet-Lite2."""
    return efficientnet_lite(1.1, 1.2, options)
