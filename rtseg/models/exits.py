"""Early exits: classifiers on intermediate features, so that inference can stop there.

BranchyNet (Teerapittayanon et al. 2016, "BranchyNet: Fast Inference via Early Exiting from Deep Neural Networks", ICPR)
puts side branches on a network and trains them all at once. ADP-C (Liu et al. 2022, "Anytime Dense Prediction with
Confidence Adaptivity", ICLR, arXiv 2104.00749) redesigns them for dense prediction: an exit must see the whole range of
depths at the resolution of its features, because early features are fine but lack global context.

Deviations: the authors' exits use HRNet's parallel branches; `ExitHead` is a small network that goes from the stride of
its features down to 32 and back. The decoders of ICNet and SwiftNet already see all depths, so their auxiliary
classifiers serve as exits unchanged.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from rtseg.core.errors import UsageError
from rtseg.models.blocks import ConvNormAct
from rtseg.models.decoders import SeparableStep
from rtseg.models.pyramid import PyramidPooling

COARSEST = 32
"""Coarsest stride inside an exit: input sizes of a network with such exits are multiples of it."""
_WIDTH = 64


class ExitHead(nn.Module):
    """Features (N, inputs, H, W) -> logits (N, C, H, W).

    The features are narrowed, halved by depthwise separable convolutions down to stride 32, joined there with averages
    over regions, and upsampled step by step with skip connections from the way down.

    Args:
        inputs: channels of the features.
        stride: of the features.
        classes: channels of the logits.
    """

    def __init__(self, inputs: int, stride: int, classes: int) -> None:
        super().__init__()
        levels = (COARSEST // stride).bit_length() - 1
        self.narrow = ConvNormAct(inputs, _WIDTH, 1)
        self.down = nn.ModuleList(_halving() for _ in range(levels))
        self.regions = PyramidPooling()
        self.up = nn.ModuleList(SeparableStep(_WIDTH, _WIDTH, _WIDTH) for _ in range(levels))
        self.classifier = nn.Conv2d(_WIDTH, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, seen = self.narrow(x), []
        for step in self.down:
            seen.append(x)
            x = step(x)
        x = self.regions(x)  # (N, 64, H·stride/32, W·stride/32)
        for step in self.up:
            x = step(x, seen.pop())
        logits: Tensor = self.classifier(x)
        return logits


class ExitHeads(nn.ModuleList):
    """The heads of a network's exits, possibly none, in the order in which their features are computed.

    Args:
        seen: name of the features -> their channels and stride.
        classes: channels of the logits.

    Attributes:
        names: of the features.
    """

    def __init__(self, seen: Mapping[str, tuple[int, int]], classes: int) -> None:
        super().__init__(ExitHead(inputs, stride, classes) for inputs, stride in seen.values())
        self.names = tuple(seen)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """A network's named features -> the logits of each exit."""
        return tuple(head(features[name]) for name, head in zip(self.names, self, strict=True))


def _halving() -> nn.Sequential:
    return nn.Sequential(ConvNormAct(_WIDTH, _WIDTH, stride=2, groups=_WIDTH), ConvNormAct(_WIDTH, _WIDTH, 1))


def check_exits(exits: int, most: int) -> None:
    """Raises UsageError unless `exits`, a config's number of early exits, is a whole number from 0 to `most`."""
    if type(exits) is not int or not 0 <= exits <= most:
        raise UsageError(f"exits is {exits!r}: this network has up to {most} early exits beside its end, 0 for none")
