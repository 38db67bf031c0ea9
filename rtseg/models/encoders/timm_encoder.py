"""Any timm encoder that returns feature maps (`timm:NAME`)."""

from contextlib import nullcontext
from typing import Any

import timm
import torch
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.models.encoders.base import Encoder, TrunkOptions
from rtseg.models.encoders.pretrained import IMAGENET, fetching, load_by_name
from rtseg.models.encoders.table import Row


class TimmEncoder(Encoder):
    """Wraps `timm.create_model(NAME, features_only=True)`; initialised by timm.

    Args:
        name: timm's name, with or without the tag of its weights ('resnet50d', 'convnext_tiny.fb_in1k').
        options: uses the output stride, which some of timm's networks cannot change.
        pretrained: 'imagenet' for timm's own weights, or the path of a state-dict file with timm's names.
    """

    def __init__(self, name: str, options: TrunkOptions, pretrained: str | None) -> None:
        super().__init__()
        Row("", "", 0, width=False).check(f"timm:{name}", options)
        if name.split(".")[0] not in timm.list_models():
            raise unknown_name("encoder of timm", name, timm.list_models())
        stride: dict[str, Any] = {} if options.output_stride == 32 else {"output_stride": options.output_stride}
        hub = pretrained == IMAGENET
        with fetching(f"timm:{name}") if hub else nullcontext():
            try:
                self.network = timm.create_model(name, features_only=True, pretrained=hub, **stride)
            except (TypeError, AssertionError, NotImplementedError) as error:
                raise UsageError(f"timm:{name} has no features at output stride {options.output_stride} ({error}): "
                                 "try 32, or another encoder") from error  # fmt: skip
            except RuntimeError as error:
                if hub:
                    raise  # `fetching` explains it
                raise UsageError(f"timm does not build {name}: {error}") from error
        if pretrained is not None and not hub:
            load_by_name(self.network, f"timm:{name}", pretrained)
        info: Any = self.network.feature_info
        strides = info.reduction()
        if len(strides) < 2 or strides[-1] != options.output_stride:
            raise UsageError(
                f"timm:{name} has features at strides {strides}: at least two are needed, the last of them at "
                f"output stride {options.output_stride}"
            )
        self.channels = tuple(info.channels())
        self._check_features(name, strides)

    @torch.no_grad()
    def _check_features(self, name: str, strides: list[int]) -> None:
        """Raises UsageError unless the network returns (N, C, H/s, W/s) at any size; many transformers do not."""
        height, width = 2 * strides[-1], 3 * strides[-1]
        expected = [(1, c, height // s, width // s) for c, s in zip(self.channels, strides, strict=True)]
        try:
            found = [tuple(feature.shape) for feature in self.network.eval()(torch.zeros(1, 3, height, width))]
        except (AssertionError, RuntimeError) as error:
            raise UsageError(f"timm:{name} does not take pictures of any size ({error}): use another") from error
        finally:
            self.network.train()
        if found != expected:
            raise UsageError(f"timm:{name} gives features of {found} for a {height}x{width} picture, not {expected}: "
                             "use another")  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(x))
