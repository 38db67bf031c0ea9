"""Dense, sparse, dense (Han et al. 2017, "DSD: Dense-Sparse-Dense Training for Deep Neural Networks", ICLR, arXiv
1607.04381).

The network trains; then the 25 to 50 % of each layer's weights with the smallest |w| are held at zero; then all weights
train again, the masked ones from zero, at a tenth of the learning rate. The result is dense; the hoped-for gain is
accuracy.

Deviation: one run has all three phases, the first for half of its epochs, the others for a quarter each, each with its
own schedule.
"""

from rtseg.core.errors import UsageError
from rtseg.training.sparse import Phase, check_epochs

SPARSITY = 0.3


def dsd(epochs: int, sparsity: float | None, rounds: int) -> tuple[Phase, ...]:
    """Train, train with a mask, and train without it at a tenth of the rate."""
    if rounds != 1:
        raise UsageError(f"--sparse-rounds {rounds} is for lottery and magnitude: --sparse dsd has one")
    check_epochs("dsd", epochs, 3)
    quarter, half = max(1, epochs // 4), max(1, epochs // 2)
    share = SPARSITY if sparsity is None else sparsity
    return (
        Phase(0, 0.0, cycle=True),
        Phase(half, share, cycle=True),
        Phase(epochs - quarter, 0.0, rate=0.1, cycle=True),
    )
