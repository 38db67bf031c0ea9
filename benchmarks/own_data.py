"""What a first run on pictures of one's own scores with nothing but defaults: the data set of docs/own-data.md.

    python benchmarks/own_data.py --json benchmarks/results/own_data.json
    python benchmarks/own_data.py --epochs 1        # whether it works

The command is `rtseg train --model enet --root shapes --output runs/shapes`; the score is of the pictures held out.
"""

import json as json_module
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from cyclopts import App
from rich.console import Console

from rtseg.core.files import write_json
from rtseg.live.environment import environment

app = App(help=__doc__)
SHAPES = Path(__file__).resolve().parents[1] / "docs" / "examples" / "shapes.py"


@app.default
def main(*, model: str = "enet", epochs: int | None = None, json: Path | None = None) -> None:
    """Makes the pictures, trains on them, and says what came of it.

    Args:
        model: the architecture.
        epochs: passes over the pictures; by default as many as the command takes by itself.
        json: where the figures are written.
    """
    with TemporaryDirectory() as folder:
        root, output = Path(folder, "shapes"), Path(folder, "run")
        subprocess.run([sys.executable, SHAPES, root], check=True)
        options = ["--model", model, "--root", root, "--output", output]
        options += [] if epochs is None else ["--epochs", str(epochs)]
        subprocess.run([sys.executable, "-m", "rtseg.apps.main", "train", *options], check=True)
        card = json_module.loads((output / "best.json").read_text(encoding="utf-8"))
    found = {
        "model": model,
        "epochs": card["recipe"]["epochs"],
        "best_epoch": card["recipe"]["epochs_done"],
        **card["metrics"]["folder/val"],
    }
    Console().print(found)
    if json is not None:
        write_json(json, {"environment": environment(), "result": found})


if __name__ == "__main__":
    app()
