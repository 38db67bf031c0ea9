"""GoogLeNet (Szegedy et al. 2015, "Going Deeper with Convolutions", CVPR, arXiv 1409.4842), from torchvision.

Deviations: those of torchvision, which has batch norm, no local response normalisation, and 3x3 convolutions where the
paper has 5x5 (like TensorFlow's version); no auxiliary classifiers; stages are dilated instead of pooled once the
output stride is reached. Images are scaled to -1..1, as torchvision does from its own statistics before the first
layer.
"""

from torch import nn
from torchvision.models import GoogLeNet

from rtseg.models.base import Normalisation, initialise
from rtseg.models.encoders.base import StrideBudget, TrunkOptions
from rtseg.models.encoders.pooling import halve, spread
from rtseg.models.encoders.staged import Staged

PICTURES = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)


def googlenet(options: TrunkOptions) -> Staged:
    """GoogLeNet."""
    budget = StrideBudget(options.output_stride)
    budget.spend(2)  # the first convolution
    network = GoogLeNet(aux_logits=False, init_weights=False)
    stages: list[list[nn.Module]] = [[network.conv1]]
    for name, layer in list(network.named_children())[1:]:
        if name.startswith("maxpool"):
            stages.append([halve(budget, kernel=layer.kernel_size)])
        elif name.startswith(("conv", "inception")):
            spread(layer, budget.rate)
            stages[-1].append(layer)
    encoder = Staged(stages, (192, 480, 832, 1024))
    encoder.normalisation = PICTURES
    initialise(encoder)
    return encoder
