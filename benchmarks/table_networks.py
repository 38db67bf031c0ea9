"""Tables on networks: their cards, and their scores at other sizes and in other light."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from table_sources import RESULTS, ROOT, markdown, result


def card_row(card: dict[str, Any]) -> dict[str, str]:
    """A network's row, by column name."""
    return {
        "network": card["name"],
        "trunk": trunk(card),
        "parameters": f"{card['parameters'] / 1e6:.2f} M",
        "GMAC at 1024x2048": f"{card['gmac_1024x2048']:.1f}",
        "mIoU CamVid val": figure(card, "camvid/val"),
        "in other light": other_light(card["name"]),
        "boundary F1 val": figure(card, "camvid/val", "boundary_f1"),
        "files": ", ".join(f"{precision} {file['bytes'] / 2**20:.1f} MiB" for precision, file in card["files"].items()),
        "engine fps at 256x512": engine_fps(card["name"]),
        "epochs": epochs(card["recipe"]),
    }


def figure(card: dict[str, Any], split: str, key: str = "miou") -> str:
    """A network's score on a split; '' if there is none."""
    found = card["metrics"]["fp32"].get(split, {}).get(key)
    return "" if found is None else f"{found:.3f}"


def other_light(name: str) -> str:
    """A network's mean mIoU on val under changes of light; '' if it was not measured."""
    found = [r for r in result("light")["results"] if r["model"] == name]
    return f"{found[0]['mean']:.3f}" if found else ""


def epochs(recipe: dict[str, Any]) -> str:
    """Epochs of each run in the weights' history, oldest first; those of the trunk alone in brackets."""
    before = recipe.get("init")
    if before is None:
        return str(recipe["epochs_done"])
    earlier = epochs(before["recipe"])
    return f"{f'({earlier})' if before.get('part') else earlier} + {recipe['epochs_done']}"


def trunk(card: dict[str, Any]) -> str:
    """The network's feature extractor."""
    own = {"enet": "its own", "icnet": "resnet50_half"}
    config = card["config"]
    if config.get("encoder") is None:
        return own[card["model"]]
    if "output_stride" not in config:  # ICNet's width applies to its cascade
        return str(config["encoder"])
    width = f", width {config['width']:g}" if config["width"] != 1 else ""
    return f"{config['encoder']}{width}, stride {config['output_stride']}"


def engine_fps(name: str) -> str:
    """The FP32 rate of the engine that `auto` takes: the better of one picture at a time and several in flight."""
    found = [r["engine_fps"] for r in result("pipeline")["results"] if r["model"] == name and r["precision"] == "fp32"]
    return f"{found[0]:.0f}" if found else ""


def cards_table(folder: Path, without: Iterable[str] = ()) -> str:
    """The cards in a folder, one row each, without some of the columns."""
    rows = [card_row(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise FileNotFoundError(2, "no cards", str(folder))
    header = [column for column in rows[0] if column not in without]
    return markdown(header, [[row[column] for column in header] for row in rows])


def models_table() -> str:
    return cards_table(ROOT / "weights")


def trunks_table() -> str:
    """Trained networks that do not ship."""
    return cards_table(RESULTS / "trunks", without=("in other light", "engine fps at 256x512"))


def sizes_table() -> str:
    """A row per network, a column per input size."""
    results = result("sizes")["results"]
    factors = sorted({r["factor"] for r in results})
    rows = []
    for model in dict.fromkeys(r["model"] for r in results):
        found = {r["factor"]: f"{r['miou']:.3f} ({r['gmac']:.1f} GMAC)" for r in results if r["model"] == model}
        rows.append([model, *(found[factor] for factor in factors)])
    return markdown(["network", *(f"{factor:g}" for factor in factors)], rows)


def light_table() -> str:
    """mIoU on unchanged val pictures, and under changes of light."""
    results = result("light")["results"]
    kinds = list(results[0]["miou"])
    return markdown(["network", *kinds], [[r["model"], *(f"{r['miou'][k]:.3f}" for k in kinds)] for r in results])


def confidence_table() -> str:
    """Each network's calibration error on val, and its best temperature."""
    rows = []
    for path in sorted((ROOT / "weights").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        (found,) = card["metrics"]["fp32"].values()
        rows.append([card["name"], f"{found['ece_at_temperature_1']:.3f}", f"{found['temperature']:.2f}",
                     f"{found['ece']:.3f}"])  # fmt: skip
    return markdown(["network", "ECE as trained", "temperature", "ECE at it"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "models": models_table,
    "trunks": trunks_table,
    "sizes": sizes_table,
    "light": light_table,
    "confidence": confidence_table,
}
