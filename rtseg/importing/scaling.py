"""How a network expects its pictures: colour order, and the mean and divisor of each channel."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from rtseg.core.errors import UsageError

Order = Literal["rgb", "bgr"]
ORDERS: tuple[str, ...] = get_args(Order)

_TOP = 255.0  # of the uint8 values


@dataclass(frozen=True)
class Scaling:
    """(value / scale - mean) / std per channel, in the network's own channel order.

    Attributes:
        order: 'rgb' or 'bgr'.
        mean: of the values after the division by `scale`.
        std: the same.
        scale: divides the uint8 values first.
    """

    order: Order
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise UsageError(f"--order {self.order!r} is not allowed: {' or '.join(ORDERS)}")
        if not np.isfinite([self.scale, *self.mean, *self.std]).all():
            raise UsageError(f"--mean {_text(self.mean)}, --std {_text(self.std)}: give finite numbers")
        if not self.scale > 0 or not all(value > 0 for value in self.std):
            raise UsageError(f"--scale {self.scale:g} and --std {_text(self.std)}: both must be above zero")
        if max(self.mean) > max(1.5, _TOP / self.scale):
            raise UsageError(
                f"--mean {_text(self.mean)} is above every value of a picture, which --scale {self.scale:g} brings to "
                f"0..{_TOP / self.scale:g}: give --scale 1 where mean and std are those of 0..255"
            )

    def apply(self, images: np.ndarray) -> np.ndarray:
        """uint8 BGR (N, H, W, 3) -> float32 (N, H, W, 3), written plainly in numpy."""
        ordered = images[..., ::-1] if self.order == "rgb" else images
        values = ordered.astype(np.float32) / np.float32(self.scale)
        scaled: np.ndarray = (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return scaled

    def in_order(self, order: Order) -> "Scaling":
        """The same scaling for a network with the given channel order."""
        if order == self.order:
            return self
        mean, std = self.mean, self.std
        return replace(self, order=order, mean=(mean[2], mean[1], mean[0]), std=(std[2], std[1], std[0]))

    def of_unit_rgb(self) -> dict[str, tuple[float, ...]]:
        """`mean` and `std` for RGB values in 0..1, the form in cards."""
        found = {"mean": self.mean, "std": self.std}
        step = 1 if self.order == "rgb" else -1
        return {
            name: tuple(round(value * self.scale / _TOP, 8) for value in values[::step])
            for name, values in found.items()
        }


PRESETS: dict[str, Scaling] = {
    "imagenet": Scaling("rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), _TOP),
    "half": Scaling("rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), _TOP),
    "unit": Scaling("rgb", scale=_TOP),
}
"""'imagenet' is that of torchvision, timm and most of transformers; 'half' gives -1..1, 'unit' gives 0..1."""


def find_scaling(
    takes_bytes: bool,
    preset: str | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    order: Order | None = None,
    scale: float | None = None,
) -> Scaling:
    """The scaling that the user's options describe.

    Args:
        takes_bytes: whether the graph takes uint8 values, and scales them itself.
        preset: a name in `PRESETS`; the other arguments override its parts, and `order` also reorders its channels.
        mean: one number for all channels, or three.
        std: the same.
        order: of the channels.
        scale: None for 255.

    Raises:
        UsageError: something is missing, contradicts the graph, or is not a valid scaling.
    """
    if takes_bytes:
        if preset or mean or std or scale is not None:
            raise UsageError("the graph takes uint8 values and scales them itself: leave --preset, --mean, --std and "
                             "--scale out; --order is all that is missing")  # fmt: skip
        if order is None:
            raise UsageError("the graph does not say in which order it takes red, green and blue: give --order rgb or "
                             "--order bgr")  # fmt: skip
        return Scaling(order)
    if preset is None:
        given = {"--mean": mean, "--std": std, "--order": order}
        if missing := [option for option, value in given.items() if not value]:
            raise UsageError(
                f"{', '.join(missing)} not given: a graph of floats does not say how pictures are scaled for it, and "
                "with another scaling its labels are wrong without an error; its preprocessor_config.json, transforms "
                "or README say it. --preset imagenet is --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 "
                "--order rgb --scale 255; --preset half brings values to -1..1, --preset unit to 0..1"
            )
    elif preset not in PRESETS:
        raise UsageError(f"--preset {preset!r} is unknown: allowed are {', '.join(PRESETS)}")
    base = PRESETS[preset].in_order(order or "rgb") if preset else Scaling(order or "rgb", scale=_TOP)
    return replace(
        base,
        mean=_three(mean, "--mean") if mean else base.mean,
        std=_three(std, "--std") if std else base.std,
        scale=base.scale if scale is None else scale,
    )


def _three(values: tuple[float, ...], option: str) -> tuple[float, float, float]:
    if len(values) not in (1, 3):
        raise UsageError(f"{option} has {len(values)} numbers: give three, in the order of --order, or one for all")
    first, second, third = values * (3 // len(values))
    return first, second, third


def _text(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
