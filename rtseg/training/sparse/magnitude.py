"""Unstructured magnitude pruning: holds the weights of each layer with the smallest |w| at zero while the others keep
training, all at once (Han et al. 2015, "Learning both Weights and Connections", NeurIPS, arXiv 1506.02626) or step by
step (Zhu and Gupta 2017, "To Prune, or Not to Prune", arXiv 1710.01878).

At step i of n the share of zeros is s (1 - (1 - i/n)^3): it rises fast at first, slowly at the end.

Deviation: a single learning-rate schedule spans the whole run.
"""

from rtseg.training.sparse import Phase, check_epochs

SPARSITY = 0.5


def magnitude(epochs: int, sparsity: float | None, rounds: int) -> tuple[Phase, ...]:
    """The dense part and one part per step, all of equal length."""
    check_epochs("magnitude", epochs, rounds + 1)
    share = SPARSITY if sparsity is None else sparsity
    later = (
        Phase(epochs * i // (rounds + 1), share * (1 - (1 - i / rounds) ** 3)) for i in range(1, rounds + 1)
    )  # fmt: skip
    return (Phase(0, 0.0, cycle=True), *later)
