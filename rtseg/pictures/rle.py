"""Run lengths of masks in COCO's format (Lin et al. 2014; pycocotools).

Runs go down the columns, one column after the other, and start with pixels outside the mask. In the text, each run from
the third on is its difference from the one two before. Numbers are split into pieces of five bits, lowest first; a
sixth bit means that more follow, and 48 is added to make them printable.
"""

import numpy as np

from rtseg.core.errors import UsageError


def run_lengths(labels: np.ndarray) -> dict[int, np.ndarray]:
    """uint8 (H, W) -> for every label that occurs, int64 (n,) runs: not it, it, not it, …; they add up to H W."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.size == 0:
        raise UsageError(f"labels are {labels.dtype} {labels.shape}: want uint8 (H, W)")
    flat = np.ascontiguousarray(labels.T).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    bounds = np.append(starts, flat.size)
    owners = flat[starts]
    runs = {}
    for label in np.unique(owners).tolist():
        places = np.flatnonzero(owners == label)
        edges = np.stack([bounds[places], bounds[places + 1]], 1).ravel()
        lengths = np.diff(edges, prepend=0, append=flat.size)
        runs[label] = lengths[:-1] if lengths[-1] == 0 else lengths
    return runs


def rle_text(runs: np.ndarray) -> str:
    """Converts runs to the `counts` of a COCO segmentation."""
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    pieces, wanted = [], []
    more = np.ones(len(values), bool)
    while more.any():
        low = values & 0x1F
        values = values >> 5
        wanted.append(more)
        more = more & np.where(low & 0x10, values != -1, values != 0)
        pieces.append(low + 48 + 0x20 * more)
    characters: np.ndarray = np.stack(pieces, 1)[np.stack(wanted, 1)]
    return bytes(characters.tolist()).decode("ascii")


def runs_of(text: str) -> np.ndarray:
    """Converts the text of `rle_text` back to runs, int64 (n,); ValueError if it is not such a text."""
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if ((codes < 0) | (codes > 63)).any() or (codes.size and codes[-1] & 0x20):
        raise ValueError("run lengths that are cut short, or hold signs that do not belong there")
    ends = np.flatnonzero(codes & 0x20 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((codes & 0x1F) << shifts, starts) if codes.size else codes
    negative = codes[ends] & 0x10 != 0
    values -= np.where(negative, 1 << (shifts[ends] + 5), 0)
    for place in range(3, len(values)):
        values[place] += values[place - 2]
    return values
