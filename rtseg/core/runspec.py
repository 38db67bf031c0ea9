"""One wish: which network runs, and how."""

from dataclasses import dataclass
from pathlib import Path

from rtseg.core.sizes import Size
from rtseg.core.zoo import Artifact

AUTO = "auto"


@dataclass(frozen=True)
class RunSpec:
    """Which network runs, and how.

    Attributes:
        model: a name, the path of an ONNX file, or the card and files that were found for one.
        engine: a name, or 'auto': the fastest that is installed, measured once on this machine.
        precision: 'fp32', 'fp16', 'int8', or 'auto'; one that is named is never replaced.
        size_hw: (height, width) of the network's input; None: it follows from the first frame's.
        threads: of everything that it starts; None: every core of this process.
        exit: where a network with exits stops: a name; 'auto', as soon as it is sure enough; 'regions', where the sure
            regions of a frame stop at an early exit and the others go on, as was calibrated; 'NAME:SURE', the same with
            an exit and the probability of the best class from which its cells are sure; None: at its end.
            `open_labeller` makes what does so; a `Segmenter` alone runs to the end.
    """

    model: str | Path | Artifact = "icnet"
    engine: str = AUTO
    precision: str = AUTO
    size_hw: Size | None = None
    threads: int | None = None
    exit: str | None = None
