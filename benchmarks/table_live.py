"""Tables on live use: early exits, latency in the browser, long-term stability."""

from collections.abc import Callable
from statistics import median

from table_sources import markdown, result


def exits_table() -> str:
    """A network with exits in every form: time, arithmetic and mIoU, beside the same network at smaller inputs."""
    found = result("exits")
    rows = [
        [name, f"{form['engine_ms']['p50']:.1f}", f"{form['labels_ms']['p50']:.1f}", f"{form['gmac']:.1f}",
         f"{form['miou']:.3f}"]
        for name, form in found["results"]["forms"].items()
    ]  # fmt: skip
    table = markdown(["form", "engine p50, ms", "with upsampling", "GMAC", "mIoU"], rows)
    on = found["environment"]
    return f"{table}\n\nCamVid's {found['split']} on {found['engine']}; {on['cpu']}, {on['cores']} cores."


def web_latency_table() -> str:
    """How old pictures are when viewers see them, and what viewers cost the loop."""
    found = result("web_latency")
    rows = []
    for row in found["results"]:
        ages = row["age_ms"]
        p50, p95 = ([f"{median(one[name] for one in ages):.0f}"] if ages else [""] for name in ("p50", "p95"))
        watched = f"{row['viewers']} x {row['form']}, {row['kind']}" if ages else "none"
        rows.append([watched, f"{row['loop_fps']:.1f}", *p50, *p95, str(row.get("mbit_s", ""))])
    header = ["viewers", "loop, fps", "age p50, ms", "age p95, ms", "Mbit/s each"]
    height, width = found["size"]
    on = found["environment"]
    return f"{markdown(header, rows)}\n\n{height}x{width} at {found['fps']:g} fps; {on['cpu']}, {on['cores']} cores."


def soak_table() -> str:
    """The effects of a camera that fails again and again."""
    found = result("live_soak")["result"]
    rows = [
        [name, f"{found[key]['early']:g}", f"{found[key]['late']:g}"]
        for name, key in (("memory, MiB", "memory_mib"), ("threads", "threads"), ("open files", "files"))
    ]
    return (
        f"{markdown(['', 'after 5 minutes', 'at the end'], rows)}\n\n{found['minutes']:g} minutes, {found['faults']} "
        f"faults; a picture again within {found['back_s_max']:g} s of the camera's return at most; exit code "
        f"{found['exit_code']}."
    )


TABLES: dict[str, Callable[[], str]] = {"exits": exits_table, "web_latency": web_latency_table, "soak": soak_table}
