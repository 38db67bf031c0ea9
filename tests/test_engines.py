import subprocess
import sys
from functools import cache

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny import EXPORTED, SMALL, lively, network_file

from rtseg.core.card import Card
from rtseg.core.errors import EngineError, UsageError, WeightsError
from rtseg.core.zoo import Artifact
from rtseg.engines import ENGINES, EngineOptions, load_engine
from rtseg.export.onnx import round_weights
from rtseg.models.deploy import DeployGraph
from rtseg.pictures.upsample import upsample_labels
from rtseg.scenes import StreetScene

pytestmark = pytest.mark.slow

CUDA_PROVIDER = pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers(), reason="onnxruntime is the CPU build"
)
MARKS = {
    "openvino": pytest.mark.openvino,
    "tensorrt": pytest.mark.tensorrt,
    "torch-cuda": pytest.mark.gpu,
    "onnxruntime-cuda": (pytest.mark.gpu, CUDA_PROVIDER),
}
ENGINE_NAMES = [pytest.param(name, marks=MARKS.get(name, ())) for name in ENGINES]
CPU_NAMES = [param for param in ENGINE_NAMES if param.values[0] in ("onnxruntime", "openvino", "torch")]
SIZE = (128, 224)


def artifact(networks, model="icnet"):
    return Artifact(Card.load(network_file(networks, model).with_suffix(".json")), networks)


@pytest.fixture(scope="module")
def frame():
    return StreetScene(SIZE, seed=2).render(0)[0]


@pytest.fixture(params=ENGINE_NAMES)
def engine(request, networks):
    with load_engine(request.param, artifact(networks), EngineOptions(SIZE)) as loaded:
        yield loaded


@cache
def exported_network(model):
    network = lively(model, SMALL[model])
    round_weights(network)
    return network


def reference(model, image):
    """Logits of the exported network."""
    network = exported_network(model)
    with torch.inference_mode():
        return DeployGraph(network)(torch.from_numpy(image)[None])[0].numpy()


@pytest.mark.parametrize("size", [(96, 64), (160, 416)])
@pytest.mark.parametrize("model", EXPORTED)
@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_labels_are_those_of_torch(name, model, size, networks):
    image = StreetScene(size, seed=5).render(7)[0]
    with load_engine(name, artifact(networks, model), EngineOptions(size)) as engine:
        logits = engine.infer(image)
        assert engine.info.size_hw == size
    expected = reference(model, image)
    assert logits.shape == expected.shape
    assert logits.dtype == np.float32
    agreeing = upsample_labels(logits, size) == upsample_labels(expected, size)
    assert agreeing.mean() >= 0.999


def test_info_says_what_runs(engine):
    info = engine.info
    assert (info.precision, info.size_hw, info.threads) == ("fp32", SIZE, 1)
    assert info.in_flight == (2 if info.engine == "tensorrt" else 1)
    assert (info.device == "CPU") == (info.engine in ("onnxruntime", "openvino", "torch"))
    assert info.runtime.split()[0] == info.engine.removesuffix("-cuda")
    assert info.runtime.split()[1][0].isdigit()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: np.zeros((64, 64, 3), np.uint8), r"\(64, 64, 3\).*resize"),
        (lambda: np.zeros(SIZE, np.uint8), r"\(128, 224, 3\)"),
        (lambda: np.zeros((*SIZE, 4), np.uint8), r"\(128, 224, 4\)"),
        (lambda: np.zeros((*SIZE, 3), np.float32), "float32"),
    ],
)
def test_a_picture_that_does_not_fit_is_told(engine, make, told):
    with pytest.raises(UsageError, match=told):
        engine.infer(make())


def test_any_memory_layout_is_read_right(engine, frame):
    expected = engine.infer(frame).copy()
    padded = np.zeros((SIZE[0], SIZE[1] + 8, 3), np.uint8)
    padded[:, 4:-4] = frame
    view = padded[:, 4:-4]
    view.flags.writeable = False
    np.testing.assert_array_equal(engine.infer(view), expected)


def test_the_picture_is_left_alone(engine, frame):
    before = frame.copy()
    engine.infer(frame)
    np.testing.assert_array_equal(frame, before)


def test_logits_hold_until_the_next_call_and_never_alias_the_input(engine, frame):
    other = frame[::-1].copy()
    expected = [engine.infer(image).copy() for image in (frame, other)]
    assert not np.array_equal(*expected)
    kept = engine.infer(frame)
    np.testing.assert_array_equal(kept, expected[0])
    assert not np.shares_memory(kept, frame)
    again = engine.infer(other)
    np.testing.assert_array_equal(again, expected[1])  # whatever happened to `kept`


def test_two_engines_do_not_share_buffers(networks, engine, frame):
    expected = engine.infer(frame).copy()
    with load_engine(engine.info.engine, artifact(networks), EngineOptions(SIZE)) as second:
        logits = engine.infer(frame)
        second.infer(frame[::-1].copy())
        np.testing.assert_array_equal(logits, expected)


