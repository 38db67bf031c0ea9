"""The TensorRT engine on a fake GPU: build, audit, gate, cache, and two pictures in flight."""

import json
import os
import signal
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import enumerate as all_threads

import numpy as np
import pytest
from fake_gpu import street
from fakes import make_network

from rtseg.apps import compile as app
from rtseg.core.card import Card
from rtseg.core.errors import EngineError, ParityError, UsageError
from rtseg.core.zoo import Artifact
from rtseg.engines import EngineOptions, candidates, load_engine, select

SIZE = (64, 96)
WEIGHTS = Path(__file__).parents[1] / "weights"
ICNET = Artifact(Card.load(WEIGHTS / "icnet.json"), WEIGHTS)


@pytest.fixture(scope="module")
def frames():
    return [street(seed).render(0)[0] for seed in range(4)]  # the gate's scenes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A network that builds in no time."""
    path = make_network(tmp_path_factory.mktemp("network"))
    return Artifact(Card.load(path.with_suffix(".json")), path.parent)


@pytest.fixture
def load(tiny):
    def load(precision="fp16", size=SIZE, artifact=tiny):
        return load_engine("tensorrt", artifact, EngineOptions(size, precision))

    return load


def reference(artifact, frames):
    with load_engine("onnxruntime", artifact, EngineOptions(SIZE)) as engine:
        return [engine.labels(frame, SIZE).copy() for frame in frames]


def plans(machine):
    return sorted(machine.cache.glob("*.plan"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "precision", "share"),
    [
        ("10.15.1.29", "fp32", 0.9999),
        ("10.3.0", "fp16", 0.995),
        ("11.4.0.106", "fp16", 0.995),
        ("10.15.1.29", "int8", 0.9),  # a small picture is mostly borders, and the network learned at 480x640
        ("11.4.0.106", "int8", 0.9),
    ],
)
def test_labels_are_those_of_onnxruntime(gpu_machine, monkeypatch, frames, load, version, precision, share):
    machine = gpu_machine(version=version)
    monkeypatch.setattr("rtseg.engines.tensorrt.gate.AGREEMENT", {"fp32": 0.999, "fp16": 0.99, "int8": 0.9})
    with load(precision, artifact=ICNET) as engine:
        info = engine.info
        assert (info.engine, info.runtime, info.device) == ("tensorrt", f"tensorrt {version}", "Fake H100")
        assert (info.precision, info.size_hw, info.in_flight) == (precision, SIZE, 2)
        for frame, expected in zip(frames, reference(ICNET, frames), strict=True):
            assert (engine.labels(frame, SIZE) == expected).mean() >= share
    report = json.loads(next(machine.cache.glob("*.json")).read_text())["report"]
    assert report["audit"]["as_asked"] == 1
    assert report["audit"]["attributable"] == pytest.approx(1)
    assert report["tensorrt"] == version
    assert set(report["network_types"].values()) == ({"int8", "fp16"} if precision == "int8" else {precision})
    assert machine.trt.BuilderFlag.TF32 not in machine.trt.config.flags


def test_all_memory_comes_back(gpu_machine, frames, load):
    machine = gpu_machine()
    engine = load()
    engine.labels(frames[0], (100, 130))
    engine.labels(frames[0], SIZE)
    assert machine.driver.memory
    engine.close()
    engine.close()
    assert not machine.driver.memory


def test_two_pictures_are_in_flight_and_come_out_in_order(gpu_machine, frames, load):
    machine = gpu_machine()
    with load() as engine:
        expected = [engine.labels(frame, SIZE) for frame in frames]
        launched = machine.driver.launched
        engine.submit(frames[0], SIZE)
        for index in range(1, len(frames)):
            engine.submit(frames[index], SIZE)
            with pytest.raises(EngineError, match="2 pictures are in flight"):
                engine.submit(frames[0], SIZE)
            np.testing.assert_array_equal(engine.collect().labels, expected[index - 1])
        for call in (lambda: engine.infer(frames[0]), lambda: engine.labels(frames[0], SIZE)):
            with pytest.raises(EngineError, match="collect"):
                call()
        np.testing.assert_array_equal(engine.collect(np.empty(SIZE, np.uint8)).labels, expected[-1])
        with pytest.raises(EngineError, match="submit"):
            engine.collect()
        assert machine.driver.launched == launched + len(frames)  # one graph launch per picture


