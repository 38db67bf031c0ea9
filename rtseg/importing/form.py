"""The form of a graph's output: logits, probabilities or labels, on which axis, at which stride."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtseg.core.errors import UsageError
from rtseg.core.labels import LabelSet
from rtseg.core.sizes import Size, format_size

Kind = Literal["logits", "probabilities", "labels"]


@dataclass(frozen=True)
class Form:
    """How to read the output.

    Attributes:
        kind: scores, probabilities, or class ids.
        dtype: of the tensor.
        rank: of the tensor; 3 is (N, h, w).
        channels_last: (N, h, w, C) rather than (N, C, h, w).
        one_channel: there are two classes and only the score of the second is output.
    """

    kind: Kind
    dtype: np.dtype
    rank: int = 4
    channels_last: bool = False
    one_channel: bool = False

    def read(self, value: np.ndarray) -> np.ndarray:
        """The tensor -> the first picture's logits, float32 (C, h, w), or ids, float32 (1, h, w)."""
        first: np.ndarray = value[0].astype(np.float32)
        if self.rank == 3:
            return first[None]
        planes: np.ndarray = first.transpose(2, 0, 1) if self.channels_last else first
        if self.one_channel:
            other = 1 - planes if self.kind == "probabilities" else np.zeros_like(planes)
            planes = np.concatenate([other, planes])
        return planes

    def size(self, value: np.ndarray) -> Size:
        """Height and width of the tensor."""
        height, width = value.shape[1:3] if self.rank == 3 or self.channels_last else value.shape[2:4]
        return int(height), int(width)

    def labels(self, value: np.ndarray) -> np.ndarray:
        """The tensor -> the first picture's class ids, (h, w), at the tensor's own size."""
        planes = self.read(value)
        ids: np.ndarray = planes[0] if self.kind == "labels" else planes.argmax(0)
        return ids.astype(np.int64)


def find_form(
    value: np.ndarray, labels: LabelSet, wanted: Kind | None, channels_last: bool | None, input_last: bool = False
) -> Form:
    """Recognises the form of an output.

    Args:
        value: the tensor for one picture.
        labels: the classes according to the user.
        wanted: the kind according to the user.
        channels_last: the layout according to the user.
        input_last: the layout of the pictures, which is likely that of the output; for error messages.

    Raises:
        UsageError: the tensor contradicts the user, or the user must say more.
    """
    whole = not np.issubdtype(value.dtype, np.floating)
    described = f"{value.dtype} {value.shape}"
    if value.ndim == 3 and (whole or wanted == "labels"):
        _check_ids(value, labels, wanted)
        return Form("labels", value.dtype, rank=3)
    if value.ndim == 3:
        raise UsageError(f"the output is {described}, one number for each pixel: give --output labels if these are "
                         "class ids, else a tensor with the scores of all classes by --output-name")  # fmt: skip
    if value.ndim != 4:
        raise UsageError(f"the output is {described}; it must be (N, classes, h, w), (N, h, w, classes), or labels "
                         "(N, h, w); another one may be named with --output-name")  # fmt: skip
    planes = [last for last in (False, True) if value.shape[3 if last else 1] == len(labels)]
    if wanted != "labels" and planes and len(labels) > 1:
        last = _axis(planes, channels_last, described)
        return Form(_scores(value, 3 if last else 1, wanted), value.dtype, channels_last=last)
    single = [last for last in (False, True) if value.shape[3 if last else 1] == 1]
    if single and (whole or wanted == "labels"):
        _check_ids(value, labels, wanted)
        return Form("labels", value.dtype, channels_last=_axis(single, channels_last, described))
    if single and len(labels) == 2:
        if wanted is None:
            raise UsageError(f"the output is {described}, one number for each pixel, which means another label in each "
                             f"case: give --output logits, or --output probabilities (of {labels.names[1]!r}), or "
                             "--output labels")  # fmt: skip
        last = _axis(single, channels_last, described)
        return Form(_checked_range(value, wanted), value.dtype, channels_last=last, one_channel=True)
    last = planes[0] if planes else input_last
    if wanted == "labels":
        count = value.shape[3 if last else 1]
        raise UsageError(f"the output is {described}, {count} numbers for each pixel, which are scores, not labels: "
                         "leave --output out, or name another tensor with --output-name")  # fmt: skip
    raise _other_classes(value.shape[3 if last else 1], labels, described)


