"""The GPU that `gpu.py` runs on: its identity, its state, and the two ceilings to compare the results with."""

import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np

from rtseg.live.environment import environment

BENCHED = ("tensorrt", "cuda-bindings", "onnx", "onnxruntime-gpu", "filelock", "cupy-cuda13x", "triton")


def machine(runs: int) -> dict[str, Any]:
    """The GPU, its driver, clocks and versions, and its two ceilings: half-precision matrix products and copies."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in BENCHED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"environment": environment(), "versions": found, "gpu": gpu_state(), "ceilings": ceilings(runs)}


def gpu_state() -> dict[str, str]:
    """Name, driver, clocks, power and temperature according to nvidia-smi; empty if it is not installed."""
    names = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "power.limit",
             "temperature.gpu", "persistence_mode")  # fmt: skip
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(names, (value.strip() for value in done.stdout.strip().split(",")), strict=False))


def ceilings(runs: int) -> dict[str, float] | None:
    """TFLOP/s of an 8192-cubed FP16 matrix product and GB/s of a copy (bytes read plus written), by torch."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    side = 8192
    left, right = (torch.randn(side, side, device="cuda").half() for _ in range(2))
    source = torch.randint(0, 255, (1 << 30,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    product = median_s(lambda: torch.matmul(left, right), runs)
    copy = median_s(lambda: target.copy_(source), runs)
    return {"half_tflops": round(2 * side**3 / product / 1e12, 1), "copy_gbps": round(2 * len(source) / copy / 1e9, 1)}


def median_s(work: Callable[[], Any], runs: int) -> float:
    """Median seconds of work that torch runs on the GPU, by the GPU's clock, after three warm-up runs."""
    import torch

    event: Any = torch.cuda.Event
    start, stop = event(enable_timing=True), event(enable_timing=True)
    seconds = []
    for run in range(-3, max(runs, 5)):
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if run >= 0:
            seconds.append(start.elapsed_time(stop) / 1e3)
    return float(np.median(seconds))