def test_labels_of_any_size_and_logits_that_last(gpu_machine, frames, tiny, load):
    gpu_machine()
    engine = load("fp32")
    with load_engine("onnxruntime", tiny, EngineOptions(SIZE)) as other:
        for size in ((64, 96), (200, 333), (31, 20), (64, 96)):
            made, expected = engine.labels(frames[0], size), other.labels(frames[0], size)
            assert (made == expected).mean() > 0.999
        logits = engine.infer(frames[1])
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, other.infer(frames[1]), rtol=1e-4, atol=1e-2)
    engine.close()
    assert np.isfinite(logits).all()  # the last result outlives the engine
    with pytest.raises(EngineError, match="closed"):
        engine.infer(frames[0])


def test_without_cuda_graphs_it_says_so_and_runs(gpu_machine, frames, tiny, caplog, load):
    machine = gpu_machine()
    machine.driver.no_graphs = True
    with load() as engine:
        assert (engine.labels(frames[0], SIZE) == reference(tiny, frames)[0]).mean() > 0.99
    assert "without a CUDA graph" in caplog.text


def test_an_error_while_running_surfaces_once(gpu_machine, frames, load):
    machine = gpu_machine()
    with load() as engine:
        expected = engine.labels(frames[1], SIZE)
        engine.submit(frames[0], SIZE)
        machine.driver.fail_next_wait = True
        with pytest.raises(EngineError, match=r"running the network: error number 700 \(700\)"):
            engine.collect()
        np.testing.assert_array_equal(engine.labels(frames[1], SIZE), expected)


def test_too_little_gpu_memory_is_one_line(gpu_machine, load):
    machine = gpu_machine()
    load().close()
    machine.driver.free_bytes = 10_000
    with pytest.raises(EngineError, match=r"out of GPU memory while .*smaller --size"):
        load()
    assert not machine.driver.memory


class TestKept:
    def test_the_second_load_builds_nothing(self, gpu_machine, monkeypatch, load):
        machine = gpu_machine()
        load().close()
        first = plans(machine)
        monkeypatch.setattr("rtseg.engines.tensorrt.compile.build_entry", lambda *arguments: pytest.fail("built again"))
        load().close()
        assert plans(machine) == first

    @pytest.mark.parametrize("other", [{"version": "10.15.2.0"}, {}])
    def test_another_tensorrt_or_gpu_builds_its_own(self, gpu_machine, monkeypatch, other, load):
        machine = gpu_machine()
        load().close()
        machine = gpu_machine(**other)
        if not other:
            monkeypatch.setattr(machine.driver, "cuDeviceGetName", lambda length, device: (0, b"Other GPU"))
        load().close()
        assert len(plans(machine)) == 2

    def test_a_damaged_plan_is_built_anew_with_one_line(self, gpu_machine, caplog, load):
        machine = gpu_machine()
        load().close()
        (plan,) = plans(machine)
        whole = plan.read_bytes()
        plan.write_bytes(whole[:-7])
        load().close()
        assert plan.read_bytes() == whole
        assert [record.message.split(":")[1] for record in caplog.records] == [
            " its hash differs from the one it was written with; rebuilding it"
        ]

    def test_a_plan_that_tensorrt_refuses_is_built_anew(self, gpu_machine, caplog, monkeypatch, load):
        machine = gpu_machine()
        load().close()
        (plan,) = plans(machine)
        manifest = json.loads(plan.with_suffix(".json").read_text())
        plan.write_bytes(b"junk")
        plan.with_suffix(".json").write_text(json.dumps({**manifest, "sha256": sha256(b"junk").hexdigest()}))
        load().close()
        assert plan.read_bytes() != b"junk"
        assert "refuses the engine: serialization assertion" in caplog.text

    def test_nothing_is_kept_of_a_build_that_fails(self, gpu_machine, load):
        machine = gpu_machine(refuse="build")
        with pytest.raises(
            EngineError, match=r"cannot build the network: could not find any implementation for node 7"
        ):
            load()
        assert not plans(machine)

    def test_timing_is_kept_and_foreign_timing_is_left(self, gpu_machine, load):
        machine = gpu_machine()
        load().close()
        (kept,) = machine.cache.glob("*.timing")
        assert kept.read_bytes() == b"timed;"
        load("fp32").close()
        assert kept.read_bytes() == b"timed;timed;"
        kept.write_bytes(b"of another GPU")
        load("fp16", (64, 128)).close()
        assert kept.read_bytes() == b"timed;"

    def test_timing_that_cannot_be_kept_is_told_and_costs_nothing_else(self, gpu_machine, load, caplog):
        machine = gpu_machine()
        load().close()
        (kept,) = machine.cache.glob("*.timing")
        kept.unlink()
        kept.mkdir()  # nothing can be written there
        load("fp32").close()
        assert "the next build will take as long as this one" in caplog.text


