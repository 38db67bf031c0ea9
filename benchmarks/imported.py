"""Networks of other libraries through `rtseg import`: what came of it, parity with the original, and fps in the loop.

    python benchmarks/imported.py --json benchmarks/results/imported.json
    python benchmarks/imported.py lraspp --frames 8 --rounds 1          # a short look

The weights are fresh, so what is tested is the graphs; they are changed so that several classes win somewhere, and
`classes_seen` says how many did. Each network is exported with torch, with free height and width, and imported as users
do. The loop is that of `rtseg-cam --no-window` on a video of street scenes, with the engine that `auto` takes. A
library that is not installed is named.
"""

import statistics
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cyclopts import App
from pipeline import best_fps
from rich.console import Console
from street_video import street_video
from torch import nn

from rtseg.apps._console import run
from rtseg.core.errors import RtsegError
from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.sizes import Size, parse_size
from rtseg.core.threads import thread_budget
from rtseg.importing.label_sets import LABEL_SETS
from rtseg.importing.network import Imported, ImportOptions, import_network
from rtseg.live.bench import BenchPlan, bench
from rtseg.live.environment import environment
from rtseg.pictures.resize import limit_threads

app = App(help=__doc__)
_TRACED_HW = (256, 320)


class Scores(nn.Module):
    """A network that returns only the tensor of scores, float32 (N, C, h, w)."""

    def __init__(self, network: nn.Module, pick: Callable[[Any], torch.Tensor] = lambda output: output) -> None:
        super().__init__()
        self.network, self.pick = network, pick

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.pick(self.network(pixels))


def torchvision_network(name: str) -> nn.Module:
    from torchvision.models import segmentation

    network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=21)
    return Scores(network, lambda output: output["out"])


def smp_network(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    network: nn.Module = getattr(smp, name)("resnet18", encoder_weights=None, classes=19)
    return network


def segformer(name: str) -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    network = SegformerForSemanticSegmentation(SegformerConfig(num_labels=150))
    return Scores(network, lambda output: output.logits)


NETWORKS: dict[str, tuple[str, Callable[[str], nn.Module], str, str]] = {
    "lraspp_mobilenet_v3_large": ("torchvision", torchvision_network, "lraspp_mobilenet_v3_large", "voc"),
    "deeplabv3_mobilenet_v3_large": ("torchvision", torchvision_network, "deeplabv3_mobilenet_v3_large", "voc"),
    "fcn_resnet50": ("torchvision", torchvision_network, "fcn_resnet50", "voc"),
    "Unet resnet18": ("segmentation-models-pytorch", smp_network, "Unet", "cityscapes"),
    "FPN resnet18": ("segmentation-models-pytorch", smp_network, "FPN", "cityscapes"),
    "DeepLabV3Plus resnet18": ("segmentation-models-pytorch", smp_network, "DeepLabV3Plus", "cityscapes"),
    "SegFormer b0": ("transformers", segformer, "b0", "ade20k"),
}
"""Name -> (library, function that builds it, the library's name for it, classes)."""


def enliven(network: nn.Module, classes: int) -> None:
    """Sets random batch norm statistics, and shifts the scores to a mean of zero over the classes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.Conv2d) and module.out_channels == classes:
            module.weight.data -= module.weight.data.mean(0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def export(network: nn.Module, path: Path) -> None:
    """Writes an ONNX file the way most people do."""
    free = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        network.eval(), (torch.zeros(1, 3, *_TRACED_HW),), str(path), dynamo=False, opset_version=17,
        input_names=["pixels"], output_names=["scores"], dynamic_axes={"pixels": free, "scores": free},
    )  # fmt: skip


def measure(name: str, size_hw: Size, video: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """A network's row; the reason if it cannot be imported."""
    library, build, own_name, classes = NETWORKS[name]
    row: dict[str, Any] = {"network": name, "library": library}
    try:
        row["version"] = version(library)
    except PackageNotFoundError:
        return {**row, "missing": f"{library} is not installed"}
    torch.manual_seed(0)
    network = build(own_name)
    enliven(network, len(LABEL_SETS[classes]))
    export(network, folder / "net.onnx")
    options = ImportOptions(preset="imagenet", size=size_hw)
    try:
        imported = import_network(folder / "net.onnx", "mine", LABEL_SETS[classes], folder, options)
        return {**row, **described(imported), **timed(folder / "mine.onnx", video, rounds)}
    except RtsegError as error:
        return {**row, "refused": str(error)}


def described(imported: Imported) -> dict[str, Any]:
    """The findings of the import, and the agreement with the original."""
    card = imported.artifact.card
    return {
        "classes": len(card.labels),
        "multiple": card.size_multiple,
        "stride": card.logits_stride,
        "mib": round(card.files["fp32"].bytes / 2**20, 1),
        "parity": {
            engine: {"agreement": round(found.agreement, 6), "drift": float(f"{found.drift:.1e}"),
                     "classes_seen": found.classes}
            for engine, found in imported.parity.items()
        },
    }  # fmt: skip


def timed(path: Path, video: Path, rounds: int) -> dict[str, Any]:
    """Times the engine alone and the loop; medians over the rounds."""
    plan = BenchPlan(source=str(video), frames=1000, runs=20, warm_up=2)
    results = list(bench([RunSpec(str(path))] * rounds, plan))
    return {
        "engine": results[0]["engine"],
        "size": results[0]["size"],
        "source": results[0]["source"]["size"],
        "engine_fps": round(statistics.median(best_fps(result) for result in results), 2),
        "fps": round(statistics.median(result["end_to_end_fps"] for result in results), 2),
    }


@app.default
def main(
    *only: str,
    source: str = "1024x2048",
    size: str = "512x512",
    frames: int = 60,
    rounds: int = 3,
    json: Path | None = None,
) -> None:
    """Imports and times each network.

    Args:
        only: Networks whose names hold one of these words; by default all.
        source: Size of the video.
        size: As many pixels as this are labelled.
        frames: Of the video.
        rounds: How often each is timed.
        json: Write the figures to this file.
    """
    limit_threads(thread_budget().opencv)
    results = []
    with street_video(parse_size(source), frames) as video, TemporaryDirectory() as folder:
        for name in NETWORKS:
            if not only or any(word in name for word in only):
                results.append(measure(name, parse_size(size), video, Path(folder), rounds))
                Console().print(results[-1])
    if json is not None:
        write_json(json, {"environment": environment(), "rounds": rounds, "frames": frames, "results": results})


if __name__ == "__main__":
    run(app)