def test_labels_fill_the_array_that_is_given(engine, frame):
    out = np.full((50, 70), 99, np.uint8)
    assert engine.labels(frame, (50, 70), out) is out
    np.testing.assert_array_equal(out, upsample_labels(engine.infer(frame), (50, 70)))


def test_labels_come_in_the_order_of_submission(engine, frame):
    images = [np.roll(frame, 16 * shift, axis=1) for shift in range(5)]
    expected = [engine.labels(image, SIZE).copy() for image in images]
    made = []
    for index, image in enumerate(images):
        engine.submit(image, SIZE)
        if index + 1 < engine.info.in_flight:
            continue
        with pytest.raises(EngineError, match="collect"):
            engine.submit(image, SIZE)
        made.append(engine.collect(np.empty(SIZE, np.uint8)).labels)
    made += [engine.collect().labels for _ in range(len(images) - len(made))]
    np.testing.assert_array_equal(made, expected)
    with pytest.raises(EngineError, match="submit"):
        engine.collect()


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_pictures_under_way_at_once_have_the_labels_of_one_after_the_other(name, networks):
    images = [StreetScene(SIZE, seed=seed).render(3)[0] for seed in range(7)]
    with load_engine(name, artifact(networks), EngineOptions(SIZE)) as alone:
        expected = [alone.labels(image, (90, 130)) for image in images]
    made = []
    with load_engine(name, artifact(networks), EngineOptions(SIZE, threads=3, in_flight=3)) as pool:
        assert (pool.info.engine, pool.info.in_flight) == (name, 3)
        for image in images[:3]:
            pool.submit(image, (90, 130))
        for image in images[3:]:
            made.append(pool.collect())
            pool.submit(image, (90, 130))
        made += [pool.collect() for _ in range(3)]
    assert all(set(one.stages_s) == {"engine", "upsample"} for one in made)
    np.testing.assert_array_equal([one.labels for one in made], expected)
    with pytest.raises(EngineError, match="closed"):
        pool.submit(images[0], SIZE)


INTERRUPTED = """
import signal, sys
import numpy as np
from rtseg.core.zoo import resolve
from rtseg.engines import EngineOptions, load_engine

with load_engine(sys.argv[1], resolve(sys.argv[2]), EngineOptions((64, 96), threads=2, in_flight=2)) as engine:
    engine.labels(np.zeros((64, 96, 3), np.uint8), (64, 96))
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("name", CPU_NAMES)
def test_ctrl_c_after_engines_were_closed_is_only_ctrl_c(name, networks):
    artifact(networks, "enet")
    command = [sys.executable, "-c", INTERRUPTED, name, str(networks / "enet.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


def test_closing_twice_is_fine_and_use_after_is_told(engine, frame):
    logits = engine.infer(frame)
    expected = logits.copy()
    engine.close()
    engine.close()
    np.testing.assert_array_equal(logits, expected)  # the last result outlives the engine
    with pytest.raises(EngineError, match="closed"):
        engine.infer(frame)


@pytest.mark.parametrize("name", CPU_NAMES)
def test_precisions_that_a_cpu_does_not_have_are_told(name, networks):
    with pytest.raises(UsageError, match=r"fp16.*--precision fp32"):
        load_engine(name, artifact(networks), EngineOptions(SIZE, "fp16"))
    with pytest.raises(UsageError, match=r"int8.*fp32|fp32.*int8"):
        load_engine(name, artifact(networks), EngineOptions(SIZE, "int8"))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_size_that_does_not_fit_names_the_nearest(name, networks):
    with pytest.raises(UsageError, match="128x224"):
        load_engine(name, artifact(networks), EngineOptions((130, 230)))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_a_damaged_file_is_told(name, networks, tmp_path):
    good = artifact(networks)
    (tmp_path / "icnet.onnx").write_bytes((networks / "icnet.onnx").read_bytes()[:-100])
    with pytest.raises(WeightsError, match="bytes"):
        load_engine(name, Artifact(good.card, tmp_path), EngineOptions(SIZE))


@pytest.mark.parametrize("name", ENGINE_NAMES)
def test_what_is_no_graph_is_told(name, networks, tmp_path):
    from dataclasses import replace

    from rtseg.core.card import CardFile
    from rtseg.core.files import file_sha256

    path = tmp_path / "text.onnx"
    path.write_text("this is not ONNX")
    entry = CardFile(path.name, file_sha256(path), path.stat().st_size)
    card = replace(artifact(networks).card, files={"fp32": entry})
    with pytest.raises((EngineError, WeightsError), match=r"text\.onnx"):
        load_engine(name, Artifact(card, tmp_path), EngineOptions(SIZE))


def test_auto_says_what_it_took_and_why(networks):
    with load_engine("auto", artifact(networks), EngineOptions(SIZE, "auto")) as engine:
        assert (engine.info.engine, engine.info.precision) == ("onnxruntime", "fp32")
        assert "has no INT8 file" in engine.info.why
    with load_engine("onnxruntime", artifact(networks), EngineOptions(SIZE, "fp32")) as engine:
        assert engine.info.why == ""
