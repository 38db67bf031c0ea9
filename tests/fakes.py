"""Fakes for the parts around the loop: a source, an engine, a sink and a view that can be made to fail."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from threading import enumerate as all_threads
from time import perf_counter, sleep

import numpy as np
import pytest

from rtseg import engines
from rtseg.core.card import Card, CardFile
from rtseg.core.files import file_sha256
from rtseg.core.frame import Frame
from rtseg.core.labels import CAMVID11
from rtseg.core.runspec import RunSpec
from rtseg.core.threads import ThreadBudget
from rtseg.core.zoo import Artifact
from rtseg.engines.base import Engine, EngineInfo, EngineOptions
from rtseg.engines.pool import EnginePool
from rtseg.live.segmenter import Segmenter
from rtseg.pictures.upsample import upsample_labels
from rtseg.sinks.base import Sink
from rtseg.sources.base import Source


def spend(seconds):
    """Sleeps, unless it is for no time: even that gives the processor away, to whatever else runs."""
    if seconds:
        sleep(seconds)


def fake_card(**changes):
    card = Card(
        name="fake",
        model="fake",
        config={},
        labels=CAMVID11,
        size_multiple=32,
        logits_stride=4,
        train_size=(360, 480),
        parameters=1,
        gmac_1024x2048=1.0,
        files={"fp32": CardFile("fake.onnx", "0" * 64, 1)},
        metrics={"fp32": {"camvid/val": {"miou": 0.5}}},
    )
    return replace(card, **changes)


def make_network(folder, name="tiny", **changes):
    """Writes a real ONNX file and its card: grey means of 4x4 pixels against eleven fixed weights. Needs no torch."""
    import onnx
    from onnx import helper, numpy_helper

    weights = np.random.default_rng(0).normal(0, 1, (11, 3, 1, 1)).astype(np.float32)
    bias = (-128 * weights.sum((1, 2, 3))).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["means", "weights", "bias"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", "height", "width", 3])
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 11, "h", "w"])
    initialisers = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, name, [image], [logits], initialisers)
    path = Path(folder) / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    entry = CardFile(path.name, file_sha256(path), path.stat().st_size)
    order = ("onnxruntime", "openvino")
    fake_card(name=name, files={"fp32": entry}, engine_order=order, **changes).save(path.with_suffix(".json"))
    return path


def fake_artifact(**changes):
    return Artifact(fake_card(**changes), Path("nowhere"))


class FakeEngine(Engine):
    """Labels a pixel by its blue value (mod 11); can be slow, and can fail at call `fail_at` (from 0)."""

    def __init__(self, artifact=None, options=None, *, delay_s=0.0, fail_at=None, error=None):
        options = options or EngineOptions((64, 96))
        super().__init__(artifact or fake_artifact(), options)
        self.info = EngineInfo("fake", "fake 1", "CPU", options.precision, options.size_hw, options.threads)
        self.delay_s, self.fail_at, self.error = delay_s, fail_at, error
        self.calls = 0
        self.released = False

    def _infer(self, image):
        if self.calls == self.fail_at:
            raise self.error
        self.calls += 1
        spend(self.delay_s)
        coarse = image[::4, ::4, 0] % 11
        return (np.arange(11)[:, None, None] == coarse).astype(np.float32)

    def _release(self):
        self.released = True


def fake_segmenter(made, *, threads=1, size_hw=(64, 96), **settings):
    """Loads FakeEngines with `settings`, or a pool of them for several frames in flight; `made` collects them."""

    def make(artifact, options):
        made.append(FakeEngine(artifact, options, **settings))
        return made[-1]

    def load(name, artifact, options):
        return EnginePool(make, artifact, options) if options.in_flight > 1 else make(artifact, options)

    budget = ThreadBudget(total=threads, engine=threads, opencv=1, codec=1)
    return Segmenter(RunSpec(fake_artifact(), size_hw=size_hw), budget=budget, loader=load)


class FlyingEngine(FakeEngine):
    """Takes `in_flight` pictures at a time and labels each in its own thread, one after the other.

    `most` counts how many were in flight at once; collecting picture `fail_at` fails; `starts` is called before a
    picture is computed.
    """

    def __init__(self, artifact=None, options=None, *, in_flight=2, **arguments):
        super().__init__(artifact, options, **arguments)
        self.info = replace(self.info, engine="flying", in_flight=in_flight)
        self.most, self.starts = 0, lambda: None
        self._worker = ThreadPoolExecutor(1)

    def _labels(self, image, size_hw, out):
        self.submit(image, size_hw)
        return self.collect(out).labels, {}

    def _submit(self, image, size_hw):
        image = image.copy()
        self.most = max(self.most, len(self._pending) + 1)
        return self._worker.submit(self._computed, image, size_hw)

    def _computed(self, image, size_hw):
        self.starts()
        return upsample_labels(self._infer(image), size_hw, threads=1)

    def _collect(self, started):
        return started.result(30), {}

    def _release(self):
        self._worker.shutdown()
        super()._release()


class FakeSource(Source):
    """`count` frames (None: endless), each filled with its index; can fail at frame `fail_at`, or block at `block_at`.

    `gates` maps a frame's index to the event that it waits for.
    """

    kind = "fake"

    def __init__(self, count=20, *, size_hw=(64, 96), live=False, delay_s=0.0, fps=None, fail_at=None, error=None,
                 block_at=None, gates=None, truth=False):  # fmt: skip
        super().__init__("fake source")
        self.count, self.size_hw, self.live, self.delay_s, self.fps = count, size_hw, live, delay_s, fps
        self.fail_at, self.error, self.block_at, self.truth = fail_at, error, block_at, truth
        self.gates = gates or {}
        self.interrupted = Event()
        self.closed = 0
        self.index = 0

    def _frames(self):
        raise NotImplementedError

    def read(self):
        index, self.index = self.index, self.index + 1
        if self.interrupted.is_set() or index == self.count:
            return None
        if index == self.fail_at:
            raise self.error
        if index == self.block_at:
            self.interrupted.wait()
            return None
        if index in self.gates:
            self.gates[index].wait()
        spend(self.delay_s)
        image = np.full((*self.size_hw, 3), index % 11, np.uint8)
        truth = np.full(self.size_hw, index % 11, np.uint8) if self.truth else None
        return Frame(image, index, float(index), perf_counter(), truth)

    def interrupt(self):
        self.interrupted.set()

    def close(self):
        self.closed += 1


class FakeSink(Sink):
    """Keeps the frames' indices and first labels; can fail at write `fail_at`."""

    def __init__(self, *, delay_s=0.0, fail_at=None, error=None):
        self.delay_s, self.fail_at, self.error = delay_s, fail_at, error
        self.indices, self.labels, self.pictures = [], [], []
        self.closed_as = None

    def write(self, frame, labels, picture):
        spend(self.delay_s)
        if len(self.indices) == self.fail_at:
            raise self.error
        self.indices.append(frame.index)
        self.labels.append(int(labels[0, 0]))
        self.pictures.append(picture.shape)

    def close(self, complete=True):
        self.closed_as = complete


