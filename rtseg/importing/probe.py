"""Runs the original to find the form of its output, and for its answers to pictures."""

from dataclasses import dataclass, replace

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size
from rtseg.importing.form import Form, Kind, find_form
from rtseg.importing.graph import LEAST, coarse_source
from rtseg.importing.original import Layout, Original
from rtseg.importing.runner import Runner
from rtseg.importing.scaling import Scaling


@dataclass(frozen=True)
class Answer:
    """The original's answer to a picture.

    Attributes:
        labels: int64 (h, w), at the size of its own output.
        scores: of the tensor in use, as logits, float32 (C, h, w), or ids, float32 (1, h, w).
    """

    labels: np.ndarray
    scores: np.ndarray


class Probe:
    """Runs the original and interprets its output.

    Attributes:
        form: of the output; known once a picture has been measured.
        tensor: the tensor in use: the output, or the coarse logits before its final bilinear enlargement.
    """

    def __init__(
        self, original: Original, scaling: Scaling, labels: LabelSet, wanted: Kind | None, layout: Layout | None
    ) -> None:
        self._labels, self._wanted = labels, wanted
        self._channels_last = None if layout is None else layout == "nhwc"
        self._input_last = original.picture.channels_last
        self._output, self._coarse = original.output, coarse_source(original)
        self.tensor = original.output
        self._form: Form | None = None
        tensors = [original.output] if self._coarse is None else [original.output, self._coarse]
        self._run = Runner(original, scaling, tensors)

    @property
    def form(self) -> Form:
        if self._form is None:
            raise UsageError("no picture was measured yet: call measure first")
        return self._form

    def measure(self, image: np.ndarray) -> Size:
        """Height and width of the tensor in use for a picture, uint8 BGR (H, W, 3).

        Raises:
            EngineError: the graph cannot run at the picture's size.
            UsageError: the output is not what the user says, or the user must say more.
        """
        whole, *inner = self._run(image)
        self._form = form = find_form(whole, self._labels, self._wanted, self._channels_last, self._input_last)
        self.tensor = self._output
        plain = form.kind == "logits" and not form.channels_last
        if self._coarse is None or not plain or form.size(whole) != image.shape[:2]:
            return form.size(whole)
        if inner[0].ndim != 4 or inner[0].shape[:2] != whole.shape[:2]:
            return form.size(whole)
        self.tensor = self._coarse
        self._form = replace(form, dtype=inner[0].dtype)
        return form.size(inner[0])

    def answer(self, image: np.ndarray) -> Answer:
        """The original's answer to a picture, uint8 BGR (H, W, 3)."""
        form = self.form
        whole, *inner = self._run(image)
        scores = form.read(inner[0] if self.tensor != self._output else whole)
        if form.kind == "probabilities":
            scores = np.log(np.maximum(scores, np.float32(LEAST)))
        return Answer(form.labels(whole), scores)
