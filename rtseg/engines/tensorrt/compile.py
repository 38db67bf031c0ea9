"""From a network to a cached TensorRT engine: typed graph, build, audit, parity gate, cache."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rtseg.core.sizes import format_size
from rtseg.core.zoo import Artifact
from rtseg.engines.cuda.memory import Device
from rtseg.engines.tensorrt.audit import audit, read_layers, require
from rtseg.engines.tensorrt.build import build
from rtseg.engines.tensorrt.cache import EngineCache, Entry, PlanKey
from rtseg.engines.tensorrt.gate import check_labels, street_frames
from rtseg.engines.tensorrt.progress import build_progress
from rtseg.engines.tensorrt.runner import Runner
from rtseg.engines.tensorrt.typed_graph import typed_graph


def build_entry(
    artifact: Artifact, key: PlanKey, device: Device, cache: EngineCache, images: Sequence[np.ndarray] = ()
) -> Entry:
    """Builds the engine of a key and keeps it if it passes the audit and the parity gate.

    The caller must hold the entry's lock. If stderr is a terminal, a bar shows the progress.

    Args:
        artifact: the network.
        key: what to build.
        device: the GPU to build on.
        cache: where the entry goes.
        images: uint8 BGR pictures for the parity gate; street scenes if there are none.

    Raises:
        EngineError: TensorRT fails, or too much of the work runs in another type than asked for.
        ParityError: the labels differ from onnxruntime's.
        WeightsError: the network's file is damaged, or a range is missing.
        KeyboardInterrupt: Ctrl-C; nothing is kept.
    """
    path = artifact.file("fp32")
    graph = typed_graph(path, key.precision, key.size_hw, artifact.card.activation_ranges, key.options.keep)
    title = f"building {artifact.card.name} {key.precision} at {format_size(key.size_hw)}, once for this GPU"
    with build_progress(title, shown=sys.stderr.isatty()) as progress:
        built = build(graph, key.options, cache.timing_cache(key), progress)
    runner = Runner(device, built.plan)
    try:
        layers = read_layers(runner.layers(), runner.time_layers())
        result = audit(layers, graph.convolutions)
        require(result)

        def labels(picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
            return runner.finish(runner.start(picture, size_hw))

        pictures = images or street_frames(key.size_hw)
        threads = os.cpu_count() or 1
        share = check_labels(labels, path, pictures, key.size_hw, key.precision, artifact.card.labels, threads)
    finally:
        runner.close()
    report: dict[str, Any] = {
        "tensorrt": key.tensorrt,
        "gpu": key.gpu,
        "network_types": built.types,
        "audit": result.to_json(),
        "agreement": round(share, 6),
        "frames": len(pictures),
        "layers": [asdict(layer) for layer in layers],
    }
    return cache.store(key, built.plan, report)
