"""How unsure a network is of a whole picture; BranchyNet (Teerapittayanon 2016) stops early by this measure."""

from math import ceil, log, sqrt

import numpy as np

MOST_CELLS = 1 << 14
"""The mean is taken over at most this many cells, on a regular grid if there are more, so that it stays cheap."""


def entropy(logits: np.ndarray) -> np.ndarray:
    """float32 (C, h, w) -> float32 (h, w): -Σ p ln p / ln C of the softmax p, 0 (sure) to 1 (all classes equal).

    0 for a network of one class.
    """
    if len(logits) == 1:
        return np.zeros(logits.shape[1:], np.float32)
    shifted = logits - logits.max(0)
    powers = np.exp(shifted)
    total = powers.sum(0)
    found: np.ndarray = (np.log(total) - (powers * shifted).sum(0) / total) / np.float32(log(len(logits)))
    return found


def mean_entropy(logits: np.ndarray) -> float:
    """float32 (C, h, w) -> the mean of `entropy` over the picture, 0 to 1."""
    step = ceil(sqrt(logits[0].size / MOST_CELLS))
    return float(entropy(logits[:, ::step, ::step]).mean())
