"""A network small enough to export in a second or two, and weights that make any network's output lively."""

import time
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from rtseg.core.labels import CAMVID11
from rtseg.export.network import export_network
from rtseg.models import MODELS, build_model
from rtseg.models.base import LAST, SegmentationModel
from rtseg.models.blocks import ConvNormAct, upsample2
from rtseg.scenes import StreetScene

# The exporter rebuilds its table of operators for each graph, which takes a second; it only reads it.
ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))

SMALL = {
    "enet": {},
    "enet-encoder": {},
    "icnet": {"width": 0.125},
    "pspnet": {"encoder": "resnet18", "width": 0.125, "deep_stem": True, "channels": 16},
    "deeplabv3": {"encoder": "mobilenet_v3_small", "width": 0.5, "channels": 16, "output_stride": 16},
    "swiftnet": {"encoder": "efficientnet_lite0", "width": 0.25, "channels": 16},
    "smp": {"architecture": "unet", "encoder": "resnet18"},
}
"""Small configs of all registered networks."""
EXPORTED = [name for name in SMALL if name != "enet-encoder"]
"""Those that tests export, which takes seconds; the graph of ENet's encoder is a part of ENet's."""


@dataclass(frozen=True)
class TinyConfig:
    classes: int = 11
    pruned: tuple = ()


class TinyNet(SegmentationModel):
    config_class = TinyConfig
    size_multiple = 8
    logits_stride = 2

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.first = ConvNormAct(3, 16, stride=2)
        self.second = ConvNormAct(16, 16, stride=2)
        self.third = ConvNormAct(16, 16, act=None)
        self.classifier = nn.Conv2d(16, config.classes, 1)

    def features(self, x):
        x = self.second(self.first(x))
        return {"encoder/4": x, LAST: upsample2(torch.relu(self.third(x) + x))}


def randomise(model, seed=0):
    """Batch norms as after training: not the identity."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def register_tiny():
    """Adds 'tiny' to the model registry."""
    if "tiny" not in MODELS:
        MODELS.add("tiny", "tiny:TinyNet")


def lively(name, config=None, seed=0):
    """A network with fresh weights and random batch norms, in evaluation mode."""
    register_tiny()
    torch.manual_seed(seed)
    return randomise(build_model(name, config or {}), seed)


@cache
def streets():
    """Two small pictures for the parity gate."""
    return [StreetScene((96, 128), seed=seed).render(40)[0] for seed in range(2)]


def quick_export(model, name, folder, *, labels=CAMVID11, **more):
    """`export_network` with small pictures for its gate; tests/test_export.py tests the gate with its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rtseg.export.parity.GATE_SIZES", ((96, 128), (64, 160)))
        return export_network(model, name, labels, folder, **{"images": streets(), **more})


def network_file(folder, name, timeout_s=1500):
    """The ONNX file of `name`, built as in SMALL: exported into `folder`, with its card, on first use.

    Waits if another worker is exporting it.
    """
    folder.mkdir(exist_ok=True)
    path, done = folder / f"{name}.onnx", folder / f"{name}.done"
    try:
        (folder / f"{name}.begun").mkdir()
    except FileExistsError:
        end = time.monotonic() + timeout_s
        while not done.exists():
            assert time.monotonic() < end, f"the worker that exports {name} does not end"
            time.sleep(0.2)
        assert path.exists(), f"{name} could not be exported; the first test that needed it says why"
        return path
    try:
        quick_export(lively(name, SMALL[name]), name, folder, train_size=(256, 512))
    finally:
        done.touch()
    return path
