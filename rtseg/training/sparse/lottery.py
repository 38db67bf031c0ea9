"""Lottery tickets (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis", ICLR, arXiv 1803.03635).

Train; hold the weights of each layer with the smallest |w| at zero; return the others to their early values; train
again; and so on. After round i of n the share of zeros is 1 - (1 - s)^(i/n): each round takes the same share of the
remaining weights.

Deviation: weights return to their values after the first epoch instead of the initial ones (as in Frankle et al. 2020,
ICML, arXiv 1912.05671: with the initial ones, large networks yield no tickets).
"""

from rtseg.training.sparse import Phase, check_epochs

SPARSITY = 0.5


def lottery(epochs: int, sparsity: float | None, rounds: int) -> tuple[Phase, ...]:
    """The dense part and one part per round, all of equal length."""
    check_epochs("lottery", epochs, 2 * (rounds + 1))
    left = 1 - (SPARSITY if sparsity is None else sparsity)
    later = (
        Phase(epochs * i // (rounds + 1), 1 - left ** (i / rounds), cycle=True, rewinds=True)
        for i in range(1, rounds + 1)
    )
    return (Phase(0, 0.0, cycle=True), *later)
