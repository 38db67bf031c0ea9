"""Temporal consistency: how well a frame's labels, warped by the motion, agree with those of the next frame.

The labels of frame k are warped to frame k + 1 by optical flow and compared with the labels there by mean IoU: 1 is
perfectly consistent. After Liu et al. 2020 ("Efficient Semantic Video Segmentation with Per-frame Inference", TC). Our
flow is OpenCV's DIS (Kroeger et al. 2016) instead of FlowNet 2, pixels that were outside the earlier frame are left
out, and the pixels of all pairs are counted together, while the paper averages over clips. Needs no truth.
"""

from typing import Any

import cv2
import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.frame import Frame
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import format_size
from rtseg.metrics.confusion import ConfusionMatrix, rounded

_SMALLEST = 16  # a side; OpenCV's flow crashes the process below that


class Flow:
    """Optical flow between consecutive frames of one video, given in order.

    Example:
        >>> flow, consistency = Flow(), Consistency(segmenter.labels)
        >>> for frame, labels in rtseg.stream("drive.mp4", segmenter):
        ...     consistency.update(labels, flow(frame))
        >>> consistency.miou
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._before: tuple[int, np.ndarray] | None = None  # index, grey

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """float32 (H, W, 2): the (x, y) position, in pixels, of each of a frame's pixels in the previous frame.

        None for the first frame, and if the previous one is missing or has another size.

        Raises:
            UsageError: a side of the frame is shorter than 16 pixels.
        """
        if min(frame.size_hw) < _SMALLEST:
            raise UsageError(f"frames of {format_size(frame.size_hw)} are too small for optical flow: {_SMALLEST} "
                             "pixels along each side at least")  # fmt: skip
        grey = cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY)
        before, self._before = self._before, (frame.index, grey)
        if before is None or before[0] != frame.index - 1 or before[1].shape != grey.shape:
            return None
        places: np.ndarray = np.zeros((*grey.shape, 2), np.float32)
        self._dis.calc(grey, before[1], places)
        places[..., 0] += np.arange(grey.shape[1], dtype=np.float32)
        places[..., 1] += np.arange(grey.shape[0], dtype=np.float32)[:, None]
        return places


class Consistency:
    """Compares the labels of each frame with the warped ones of the previous frame.

    Attributes:
        pairs: pairs of frames compared.
    """

    def __init__(self, labels: LabelSet) -> None:
        self.pairs = 0
        self._none = labels.ignore_index
        self._matrix = ConfusionMatrix(labels)  # [warped, as labelled]
        self._before: np.ndarray | None = None

    def update(self, labels: np.ndarray, places: np.ndarray | None) -> None:
        """Adds the next frame: its labels, uint8 (H, W), and the result of `Flow` for it."""
        if places is not None and self._before is not None:
            x, y = places[..., 0], places[..., 1]
            warped = cv2.remap(self._before, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT,
                               borderValue=self._none)  # fmt: skip
            self._matrix.update(labels, warped)
            self.pairs += 1
        self._before = labels.copy()

    @property
    def miou(self) -> float:
        """0..1; NaN if no pair was compared."""
        return self._matrix.miou

    def to_json(self) -> dict[str, Any]:
        """JSON values for reports; None if there was nothing to compare."""
        return {"consistency": rounded(self.miou)}
