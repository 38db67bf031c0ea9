"""VGG (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR, arXiv
1409.1556), from torchvision.

Deviations: no fully connected layers, which have nine tenths of the weights; stages are dilated instead of pooled once
the output stride is reached. At stride 32 there is only the last pooling.
"""

from itertools import pairwise

from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from rtseg.models.base import initialise
from rtseg.models.blocks import scaled
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import halve, spread
from rtseg.models.encoders.staged import Staged


def _vgg(form: str, options: TrunkOptions, batch_norm: bool) -> Staged:
    """Builds a member of the family; `form` is the paper's column, A for VGG-11, D for VGG-16."""
    table = [entry if entry == "M" else scaled(int(entry), options.width) for entry in cfgs[form]]
    budget = StrideBudget(options.output_stride)
    stages: list[list[nn.Module]] = [[]]
    for layer in make_layers(table, batch_norm):
        if isinstance(layer, nn.MaxPool2d):
            stages.append([halve(budget)])
        else:
            spread(layer, budget.rate)
            stages[-1].append(layer)
    first, second, *others = stages  # at full size, and at stride 2
    widths = [int(entry) for entry, following in pairwise(table) if following == "M"]
    network = Staged([[*first, *second], *others], [*widths[2:], widths[-1]])
    initialise(network)
    return network


def vgg11(options: TrunkOptions) -> Staged:
    """VGG-11."""
    return _vgg("A", options, batch_norm=False)


def vgg11_bn(options: TrunkOptions) -> Staged:
    """VGG-11 with batch norm."""
    return _vgg("A", options, batch_norm=True)


def vgg16(options: TrunkOptions) -> Staged:
    """VGG-16."""
    return _vgg("D", options, batch_norm=False)


def vgg16_bn(options: TrunkOptions) -> Staged:
    """VGG-16 with batch norm."""
    return _vgg("D", options, batch_norm=True)
