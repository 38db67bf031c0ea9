"""How labels hold in other light: the mIoU of the networks that ship on CamVid's val, whose pictures are changed.

    python benchmarks/light.py --root CAMVID --json benchmarks/results/light.json
    python benchmarks/light.py --root CAMVID --model old/icnet.onnx       # another network

The changes are those of `rtseg/training/light.py`, each at its own strength and the same for every network. Networks
trained with `--light` have seen such changes, on other pictures.
"""

from pathlib import Path
from statistics import fmean
from typing import Any

import albumentations as A
from cyclopts import App, Parameter
from rich.console import Console

from rtseg.apps._console import run
from rtseg.core.files import write_json
from rtseg.core.runspec import RunSpec
from rtseg.core.zoo import resolve, shipped
from rtseg.datasets import DataSet, open_data
from rtseg.live.environment import environment
from rtseg.live.segmenter import Segmenter
from rtseg.metrics.confusion import ConfusionMatrix
from rtseg.training.light import Exposure, Haze, Temperature, UnevenLight

app = App(help=__doc__, default_parameter=Parameter(consume_multiple=True, negative=""))
PLAIN = "as it is"
CHANGES = {
    PLAIN: None,
    "dark": A.RandomGamma(gamma_limit=(240, 240), p=1),
    "overexposed": Exposure(p=1),
    "warm or cold": Temperature(p=1),
    "haze": Haze(p=1),
    "uneven": UnevenLight(p=1),
}


def measure(model: str, data: DataSet, every: int) -> dict[str, Any]:
    """The mIoU under each change, and the mean over all changes."""
    found = {}
    with Segmenter(RunSpec(model, "onnxruntime", "fp32")) as segmenter:
        for kind, change in CHANGES.items():
            matrix = ConfusionMatrix(data.labels)
            transform = A.Compose([] if change is None else [change])
            for index in range(0, len(data), every):
                sample = data.sample(index)
                transform.set_random_seed(index)
                matrix.update(segmenter(transform(image=sample.image)["image"]), sample.labels)
            found[kind] = round(matrix.miou, 4)
    mean = fmean(value for kind, value in found.items() if kind != PLAIN)
    card = resolve(model).card
    return {"model": card.name, "sha256": card.files["fp32"].sha256, "miou": found, "mean": round(mean, 4)}


@app.default
def main(*, root: Path, model: tuple[str, ...] = (), every: int = 5, json: Path | None = None) -> None:
    """Scores each network under each change.

    Args:
        root: CamVid in SegNet's layout.
        model: Names, or paths of ONNX files; by default all that ship.
        every: Take every n-th picture of val, which has fifteen a second.
        json: Write the figures to this file.
    """
    data = open_data("camvid", root, "val")
    results = []
    for name in model or tuple(shipped()):
        results.append(measure(name, data, every))
        Console().print(results[-1])
    if json is not None:
        write_json(json, {"environment": environment(), "every": every, "results": results})


if __name__ == "__main__":
    run(app)
