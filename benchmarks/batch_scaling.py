"""How long 1,000 hours of video take on N machines: a calculation from measured costs, not a measurement.

    python benchmarks/batch_scaling.py benchmarks/results/batch.json --machines 1 4 16 64 256

What can limit a cluster, each as if it were alone; the slowest one decides, since all overlap:

- workers: processor seconds a frame of all stages, by the share of the bound that one machine really reaches;
- storage: what is read and written, by one bandwidth that all machines share. A video is read twice (its index, its
  pictures), an overlay is written, read and written again (segments, then the joined file), label maps are written
  once;
- driver: the one process that indexes every video and joins its segments, which does so for one video at a time.

With an engine on a GPU, `--engine-ms` replaces the processor time of the stage `infer`; decoding, drawing and encoding
stay on the processor.
"""

import argparse
import json
from pathlib import Path
from typing import Any

HOURS = 1000.0
FPS = 30.0
MACHINES = (1, 4, 16, 64, 256)
STORAGE = 1e9  # bytes a second: a 10 Gbit/s network file system
CORES = 16  # of a machine


def scaling(
    measured: dict[str, Any],
    machines: tuple[int, ...] = MACHINES,
    cores: int = CORES,
    storage: float = STORAGE,
    engine_ms: float | None = None,
) -> list[tuple[float, str]]:
    """(hours, what limits) for each number of machines, from one result of `batch.py`."""
    frames = HOURS * 3600 * FPS
    costs = dict(measured["processor_ms_a_frame"])
    if engine_ms is not None:
        costs["infer"] = 0.0
    driver = measured["driver_a_frame"]
    bytes_a_frame = 2 * driver["input_bytes"] + 3 * driver["overlay_bytes"] + driver["label_bytes"]
    found = []
    for count in machines:
        processor_s = sum(costs.values()) / 1e3 / (count * cores * measured["share_of_bound"])
        seconds = {
            "workers": max(processor_s, (engine_ms or 0.0) / 1e3 / count) * frames,
            "storage": bytes_a_frame / storage * frames,
            "driver": (driver["index_ms"] + driver["join_ms"]) / 1e3 * frames,
        }
        limit = max(seconds, key=lambda name: seconds[name])
        found.append((seconds[limit] / 3600, limit))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="what batch.py wrote")
    parser.add_argument("--machines", type=int, nargs="+", default=list(MACHINES))
    parser.add_argument("--cores", type=int, default=CORES)
    parser.add_argument("--storage", type=float, default=STORAGE, help="bytes a second, shared by all")
    parser.add_argument("--engine-ms", type=float, help="of one frame on each machine's GPU")
    options = parser.parse_args()
    for result in json.loads(options.results.read_text(encoding="utf-8"))["results"]:
        counts = tuple(options.machines)
        answers = scaling(result, counts, options.cores, options.storage, options.engine_ms)
        for count, (hours, limit) in zip(counts, answers, strict=True):
            print(f"{'x'.join(map(str, result['size']))}: {count} machines, {hours:.1f} hours, limited by {limit}")


if __name__ == "__main__":
    main()
