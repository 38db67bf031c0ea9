"""Lottery tickets (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis", ICLR, arXiv 1803.03635).

Train; hold at zero the weights of each layer with the smallest |w|; put the others back to what they were early on;
train again; and so on. After round i of n the share of zeros is 1 - (1 - s)^(i/n): each round takes the same share of
what is left.

Deviation: weights go back to those after the first epoch instead of the first ones (as in Frankle et al. 2020, ICML,
arXiv 1912.05671: from the very first, large networks find no ticket).
"""

from rtseg.training.sparse import Phase, check_epochs

SPARSITY = 0.5


def lottery(epochs: int, sparsity: float | None, rounds: int) -> tuple[Phase, ...]:
    """As many equal parts as there are rounds, and the one before."""
    check_epochs("lottery", epochs, 2 * (rounds + 1))
    left = 1 - (SPARSITY if sparsity is None else sparsity)
    later = (
        Phase(epochs * i // (rounds + 1), 1 - left ** (i / rounds), cycle=True, rewinds=True)
        for i in range(1, rounds + 1)
    )
    return (Phase(0, 0.0, cycle=True), *later)
