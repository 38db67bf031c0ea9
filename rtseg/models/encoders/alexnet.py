"""AlexNet (Krizhevsky et al. 2012, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS), from
torchvision, whose form is that of Krizhevsky 2014 (arXiv 1404.5997): one tower, without local response normalisation.

Deviations: no fully connected layers (58 of the 61 million weights); padding, so that features are exactly 1/4, 1/8,
1/16 and 1/32 of the image; stages are dilated instead of pooled once the output stride is reached. At stride 32 there
is only the last pooling.
"""

import torch
from torch import nn
from torchvision.models import alexnet as torchvisions

from rtseg.models.base import initialise
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import halve, spread
from rtseg.models.encoders.staged import Staged


def alexnet(options: TrunkOptions) -> Staged:
    """AlexNet."""
    budget = StrideBudget(options.output_stride)
    budget.spend(4)  # the first convolution
    stages: list[list[nn.Module]] = [[], []]  # nothing ends at stride 2
    with torch.device("meta"):  # avoids allocating the fully connected layers
        layers = torchvisions(weights=None).features
    for index, layer in enumerate(layers.to_empty(device=torch.get_default_device())):
        if isinstance(layer, nn.MaxPool2d):
            stages.append([halve(budget, kernel=3)])
            continue
        if index == 0:
            layer.padding = (4, 4)
        else:
            spread(layer, budget.rate)
        stages[-1].append(layer)
    network = Staged(stages, (64, 192, 256, 256))
    initialise(network)
    return network
