"""One wish: which network runs, and how."""

from dataclasses import dataclass

from rtseg.core.sizes import Size


@dataclass(frozen=True)
class RunSpec:
    """Which network runs, and how.

    Attributes:
        model: a name, or the path of an ONNX file.
        engine: the one that runs; never 'auto'.
        precision: 'fp32', 'fp16' or 'int8'.
        size_hw: (height, width) of the network's input.
        threads: of everything that it starts.
    """

    model: str
    engine: str
    precision: str
    size_hw: Size
    threads: int