class TestRefused:
    def test_what_the_parser_does_not_know(self, gpu_machine, load):
        gpu_machine(refuse="parse")
        with pytest.raises(EngineError, match="cannot parse the network: no importer for operator Wobble"):
            load()

    def test_no_room_for_the_network(self, gpu_machine, load):
        gpu_machine(refuse="context")
        with pytest.raises(EngineError, match="make room"):
            load()

    def test_a_parser_that_types_otherwise(self, gpu_machine, tiny):
        gpu_machine()
        from rtseg.engines.tensorrt.build import check_types
        from rtseg.engines.tensorrt.typed_graph import typed_graph

        graph = typed_graph(tiny.file("fp32"), "fp16", SIZE)
        (name,) = graph.convolutions
        check_types({name: "fp16"}, graph)
        check_types({"another name": "fp16"}, graph)
        with pytest.raises(EngineError, match=f"{name}: fp32 instead of fp16"):
            check_types({name: "fp32"}, graph)
        with pytest.raises(EngineError, match="1 in fp32 instead of 0; 0 in fp16 instead of 1"):
            check_types({"another name": "fp32"}, graph)
        with pytest.raises(EngineError, match="parsed 0 convolutions of 1"):
            check_types({}, graph)

    def test_layers_that_run_in_another_type(self, gpu_machine, tiny, load):
        from rtseg.engines.tensorrt.typed_graph import typed_graph

        (name,) = typed_graph(tiny.file("fp32"), "fp16", SIZE).convolutions
        machine = gpu_machine(layer_types={name: "Float"})
        with pytest.raises(EngineError, match=rf"only 0\.0% .*90% is needed: {name}: fp32 instead of fp16, 100\.0%"):
            load()
        assert not plans(machine)

    def test_labels_that_differ(self, gpu_machine, monkeypatch, load):
        machine = gpu_machine()
        monkeypatch.setattr(machine.driver, "_upsample", lambda *values: machine.driver.memory[values[8]].fill(3))
        with pytest.raises(ParityError, match=r"tiny in fp16 at 64x96: only .* 99\.5% are needed"):
            load()
        assert not plans(machine)

    def test_ctrl_c_stops_the_build_and_keeps_nothing(self, gpu_machine, load):
        def press(monitor):
            os.kill(os.getpid(), signal.SIGINT)
            assert monitor.cancelled.wait(250)

        machine = gpu_machine(cancel_at=press)
        with pytest.raises(KeyboardInterrupt):
            load()
        assert not plans(machine)
        assert machine.trt.config.progress_monitor.cancelled.is_set()
        for thread in all_threads():
            if thread.name == "rtseg-build":
                thread.join()

    def test_too_old_a_tensorrt(self, gpu_machine, load):
        gpu_machine(version="10.0.1")
        with pytest.raises(EngineError, match=r"TensorRT 10\.0\.1 is too old: rtseg needs 10\.3"):
            load()

    def test_int8_without_ranges(self, gpu_machine, load):
        gpu_machine()
        with pytest.raises(UsageError, match="no activation ranges"):
            load("int8")

    def test_a_library_that_is_missing(self, gpu_machine, monkeypatch, load):
        gpu_machine()
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(EngineError, match=r"tensorrt is installed but cannot be loaded .*pip install"):
            load()


def test_no_gpu_is_one_line(monkeypatch):
    monkeypatch.setattr("rtseg.engines.table.find_spec", lambda name: True)
    monkeypatch.setattr("rtseg.engines.table.gpu_problem", lambda: "no NVIDIA driver is installed")
    for name in ("tensorrt", "torch-cuda", "onnxruntime-cuda"):
        with pytest.raises(EngineError, match=f"engine {name} needs an NVIDIA GPU: no NVIDIA driver is installed"):
            load_engine(name, ICNET, EngineOptions(SIZE))


def test_auto_takes_tensorrt_where_it_works(gpu_machine, monkeypatch, caplog, tiny):
    gpu_machine()
    chosen = select("auto", "auto", tiny, EngineOptions(SIZE))
    assert (chosen.engine, chosen.precision) == ("tensorrt", "fp16")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.delitem(sys.modules, "rtseg.engines.tensorrt.plan", raising=False)
    monkeypatch.delitem(sys.modules, "rtseg.engines.tensorrt.engine", raising=False)
    assert "tensorrt" not in candidates("auto", tiny)
    assert "TensorRT cannot be loaded" in caplog.text
    monkeypatch.setattr("rtseg.engines.table.gpu_problem", lambda: "no driver")
    assert "tensorrt" not in candidates("auto", tiny)


