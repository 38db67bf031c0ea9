"""Writes the tables of README.md and docs/ from the cards in weights/ and the files in benchmarks/results/.

python benchmarks/tables.py            # write
python benchmarks/tables.py --check    # exit 1 where a page differs from what would be written
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{page}.md" for page in ("compression", "import", "networks", "speed", "training", "video")),
]
RESULTS = ROOT / "benchmarks" / "results"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(header), *(list(row) for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def result(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return data


def figure(card: dict[str, Any], split: str, key: str = "miou") -> str:
    """A network's figure on a split, '' where it has none."""
    found = card["metrics"]["fp32"].get(split, {}).get(key)
    return "" if found is None else f"{found:.3f}"


def other_light(name: str) -> str:
    """A network's mean mIoU on val under changes of light; '' where it was not measured."""
    found = [r for r in result("light")["results"] if r["model"] == name]
    return f"{found[0]['mean']:.3f}" if found else ""


def epochs(recipe: dict[str, Any]) -> str:
    """Epochs of each run that the weights went through, oldest first; in brackets those of the trunk alone."""
    before = recipe.get("init")
    if before is None:
        return str(recipe["epochs_done"])
    earlier = epochs(before["recipe"])
    return f"{f'({earlier})' if before.get('part') else earlier} + {recipe['epochs_done']}"


def card_row(card: dict[str, Any]) -> dict[str, str]:
    """A network's line, by the names of the columns."""
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


