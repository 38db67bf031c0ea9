"""The baselines of a pruned network: the same one from fresh weights (Liu et al. 2019, "Rethinking the Value of Network
Pruning", ICLR, arXiv 1810.05270).

Scratch-E trains it for as many epochs as the whole network takes. Scratch-B trains it for as much arithmetic, E * M / m
epochs with M and m the MACs of the whole and of the pruned network. Deviation: the paper never goes beyond twice the
epochs.
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
    """The configuration with the epochs of the baseline.

    Args:
        config: with `from_scratch`; its epochs are those that the whole network would be trained for.
        shape: the network whose shape is trained.

    Raises:
        UsageError: another architecture, or one that nothing was cut from where arithmetic counts.
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