class TestCommand:
    @pytest.fixture
    def options(self, tiny):
        return app.CompileOptions(model=str(tiny.folder / "tiny.onnx"), engine="tensorrt", size="64x96")

    def test_it_builds_keeps_and_tells(self, gpu_machine, options, capsys, tmp_path):
        machine = gpu_machine()
        options = replace(options, report=tmp_path / "report.json")
        app.command(options)
        told = capsys.readouterr().out
        assert "tiny fp16 at 64x96: built, TensorRT 10.15.1.29 on Fake H100" in told
        assert "100.0% fp16; 100.0% as asked, 100.0% attributable" in told
        report = json.loads((tmp_path / "report.json").read_text())
        assert {layer["precision"] for layer in report["layers"]} == {"fp16"}
        assert all(layer["ms"] == pytest.approx(0.25) for layer in report["layers"])
        app.command(options)
        assert "kept already" in capsys.readouterr().out
        assert len(plans(machine)) == 1

    def test_the_engine_uses_the_options_that_were_compiled(self, gpu_machine, options, monkeypatch, load):
        machine = gpu_machine()
        app.command(replace(options, optimization_level=5, workspace=256))
        config = machine.trt.config
        assert (config.builder_optimization_level, list(config.pools.values())) == (5, [256 << 20])
        monkeypatch.setattr("rtseg.engines.tensorrt.compile.build_entry", lambda *arguments: pytest.fail("built again"))
        load("fp16").close()

    def test_tf32_is_reported(self, gpu_machine, options, capsys):
        machine = gpu_machine()
        app.command(replace(options, precision="fp32", tf32=True))
        assert machine.trt.BuilderFlag.TF32 in machine.trt.config.flags
        assert "tiny fp32 with TF32" in capsys.readouterr().out

    @pytest.mark.slow
    @pytest.mark.parametrize("force", [False, True])
    def test_int8_that_loses_too_much(self, gpu_machine, monkeypatch, capsys, force):
        machine = gpu_machine()
        monkeypatch.setattr("rtseg.engines.tensorrt.gate.AGREEMENT", {"int8": 0.9})
        scores = {"fp32": {"miou": 0.6}, "int8": {"miou": 0.59}}
        monkeypatch.setattr("rtseg.apps._compile_tensorrt.score", lambda _, precision, *rest, **more: scores[precision])
        found = [type("S", (), {"convolution": "node_conv2d_7", "differing": 0.02, "error": 0.1})]
        monkeypatch.setattr("rtseg.apps._compile_tensorrt.sensitivity", lambda *arguments: found)
        options = app.CompileOptions(
            engine="tensorrt", precision="int8", size="64x96", data="scenes", force=force, keep_worst=1 if force else 0
        )
        if force:
            app.command(options)
            told = capsys.readouterr().out
            assert "kept in fp16:\n  node_conv2d_7: 2.00%" in told
            assert "kept because of --force" in told
            manifest = json.loads(
                next(path for path in machine.cache.glob("*.json") if "options" not in path.name).read_text()
            )
            assert manifest["key"]["options"]["keep"] == ["node_conv2d_7"]
            assert manifest["report"]["network_types"]["node_conv2d_7"] == "fp16"
        else:
            with pytest.raises(ParityError, match=r"lost 0\.0100; 0\.005 is allowed, nothing was kept: --keep-worst"):
                app.command(options)
            assert "node_conv2d_7: 2.00% of the cells change" in capsys.readouterr().out
            assert not plans(machine)
            icnet = lambda: load_engine("tensorrt", ICNET, EngineOptions(SIZE, "int8"))  # noqa: E731
            with pytest.raises(ParityError, match=r"icnet in int8 at 64x96 was refused: mIoU on .* lost 0\.0100"):
                icnet()
            assert not plans(machine)
            monkeypatch.setitem(scores, "int8", {"miou": 0.6})
            app.command(replace(options, optimization_level=5))
            kept = plans(machine)
            monkeypatch.setitem(scores, "int8", {"miou": 0.5})
            with pytest.raises(ParityError):
                app.command(replace(options, optimization_level=1))
            icnet().close()  # the one that passed
            assert plans(machine) == kept

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"optimization_level": 6}, "--optimization-level 6 is not allowed: give 0 to 5"),
            ({"workspace": 0}, "--workspace 0"),
            ({"tf32": True}, "--tf32 goes with --precision fp32"),
            ({"keep_worst": 2}, "--keep-worst goes with --precision int8"),
            ({"size": "65x96"}, "multiples of 32"),
            ({"engine": "onnxruntime", "precision": "fp16", "size": None}, "nothing to compile in fp16"),
        ],
    )
    def test_options_that_do_not_fit(self, gpu_machine, options, changes, told):
        gpu_machine()
        with pytest.raises(UsageError, match=told):
            app.command(replace(options, **changes))
