"""Labels against the network's input size: the mIoU of the networks that ship, at smaller and larger inputs.

    python benchmarks/sizes.py --root CAMVID --json benchmarks/results/sizes.json

A validation split at one scale, against its own truth: what `--size` costs or brings. Arithmetic grows with the pixels.
With `--enter` the cards state the figures of other sizes too, as {"HxW": mIoU} beside their own: `rtseg-cam --deadline`
chooses sizes by them.
"""

from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from rich.console import Console

from rtseg.apps._console import run
from rtseg.apps.evaluate import EvalOptions, score
from rtseg.core.files import write_json
from rtseg.core.sizes import Size, format_size, nearest_multiple
from rtseg.core.zoo import resolve, shipped
from rtseg.live.environment import environment

app = App(help=__doc__, default_parameter=Parameter(negative=""))
FACTORS = (0.375, 0.5, 0.75, 1.0, 1.25)


def measure(model: str, size_hw: Size, root: Path) -> dict[str, Any]:
    options = EvalOptions(model=model, data="camvid", root=root, engine="onnxruntime", size=format_size(size_hw))
    figures = score(options)
    gmac = resolve(model).card.gmac_1024x2048 * size_hw[0] * size_hw[1] / (1024 * 2048)
    kept = {key: figures[key] for key in ("model", "size", "miou", "boundary_f1", "frames", "sha256")}
    return {**kept, "gmac": round(gmac, 2)}


def enter_sizes(model: str, found: list[dict[str, Any]]) -> None:
    """Writes the scores at sizes other than its own into a network's card."""
    artifact = resolve(model)
    card = artifact.card
    own = card.figures()["camvid/val"]
    sizes = {format_size(tuple(f["size"])): f["miou"] for f in found if tuple(f["size"]) != card.train_size}
    artifact.save_card(card.with_figures("fp32", {"camvid/val": {**own, "sizes": sizes}}))


@app.default
def main(*, root: Path, json: Path | None = None, enter: bool = False) -> None:
    """Scores each network at each size.

    Args:
        root: CamVid in SegNet's layout, of 360x480 pictures.
        json: Write the figures to this file.
        enter: Write those of other sizes into the networks' cards.
    """
    results = []
    for model in shipped():
        card = resolve(model).card
        for factor in FACTORS:
            height, width = (round(side * factor) for side in card.train_size)
            found = measure(model, nearest_multiple((height, width), card.size_multiple), root)
            results.append({**found, "factor": factor})
            Console().print(f"{model} {format_size(tuple(found['size']))}: mIoU {found['miou']:.4f}")
        if enter:
            enter_sizes(model, [found for found in results if found["model"] == model])
    if json is not None:
        write_json(json, {"environment": environment(), "results": results})


if __name__ == "__main__":
    run(app)
