"""Endless street scenes with their labels, rendered ahead."""

from collections.abc import Generator
from time import perf_counter

from rtseg.core.frame import Frame
from rtseg.core.sizes import Size
from rtseg.sources.base import Source


class SyntheticSource(Source):
    """A drive through a procedural street; `Frame.truth` has the labels (CamVid's 11 classes)."""

    kind = "synthetic"
    depth = 4

    def __init__(self, size_hw: Size = (512, 1024), seed: int = 0, fps: float = 30.0) -> None:
        super().__init__(f"synthetic:{seed}")
        self._asked_hw = size_hw
        self._seed = seed
        self.fps: float = fps
        self._start()

    def _frames(self) -> Generator[Frame, None, None]:
        from rtseg.scenes import StreetScene

        scene = StreetScene(self._asked_hw, self._seed, self.fps)
        index = 0
        while True:
            image, labels = scene.render(index)
            yield Frame(image, index, index / self.fps, perf_counter(), labels)
            index += 1
