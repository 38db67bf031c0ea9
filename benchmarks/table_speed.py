"""Tables on speed: engines, the whole loop, deadlines, networks of other libraries."""

from collections.abc import Callable
from typing import Any

from table_sources import markdown, result

from rtseg.core.zoo import resolve


def environment_line() -> str:
    made_on = result("pipeline")["environment"]
    return f"Measured on: {made_on['cpu']}, {made_on['cores']} cores, {made_on['os']}, Python {made_on['python']}."


def engines_table() -> str:
    """The engines' results, each beside its baseline."""
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


def default_table() -> str:
    """What the default command chooses and reaches, beside FP32 and the plain script; the last row is the machine."""
    found = result("default")
    rows = [
        [
            r["model"], "x".join(map(str, r["source"])), f"{r['precision']} on {r['engine']}",
            "x".join(map(str, r["size"])), f"{r['engine_fps']:.1f}", f"{r['fps']:.1f}", f"{r['share']:.2f}",
            f"{r['fp32_fps']:.1f}", f"{r['plain_fps']:.1f}", f"{r['faster_than_plain_by']:.1f}x",
        ]
        for r in found["results"]
    ]  # fmt: skip
    header = ["network", "video", "auto takes", "input", "engine fps", "fps", "share", "in fp32", "plain script, fps",
              "faster by"]  # fmt: skip
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


def budget_table() -> str:
    """The processor time of each stage per frame, and the share of its own rate that this leaves the engine."""
    found = result("budget")
    stages = list(found["results"][0]["processor_ms"])
    rows = [
        [f"{r['model']} {r['precision']}", *(f"{r['processor_ms'][stage]:.1f}" for stage in stages),
         f"{r['engine_share']:.2f}", f"{r['loop_processor_ms']:.1f}", f"{r['busy']:.0%}"]
        for r in found["results"]
    ]  # fmt: skip
    header = ["network", *(f"{stage}, ms" for stage in stages), "engine's share", "loop, ms", "cores busy"]
    below = f"H.264 of {found['source']} at {found['megabits_a_second']:.0f} Mbit/s."
    return f"{markdown(header, rows)}\n\n{below}"


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


def deadline_table() -> str:
    """mIoU of the labels on show at the deadline: the controller, the best fixed rung, and dropping frames."""
    found = result("deadline")["curve"]
    rows = []
    for place, ours in enumerate(found["controller"]):
        best = max(found["fixed"], key=lambda rung: rung["miou"][place])
        name = f"{best['model']} {best['precision']} {'x'.join(map(str, best['size']))}"
        rows.append([f"{ours['deadline_ms']:g}", f"{ours['miou']:.3f}", f"{ours['missed'] / ours['frames']:.1%}",
                     f"{best['miou'][place]:.3f} ({name})", f"{found['dropping']['miou'][place]:.3f}"])  # fmt: skip
    return markdown(["deadline, ms", "controller", "missed", "best fixed rung", "dropping frames"], rows)


def load_table() -> str:
    """Missed deadlines under a second load."""
    found = result("deadline")["load"]
    header = ["", "frames", "missed", "held", "late", "dropped"]
    rows = [
        [name, str(told["frames"]), f"{told['missed']} ({told['share_missed']:.2%})",
         *(str(told[key]) for key in header[3:])]
        for name, told in (("controller", found["controller"]), ("fixed rung", found["fixed"]))
    ]  # fmt: skip
    about = f"{found['minutes']:g} minutes at {found['deadline_ms']:g} ms, {found['bursts']} bursts."
    return f"{markdown(header, rows)}\n\n{about}"


def steady_table() -> str:
    """The effect of averaging over time, on CamVid's val and on a fixed camera."""
    found = result("steady")
    val, still = found["camvid_val"], found["still_camera"]
    flips = val["stability"]
    lines = [
        ("flips of still pixels", flips["flip_share"], flips["steady"]["flip_share"], ".2%"),
        ("consistency along the flow", flips["consistency"], flips["steady"]["consistency"], ".3f"),
        ("mIoU", val["miou"], val["steady"]["miou"], ".3f"),
        ("mIoU of moving classes", val["moving"]["miou"], val["steady"]["moving"]["miou"], ".3f"),
        ("boundary F1 of moving classes", val["moving"]["boundary_f1"], val["steady"]["moving"]["boundary_f1"], ".3f"),
        ("flips, a camera that stands still", still["flip_share"]["plain"], still["flip_share"]["steady"], ".2%"),
    ]
    rows = [[name, format(plain, form), format(steady, form)] for name, plain, steady, form in lines]
    took, frames, on = found["times_1024x2048"]["steady_ms"]["p50"], still["frames"], found["environment"]
    ships = resolve(val["model"]).card.files["fp32"].sha256 == val["sha256"]
    about = (
        f"{val['model']} {val['precision']}{'' if ships else ', with earlier weights than those that ship'}. Averaging "
        f"takes {took:.1f} ms (p50) for a frame of 1024x2048.\nOn the camera that stands still `--reuse` ran the "
        f"network on {frames - still['reused']} of {frames} frames, and {still['agreement_of_reuse']:.1%} of the\n"
        f"labels stayed the same. {on['cpu']}, {on['cores']} cores."
    )
    return f"{markdown(['', 'plain', '--steady'], rows)}\n\n{about}"


def imported_table() -> str:
    """The results for networks of other libraries, and the machine."""
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


TABLES: dict[str, Callable[[], str]] = {
    "environment": environment_line,
    "engines": engines_table,
    "default": default_table,
    "pipeline": pipeline_table,
    "budget": budget_table,
    "upsample": upsample_table,
    "deadline": deadline_table,
    "load": load_table,
    "steady": steady_table,
    "imported": imported_table,
}
