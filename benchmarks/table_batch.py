"""Tables of `rtseg-video`: batches of videos, kills, memory."""

from collections.abc import Callable

from table_sources import markdown, result


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


TABLES: dict[str, Callable[[], str]] = {
    "batch": batch_table,
    "kills": kills_table,
    "memory": memory_table,
}
