"""The base class of all encoders (trunks), and what they are built from."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.base import IMAGENET_STATISTICS, Normalisation

OUTPUT_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class TrunkOptions:
    """How an encoder is built.

    Attributes:
        output_stride: the last feature map is this many times smaller than the image, in height and in width.
        width: factor on every channel count.
        deep_stem: three 3x3 convolutions instead of one 7x7 (PSPNet; ResNets only).
        multi_grid: unit rates of the last stage's blocks, multiplied by the stage's rate (DeepLab-v3; ResNets only).
        settings: the encoder's own fields, such as `growth` of a DenseNet: see its row in `ROWS`.
    """

    output_stride: int = 32
    width: float = 1.0
    deep_stem: bool = False
    multi_grid: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.output_stride) is not int or self.output_stride not in OUTPUT_STRIDES:
            raise UsageError(f"output_stride is {self.output_stride}: allowed are 8, 16 and 32")
        if not 0.1 <= self.width <= 4:
            raise UsageError(f"width is {self.width}: allowed is 0.1 to 4")
        if self.multi_grid is not None and not all(rate >= 1 for rate in self.multi_grid):
            raise UsageError(f"multi_grid is {self.multi_grid}: its unit rates must be at least 1")


class Encoder(nn.Module):
    """Maps float32 (N, 3, H, W) to at least two feature maps (N, C, H/s, W/s), fine to coarse.

    The coarsest has the output stride; features that would be coarser are computed at it, with dilated convolutions.
    An encoder comes initialised.

    Attributes:
        channels: channel count of each feature map.
        normalisation: how images are scaled.
    """

    channels: tuple[int, ...]
    normalisation: Normalisation = IMAGENET_STATISTICS

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def named(self, x: Tensor) -> dict[str, Tensor]:
        """The features by name, `encoder/4` to `encoder/32`: their strides without dilation."""
        features = self(x)
        return {f"encoder/{32 >> len(features) - 1 - level}": feature for level, feature in enumerate(features)}

    def cut(self, stride: int) -> tuple[nn.Sequential, nn.Sequential]:
        """Splits the layers at stride 4, 8 or 16 into those up to it and the rest, which ICNet runs at two sizes.

        Raises:
            UsageError: this encoder cannot be cut.
        """
        raise UsageError(f"a {type(self).__name__} cannot be cut at a stride: choose a mobilenet, an "
                         "efficientnet_lite, a resnet or another one that can (`rtseg models --encoders`)")  # fmt: skip


class StrideBudget:
    """Turns strides into dilation once the output stride is reached.

    A convolution that loses its stride s keeps the dilation so far, and all later ones are dilated s times more. The
    features at every s-th position then equal the strided network's, so its weights keep their meaning.
    """

    def __init__(self, output_stride: int) -> None:
        self.left, self.rate = output_stride, 1

    def spend(self, stride: int) -> tuple[int, int, int]:
        """Returns the remaining stride, the strided convolution's dilation, and the dilation of those after it."""
        before = self.rate
        if self.left >= stride:
            self.left //= stride
        else:
            self.rate, stride = self.rate * stride, 1
        return stride, before, self.rate