def _scores(value: np.ndarray, axis: int, wanted: Kind | None) -> Kind:
    """Recognises probabilities by their values: all in 0..1, with a sum of one over the classes."""
    if wanted is not None:
        return _checked_range(value, wanted)
    inside = value.size and float(value.min()) >= 0 and float(value.max()) <= 1 + 1e-3
    sums = value.astype(np.float64).sum(axis)
    return "probabilities" if inside and float(np.abs(sums - 1).max()) < 1e-2 else "logits"


def _checked_range(value: np.ndarray, wanted: Kind) -> Kind:
    low, high = float(value.min()), float(value.max())
    if wanted == "probabilities" and (low < -1e-3 or high > 1 + 1e-3):
        raise UsageError(f"the output has values from {low:.3g} to {high:.3g}, which are not probabilities: give "
                         "--output logits")  # fmt: skip
    return wanted


def _axis(fitting: list[bool], channels_last: bool | None, described: str) -> bool:
    if len(fitting) == 1:
        return fitting[0]
    if channels_last is None:
        raise UsageError(f"the output is {described}, which does not say where its classes are: give --layout nchw or "
                         "--layout nhwc")  # fmt: skip
    return channels_last


def _check_ids(value: np.ndarray, labels: LabelSet, wanted: Kind | None) -> None:
    if wanted not in (None, "labels"):
        raise UsageError(f"the output is {value.dtype} {value.shape}, which are labels, not {wanted}: leave --output "
                         "out, or name another tensor with --output-name")  # fmt: skip
    check_ids(value, labels)


def check_ids(value: np.ndarray, labels: LabelSet) -> None:
    """Raises UsageError if ids are outside the classes."""
    if (broken := value[np.round(value) != value]).size:
        raise UsageError(f"the output is {value.dtype} {value.shape} with values such as {broken[0]:.4g}, which are "
                         "not class ids: give --output logits or --output probabilities")  # fmt: skip
    low, high = float(value.min()), float(value.max())
    if low < 0 or high >= len(labels):
        raise UsageError(f"the graph gives labels from {low:g} to {high:g}, but {labels.name} has the classes 0 to "
                         f"{len(labels) - 1}: other --classes are needed")  # fmt: skip


def _other_classes(channels: int, labels: LabelSet, described: str) -> UsageError:
    if channels > 256:
        return UsageError(f"the output is {described}: label maps have 8 bits, so 256 classes are the most")
    return UsageError(f"the output is {described}, and none of its axes has the {len(labels)} classes of "
                      f"{labels.name}: give the --classes that it was trained on, or another tensor with "
                      "--output-name")  # fmt: skip


def common_stride(measured: Sequence[tuple[Size, Size]]) -> int | None:
    """The s for which every output is 1/s of its input in height and width, rounded up; None if there is none.

    If several fit, the one that divides without a remainder, else the largest: networks halve and round up.
    """
    sides = [pair for input_hw, output_hw in measured for pair in zip(input_hw, output_hw, strict=True)]
    fitting = [
        s for s in range(1, min(whole for whole, _ in sides) + 1) if all(-(-w // s) == part for w, part in sides)
    ]
    exact = [s for s in fitting if all(whole == s * part for whole, part in sides)]
    return max(exact or fitting, default=None)


def no_stride(input_hw: Size, output_hw: Size) -> UsageError:
    """The error if there is no common stride."""
    return UsageError(f"for a picture of {format_size(input_hw)} the graph gives {format_size(output_hw)}: height and "
                      "width must be the picture's, divided by one whole number")  # fmt: skip
