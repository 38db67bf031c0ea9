"""Unstructured magnitude pruning: the weights of each layer with the smallest |w| are held at zero while the rest goes
on training, all at once (Han et al. 2015, "Learning both Weights and Connections", NeurIPS, arXiv 1506.02626) or step
by step (Zhu and Gupta 2017, "To Prune, or Not to Prune", arXiv 1710.01878).

At step i of n the share of zeros is s (1 - (1 - i/n)^3): many go at first, few at the end.

Deviation: one schedule of the learning rate runs through all of it.
"""

from rtseg.training.sparse import Phase, check_epochs

SPARSITY = 0.5


def magnitude(epochs: int, sparsity: float | None, rounds: int) -> tuple[Phase, ...]:
    """As many equal parts as there are steps, and the one before."""
    check_epochs("magnitude", epochs, rounds + 1)
    share = SPARSITY if sparsity is None else sparsity
    later = (
        Phase(epochs * i // (rounds + 1), share * (1 - (1 - i / rounds) ** 3)) for i in range(1, rounds + 1)
    )  # fmt: skip
    return (Phase(0, 0.0, cycle=True), *later)