class FakeView:
    """Calls `script[n](loop)` at the n-th poll, and `after[n](loop)` once n frames have been shown."""

    def __init__(self, script=None, after=None):
        self.script, self.after = script or {}, dict(after or {})
        self.polls = 0
        self.shown = []

    def show(self, loop, result, picture):
        self.shown.append(result.frame.index)

    def poll(self, loop):
        action = self.script.get(self.polls)
        self.polls += 1
        if action:
            action(loop)
        if action := self.after.pop(len(self.shown), None):
            action(loop)
        if loop.paused:
            sleep(0.005)


def loop_threads():
    """Names of the living threads of the loop and the sources; the upsampler's shared pool is left out."""
    names = ("rtseg-capture", "rtseg-inference", "rtseg-closer", "rtseg-writer", "rtseg-watchdog", "rtseg-source-",
             "rtseg-web")  # fmt: skip
    return [thread.name for thread in all_threads() if thread.name.startswith(names)]


@pytest.fixture
def fake_network(tmp_path, monkeypatch):
    """Makes 'fake' and 'other' the shipped networks, and 'fake' an engine that `auto` chooses."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("fake", "other"):
        fake_card(name=name, engine_order=("fake",)).save(folder / f"{name}.json")
    monkeypatch.setattr("rtseg.core.zoo.weights_folder", lambda: folder)
    monkeypatch.setitem(engines.ENGINES._entries, "fake", "fakes:FakeEngine")
    monkeypatch.setitem(engines.TABLE, "fake", engines.EngineEntry("fakes:FakeEngine", "numpy", "pip install fake"))
    return folder
