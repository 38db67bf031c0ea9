"""Any network of segmentation-models-pytorch, as a baseline or a teacher (`smp:ARCHITECTURE:ENCODER`)."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import segmentation_models_pytorch as smp
import timm
from torch import Tensor

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.models.base import LAST, SegmentationModel
from rtseg.models.encoders.pretrained import IMAGENET, fetching, load_by_name
from rtseg.models.pruned import Width

_TIMM = "tu-"  # the package's prefix for timm encoders
ARCHITECTURES = list(smp.MODEL_ARCHITECTURES_MAPPING)


@dataclass(frozen=True)
class SmpConfig:
    """Names are the package's; `pretrained` is 'imagenet', or the path of a state-dict file of the encoder.

    `pruned` lists the layers that are narrower than the package's, see `rtseg.models.pruned`.
    """

    classes: int = 11
    architecture: str = "unet"
    encoder: str = "resnet34"
    pretrained: str | None = None
    pruned: tuple[Width, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise UsageError(f"an smp network needs classes >= 1, not {self}")
        if self.architecture not in ARCHITECTURES:
            raise unknown_name("architecture of smp", self.architecture, ARCHITECTURES)
        timms = self.encoder.startswith(_TIMM)
        known = timm.list_models() if timms else smp.encoders.get_encoder_names()
        if self.encoder.removeprefix(_TIMM).split(".")[0] not in known:
            raise unknown_name("encoder of smp", self.encoder.removeprefix(_TIMM), known)


class SmpNetwork(SegmentationModel):
    """Logits at the input size. Initialised by the package.

    Example:
        >>> SmpNetwork(SmpConfig(classes=11)).eval()(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 11, 64, 96])
    """

    config_class = SmpConfig
    size_multiple = 32
    logits_stride = 1

    def __init__(self, config: SmpConfig) -> None:
        super().__init__()
        self.config = config
        name, hub = f"smp:{config.architecture}:{config.encoder}", config.pretrained == IMAGENET
        weights = IMAGENET if hub else None
        with fetching(name) if hub else nullcontext():
            try:
                self.network = smp.create_model(config.architecture, config.encoder, weights, classes=config.classes)
            except (KeyError, ValueError, NotImplementedError) as error:
                raise UsageError(f"smp has no {config.architecture} on {config.encoder}: {error}") from error
        if config.pretrained is not None and not hub:
            load_by_name(self.network.encoder, name, config.pretrained)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        seen = self.network.encoder(x)
        if self.config.architecture == "dpt":  # its encoder returns tokens, not feature maps
            return {LAST: self.network.decoder(*seen)}
        named = {f"encoder/{2**depth}": found for depth, found in enumerate(seen) if depth and found.shape[1]}
        return {**named, LAST: self.network.decoder(seen)}

    def classify(self, features: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.network.segmentation_head(features[LAST])  # (N, C, H, W)
        return logits
