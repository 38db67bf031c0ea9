"""Behaviour that only a real GPU can show; skipped, with the reason, if there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest

from rtseg.core.card import Card
from rtseg.core.zoo import Artifact
from rtseg.engines import EngineOptions, load_engine
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

WEIGHTS = Path(__file__).parents[1] / "weights"
SIZE = (256, 512)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path))


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("shape", "size"), [((11, 64, 128), (256, 512)), ((19, 33, 65), (257, 515)), ((3, 8, 8), (8, 8))]
)
def test_the_kernel_gives_the_labels_of_the_cpu(half, shape, size):
    import ctypes

    from rtseg.engines.cuda.memory import Buffer, Device, Kernel, Pinned, Stream
    from rtseg.engines.cuda.upsampling import BLOCK, NAME, compile_kernel, grid, places

    device, stream = Device(), Stream()
    kernel = Kernel(compile_kernel(device.info.compute_capability, half), NAME)
    logits = np.random.default_rng(0).normal(0, 3, shape).astype(np.float16 if half else np.float32)
    axes = [array for side, full in zip(shape[1:], size, strict=True) for array in places(side, full)]
    held = []
    for array in (logits, *axes, np.full(size, 255, np.uint8)):
        host = Pinned(array.shape, array.dtype)
        np.copyto(host.array, array)
        held.append((host, Buffer(host.size)))
        stream.upload(held[-1][1], host)
    addresses = [buffer.address for _, buffer in held]
    values = (addresses[0], *shape, *addresses[1:], *size)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    kernel.launch(stream, grid(size), BLOCK, values, (pointer, *[number] * 3, *[pointer] * 5, number, number))
    stream.download(held[-1][0], held[-1][1])
    stream.wait()
    differ = held[-1][0].array != upsample_labels(logits.astype(np.float32), size)
    assert differ.mean() < 1e-4


@pytest.mark.tensorrt
@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.999), ("fp16", 0.995), ("int8", 0.985)])
def test_trained_weights_pass_the_gate(precision, share):
    artifact = Artifact(Card.load(WEIGHTS / "icnet.json"), WEIGHTS)
    with (
        load_engine("onnxruntime", artifact, EngineOptions(SIZE)) as expected,
        load_engine("tensorrt", artifact, EngineOptions(SIZE, precision)) as engine,
    ):
        agreeing = []
        for seed in range(3):
            image = StreetScene(SIZE, seed=seed).render(40)[0]
            agreeing.append((engine.labels(image, SIZE) == expected.labels(image, SIZE)).mean())
        assert np.mean(agreeing) >= share
        assert engine._runner.graph
        assert engine.report["audit"]["as_asked"] >= 0.9


@pytest.mark.tensorrt
def test_one_convolution_builds_and_runs(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(WEIGHTS.parent / "benchmarks"))
    sys.modules.pop("gpu_smoke", None)
    import gpu_smoke

    gpu_smoke.main()
    assert "ran: logits (16, 64, 96)" in capsys.readouterr().out
