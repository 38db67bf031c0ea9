"""Baselines for a pruned network: the same one from fresh weights (Liu et al. 2019, "Rethinking the Value of Network
Pruning", ICLR, arXiv 1810.05270).

Scratch-E trains it for as many epochs as the unpruned network. Scratch-B trains it with the same amount of arithmetic,
for E * M / m epochs, where M and m are the MACs of the unpruned and the pruned network. Deviation: the paper never
exceeds twice the epochs.
"""

import logging
from dataclasses import replace

from rtseg.core.errors import UsageError
from rtseg.models import build_model
from rtseg.models.base import count_macs
from rtseg.training.config import TrainConfig
from rtseg.training.origin import Origin
from rtseg.training.pruning.prune import PAPER_SIZE

log = logging.getLogger(__name__)


def scratch(config: TrainConfig, shape: Origin) -> TrainConfig:
    """Returns the configuration with the baseline's number of epochs.

    Args:
        config: with `from_scratch`; its epochs are those of the unpruned network.
        shape: the network whose shape is trained.

    Raises:
        UsageError: the architecture differs, or equal arithmetic is requested and nothing was cut from the network.
    """
    if shape.model != config.model:
        raise UsageError(f"--from-scratch trains the network that {shape.given} is, a {shape.model}: give --model "
                         f"{shape.model} instead of {config.model}")  # fmt: skip
    if config.from_scratch == "steps":
        return config
    if not shape.config.get("pruned"):
        raise UsageError(f"nothing was pruned from {shape.given}: --from-scratch macs would train it for the epochs "
                         "given; say steps for that")  # fmt: skip
    whole, pruned = (
        count_macs(build_model(shape.model, fields), PAPER_SIZE)
        for fields in ({**shape.config, "pruned": []}, shape.config)
    )
    epochs = round(config.epochs * whole / pruned)
    log.info("scratch-B: %d epochs of %.2f GMAC take the arithmetic of %d epochs of %.2f GMAC, the whole network's",
             epochs, pruned / 1e9, config.epochs, whole / 1e9)  # fmt: skip
    return replace(config, epochs=epochs)
