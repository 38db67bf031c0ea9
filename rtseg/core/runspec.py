"""A request: which network to run, and how."""

from dataclasses import dataclass
from pathlib import Path

from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact

AUTO = "auto"


@dataclass(frozen=True)
class RunSpec:
    """Which network to run, and how.

    Attributes:
        model: a name, the path of an ONNX file, or the card and files found for one.
        engine: a name, or 'auto': the fastest installed one, measured once on this machine.
        precision: 'fp32', 'fp16', 'int8', or 'auto'; a named one is never replaced.
        size_hw: (height, width) of the network's input; None: chosen for the first frame's size.
        threads: for everything that it starts; None: all cores available to this process.
        exit: where a network with exits stops: an exit's name; 'auto': as soon as it is sure enough; 'regions': a
            frame's sure regions stop at an early exit and the others continue, as calibrated; 'NAME:SURE': the same
            with an exit and the probability of the best class from which its cells are sure; None: at its end. Use
            `open_labeller` for this; a `Segmenter` alone runs to the end.
    """

    model: str | Path | Artifact = "icnet"
    engine: str = AUTO
    precision: str = AUTO
    size_hw: Size | None = None
    threads: int | None = None
    exit: str | None = None