def cards_table(folder: Path, without: Iterable[str] = ()) -> str:
    """The cards in a folder, a line each, without some of the columns."""
    rows = [card_row(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise FileNotFoundError(2, "no cards", str(folder))
    header = [column for column in rows[0] if column not in without]
    return markdown(header, [[row[column] for column in header] for row in rows])


def models_table() -> str:
    return cards_table(ROOT / "weights")


def trunks_table() -> str:
    """Networks that were trained and do not ship."""
    return cards_table(RESULTS / "trunks", without=("in other light", "engine fps at 256x512"))


def sizes_table() -> str:
    """A line for each network, a column for each input size."""
    results = result("sizes")["results"]
    factors = sorted({r["factor"] for r in results})
    rows = []
    for model in dict.fromkeys(r["model"] for r in results):
        found = {r["factor"]: f"{r['miou']:.3f} ({r['gmac']:.1f} GMAC)" for r in results if r["model"] == model}
        rows.append([model, *(found[factor] for factor in factors)])
    return markdown(["network", *(f"{factor:g}" for factor in factors)], rows)


WEAK = ("pole", "sign", "fence", "pedestrian", "cyclist")


def left_out_table() -> str:
    """What each choice scores on a drive that its run did not see, with the classes that are hardest."""
    rows = [
        [drive, name, f"{found['miou']:.3f}", *(f"{found['iou'][c]:.2f}" for c in WEAK)]
        for drive, runs in result("left_out")["drives"].items()
        for name, found in runs.items()
    ]
    return markdown(["left out", "run", "mIoU", *WEAK], rows)


FORMS = {"deeplabv3": "deeplabv3", "icnet": "icnet shared to 16, detail", "pspnet": "pspnet", "swiftnet": "base"}
"""Networks that ship -> the short runs of their form on the drives that are left out."""


def drives_table() -> str:
    """What ships on val, beside short runs of the same forms on drives that they did not see."""
    drives = result("left_out")["drives"]
    rows = []
    for name, run in FORMS.items():
        card = json.loads((ROOT / "weights" / f"{name}.json").read_text(encoding="utf-8"))
        unseen = [f"{runs[run]['miou']:.3f}" if run in runs else "" for runs in drives.values()]
        rows.append([name, figure(card, "camvid/val"), *unseen])
    return markdown(["network", "val", *(f"{drive}, left out" for drive in drives)], rows)


def decoders_table() -> str:
    """The decoders that SwiftNet may have: what they score, what they cost."""
    scored, timed = result("left_out")["drives"]["0006R0"], result("decoders")["results"]
    rows = [
        [kind, f"{scored[found['run']]['miou']:.3f}", f"{found['gmac']:.2f}", f"{found['ms']['p50']:.1f}"]
        for kind, found in timed.items()
    ]
    return markdown(["decoder", "mIoU on the left-out drive", "GMAC at 256x512", "p50 at 256x512, ms"], rows)


def unlabelled_table() -> str:
    """An eighth of the labels, alone and with the rest of the pictures."""
    found = result("unlabelled")
    names = {"labels": "an eighth of the labels", "labels and rest": "the same, the rest unlabelled"}
    rows = [
        [names.get(run, run), str(found["steps"]), *(f"{scored[split]['miou']:.3f}" for split in scored)]
        for run, scored in found["results"].items()
    ]
    splits = next(iter(found["results"].values()))
    return markdown(["run", "steps", *(f"mIoU {split}" for split in splits)], rows)


def compression_table() -> str:
    """What each way brought on the proxy, beside the labels alone and half the channels from scratch."""
    found = result("compression")
    results = found["results"]
    rows = []
    for name, row in results.items():
        against = "half the channels, from scratch" if row["kind"] == "pruning" else "labels alone"
        base = results.get(against)
        gain = row["miou"] - base["miou"] if base and name != against else None
        first = next(iter(row["seeds"].values()))
        rows.append([
            row["kind"], name, f"{row['miou']:.3f}", "" if gain is None else f"{100 * gain:+.1f}",
            "" if row["spread"] is None else f"{100 * row['spread']:.1f}", str(len(row["seeds"])),
            f"{first['parameters'] / 1e3:.0f} k", f"{first['cpu_ms_a_step']:.0f}", verdict(gain, row, base),
        ])  # fmt: skip
    header = ["", "way", "mIoU", "points", "spread", "seeds", "parameters", "processor, ms a step", "it earns"]
    scores = ", ".join(f"{name} {score:.3f}" for name, score in found["scores"].items())
    return f"{markdown(header, rows)}\n\nmIoU on {found['drive']}, which nobody saw; {scores}."


def verdict(gain: float | None, row: dict[str, Any], base: dict[str, Any] | None) -> str:
    """What may be said of a difference: more than twice the spread of both is more than chance."""
    if gain is None or base is None:
        return "the baseline"
    spread = max(row["spread"] or 0.0, base["spread"] or 0.0)
    if not spread:
        return "one seed: too little to say"
    if abs(gain) <= 2 * spread:
        return "no more than chance"
    return "helps" if gain > 0 else "harms"


def light_table() -> str:
    """mIoU on val as it is, and under changes of light."""
    results = result("light")["results"]
    kinds = list(results[0]["miou"])
    return markdown(["network", *kinds], [[r["model"], *(f"{r['miou'][k]:.3f}" for k in kinds)] for r in results])


def trunk(card: dict[str, Any]) -> str:
    """What extracts the features."""
    own = {"enet": "its own", "icnet": "resnet50_half"}
    config = card["config"]
    if config.get("encoder") is None:
        return own[card["model"]]
    if "output_stride" not in config:  # ICNet's width is that of its cascade
        return str(config["encoder"])
    width = f", width {config['width']:g}" if config["width"] != 1 else ""
    return f"{config['encoder']}{width}, stride {config['output_stride']}"


def engine_fps(name: str) -> str:
    """The better rate of the engine that `auto` takes, one picture at a time or several in flight."""
    found = [r["engine_fps"] for r in result("pipeline")["results"] if r["model"] == name and r["precision"] == "fp32"]
    return f"{found[0]:.0f}" if found else ""


def environment_line() -> str:
    made_on = result("pipeline")["environment"]
    return f"Measured on: {made_on['cpu']}, {made_on['cores']} cores, {made_on['os']}, Python {made_on['python']}."


def default_table() -> str:
    """What the default command takes and reaches, beside FP32 and the plain script, on the machine in the last line."""
    found = result("default")
    rows = [
        [
            r["model"], f"{r['precision']} on {r['engine']}", "x".join(map(str, r["size"])), f"{r['engine_fps']:.1f}",
            f"{r['fps']:.1f}", f"{r['fp32_fps']:.1f}", f"{r['plain_fps']:.1f}", f"{r['faster_than_plain_by']:.1f}x",
        ]
        for r in found["results"]
    ]  # fmt: skip
    header = ["network", "auto takes", "input", "engine fps", "fps", "in fp32", "plain script, fps", "faster by"]
    on = found["environment"]
    return f"{markdown(header, rows)}\n\n{on['cpu']}, {on['cores']} cores, {', '.join(on['instructions'])}."


def pipeline_table() -> str:
    rows = [
        [
            f"{r['model']} {r['precision']}",
            r["engine"],
            "x".join(map(str, r["source"])),
            f"{r['engine_fps']:.1f}",
            f"{r['end_to_end_fps']:.1f}",
            f"{r['share']:.2f}",
            f"{r['latency_ms']['p50']:.0f} / {r['latency_ms']['p99']:.0f}",
        ]
        for r in result("pipeline")["results"]
    ]
    header = ["network", "engine", "video", "engine fps", "end-to-end fps", "share", "latency p50 / p99, ms"]
    return markdown(header, rows)


def engines_table() -> str:
    """What the engines reach, each line with what it is compared with."""
    found = result("engines")["results"]
    arithmetic, int8, eager = found["arithmetic"], found["int8"], found["eager"]
    rows = [
        [
            f"{arithmetic['model']} fp32 on onnxruntime",
            f"{arithmetic['ms']['engine']['p50']:.1f}",
            f"{arithmetic['share']:.2f} of the rate of a float32 matrix product (numpy, 2048 cubed)",
        ]
    ]
    if "ms" in int8:
        faster = f"{int8['int8_is_faster_by']:.2f}x its fp32 form"
        rows.append([f"{int8['model']} int8 on onnxruntime", f"{int8['ms']['int8']['p50']:.1f}", faster])
    for engine, faster in eager["faster_than_the_better_eager_form_by"].items():
        chosen = ", what auto takes" if engine == eager["auto"] else ""
        compared = f"{faster:.2f}x its own eager torch form with max_unpool2d"
        rows.append([f"{eager['model']} fp32 on {engine}{chosen}", f"{eager['ms'][engine]['p50']:.1f}", compared])
    return markdown(["engine", "p50, ms", "compared"], rows)


def upsample_table() -> str:
    rows = [
        [
            name,
            "x".join(map(str, r["logits"])),
            f"{r['border_share']:.1%}",
            f"{r['ms']['rtseg']['p50']:.1f}",
            *(f"{r['ratio_of_medians'][form]:.0f}x" for form in ("torch", "cv2")),
        ]
        for name, r in result("upsample")["results"].items()
    ]
    header = ["logits of", "shape", "border cells", "rtseg p50, ms", "torch takes", "cv2.resize + argmax takes"]
    return markdown(header, rows)


def batch_table() -> str:
    rows = [
        [
            "x".join(map(str, r["size"])),
            f"{r['videos']} of {r['frames'] // r['videos']} frames",
            f"{r['workers']} of {r['threads']} threads",
            f"{r['fps']['rtseg']:.1f}",
            f"{r['fps']['plain']:.1f}",
            f"{r['faster_by']:.2f}x",
            f"{r['bound_fps']:.1f}",
            f"{r['share_of_bound']:.2f}",
        ]
        for r in result("batch")["results"]
    ]
    header = ["size", "videos", "workers", "fps", "plain script, fps", "faster by", "bound, fps", "share of bound"]
    return markdown(header, rows)


def kills_table() -> str:
    found = result("batch_kills")["results"]
    killed = found["kills"]
    rows = [
        [
            f"{killed['kills']} kills of the command",
            str(killed["files_compared"]),
            str(killed["different"]),
            f"{killed['lost_s']['at_most_s']:.2f} s of video",
        ]
    ]
    if "ray" in found:
        ray = found["ray"]
        rows.append(
            [
                f"{ray['workers_killed']} kills of Ray workers",
                *(str(ray[k]) for k in ("files_compared", "different")),
                "",
            ]
        )
    return markdown(["", "files compared", "different", "lost at most by one kill"], rows)


def memory_table() -> str:
    found = result("batch_soak")["result"]
    median = found["median_mib"]
    return markdown(
        ["video", "frames", "median of the second quarter", "median of the last quarter", "largest"],
        [[f"{found['hours_of_video']:g} hours", f"{found['frames']:,}",
          *(f"{mib:.0f} MiB" for mib in (median["second_quarter"], median["last_quarter"], found["largest_mib"]))]],
    )  # fmt: skip


def imported_table() -> str:
    """What became of the networks of other libraries, and the machine."""
    found = result("imported")
    rows = [
        [f"{r['library']} {r.get('version', '')}".strip(), r["network"], *imported_cells(r)] for r in found["results"]
    ]
    header = ["library", "network", "sizes", "labels that agree", "input", "engine", "engine fps", "fps in the loop"]
    on = found["environment"]
    return f"{markdown(header, rows)}\n\n{on['cpu']}, {on['cores']} cores, {', '.join(on['instructions'])}."


def imported_cells(row: dict[str, Any]) -> list[str]:
    if problem := row.get("missing") or row.get("refused"):
        return [problem, "", "", "", "", ""]
    rule = "any" if row["multiple"] == 1 else f"multiples of {row['multiple']}"
    agreement = ", ".join(f"{engine} {parity['agreement']:.2%}" for engine, parity in row["parity"].items())
    size = "x".join(map(str, row["size"]))
    return [rule, agreement, size, row["engine"], f"{row['engine_fps']:.1f}", f"{row['fps']:.1f}"]


def deadline_table() -> str:
    """mIoU of the labels on show at the end of a deadline: the controller, the best fixed rung, and dropping frames."""
    found = result("deadline")["curve"]
    rows = []
    for place, ours in enumerate(found["controller"]):
        best = max(found["fixed"], key=lambda rung: rung["miou"][place])
        name = f"{best['model']} {best['precision']} {'x'.join(map(str, best['size']))}"
        rows.append([f"{ours['deadline_ms']:g}", f"{ours['miou']:.3f}", f"{ours['missed'] / ours['frames']:.1%}",
                     f"{best['miou'][place]:.3f} ({name})", f"{found['dropping']['miou'][place]:.3f}"])  # fmt: skip
    return markdown(["deadline, ms", "controller", "missed", "best fixed rung", "dropping frames"], rows)


def load_table() -> str:
    """Misses beside a second load."""
    found = result("deadline")["load"]
    header = ["", "frames", "missed", "held", "late", "dropped"]
    rows = [
        [name, str(told["frames"]), f"{told['missed']} ({told['share_missed']:.2%})",
         *(str(told[key]) for key in header[3:])]
        for name, told in (("controller", found["controller"]), ("fixed rung", found["fixed"]))
    ]  # fmt: skip
    about = f"{found['minutes']:g} minutes at {found['deadline_ms']:g} ms, {found['bursts']} bursts."
    return f"{markdown(header, rows)}\n\n{about}"


TABLES: dict[str, Callable[[], str]] = {
    "models": models_table,
    "sizes": sizes_table,
    "trunks": trunks_table,
    "left_out": left_out_table,
    "drives": drives_table,
    "decoders": decoders_table,
    "compression": compression_table,
    "light": light_table,
    "imported": imported_table,
    "unlabelled": unlabelled_table,
    "environment": environment_line,
    "engines": engines_table,
    "default": default_table,
    "deadline": deadline_table,
    "load": load_table,
    "pipeline": pipeline_table,
    "upsample": upsample_table,
    "batch": batch_table,
    "kills": kills_table,
    "memory": memory_table,
}


def fill(text: str) -> str:
    """The text with every block between `<!-- table: NAME -->` and `<!-- end -->` made again."""

    def block(match: re.Match[str]) -> str:
        try:
            made = TABLES[match[1]]()
        except FileNotFoundError as missing:
            made = f"Not measured yet: `{Path(missing.filename).name}` is to come (benchmarks/PROTOCOL.md says how)."
        return f"<!-- table: {match[1]} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    code = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = fill(text)
        if not check:
            page.write_text(made, encoding="utf-8")
        elif made != text:
            print(f"{page.name} is not what its sources give: run python benchmarks/tables.py", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
