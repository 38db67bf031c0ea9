"""Dry runs of `benchmarks/gpu.py` and `gpu.sh`: on the fake GPU, with a tiny network, and with an empty bundle."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from fake_gpu import any_street

from rtseg.core.errors import ParityError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(gpu_machine, monkeypatch, tiny_model, tmp_path):
    """Runs gpu.py on the fake GPU; returns (exit code, rows)."""
    machine = gpu_machine()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("gpu", "gpu_rows", "gpu_targets", "gpu_smoke"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu.rows, "smoke", lambda plan: importlib.import_module("gpu_smoke").main() or {"exit_code": 0})
    monkeypatch.setattr(gpu.rows, "lacking", lambda name: "no such engine here")
    monkeypatch.setattr("rtseg.scenes.StreetScene", any_street)  # a scene takes a second to set up
    path = tmp_path / "gpu.json"

    def run(*arguments):
        given = ["--model", str(tiny_model), "--size", "64x96", "--runs", "6", "--frames", "6", "--json", str(path)]
        code = gpu.main([*given, *arguments])
        return code, json.loads(path.read_text())["rows"] if path.exists() else {}

    run.gpu, run.machine, run.path = gpu, machine, path
    return run


@pytest.mark.slow
def test_a_whole_run(bench, capsys):
    assert bench("--pending")[0] == 1
    pending = capsys.readouterr().out.split()
    assert pending[:3] == ["machine", "smoke", "tensorrt/tiny/fp16/64x96"]
    assert "tensorrt/tiny/int8/64x96" not in pending  # its card has no ranges
    code, rows = bench()
    assert code == 0, {name: row for name, row in rows.items() if row["status"] == "failed"}
    assert list(rows) == pending
    assert "100.00% of the labels are their argmax" in capsys.readouterr().out
    row = rows["tensorrt/tiny/fp16/64x96"]
    assert row["network_ms"]["n"] == row["labels_ms"]["n"] == 6
    assert row["network_fps"] == 2000  # by the fake GPU's clock it takes half a millisecond
    assert row["throughput_fps"] > 0
    assert row["agreement"] > 0.99
    assert row["audit"]["as_asked"] == 1
    assert row["work"]["gflop"] >= 0
    loop = rows["loop/tiny/fp16/64x96"]
    assert (loop["frames"], set(loop["latency_ms"]) >= {"p50", "p90", "p99"}) == (6, True)
    assert loop["decode_fps"] > 0
    assert rows["torch-cuda/tiny/fp16/64x96"]["status"] == "absent"
    assert bench("--pending")[0] == 0


@pytest.mark.slow
def test_a_row_that_fails_is_written_down_and_tried_again(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench.gpu.rows, "loop_row", lambda *arguments: 1 / 0)
    code, rows = bench()
    assert code == 1
    assert rows["loop/tiny/fp16/64x96"]["error"] == "ZeroDivisionError: division by zero"
    assert rows["tensorrt/tiny/fp32/64x96"]["status"] == "done"
    monkeypatch.setattr(bench.gpu.rows, "loop_row", lambda *arguments: {"loop_fps": 1.0})
    capsys.readouterr()
    code, rows = bench()
    assert (code, rows["loop/tiny/fp16/64x96"]["status"]) == (0, "done")
    assert "tensorrt/" not in capsys.readouterr().out.replace("tensorrt/tiny/fp16/64x96, ", "")


@pytest.mark.slow
def test_int8_that_misses_the_gate_keeps_its_sensitive_convolutions(bench, monkeypatch):
    network = str(BENCHMARKS.parent / "weights" / "icnet.onnx")
    found = [type("S", (), {"convolution": f"node_conv2d_{index}"}) for index in (2, 59, 61, 60, 1)]
    monkeypatch.setattr("rtseg.engines.tensorrt.sensitivity.measure_sensitivity", lambda *arguments: found)
    shares = iter([0.98])
    check = importlib.import_module("rtseg.engines.tensorrt.gate").check_labels

    def gate(*arguments):
        if next(shares, None):
            raise ParityError("only 98.00%")
        monkeypatch.setattr("rtseg.engines.tensorrt.gate.AGREEMENT", {"int8": 0.9})
        return check(*arguments)

    monkeypatch.setattr("rtseg.engines.tensorrt.compile.check_labels", gate)
    row = bench.gpu.rows.engine_row("tensorrt", network, "int8", (64, 96), bench.gpu.rows.Plan(2, 1, 2))
    assert row["kept_fp16"] == ["node_conv2d_2", "node_conv2d_59", "node_conv2d_61", "node_conv2d_60"]
    assert 0.1 < row["audit"]["shares"]["fp16"] < 0.15
    assert row["audit"]["as_asked"] == 1


def test_time_that_runs_out_leaves_the_rest(bench, capsys):
    code, rows = bench("--minutes", "0")
    assert (code, rows) == (1, {})
    assert "left to another run" in capsys.readouterr().out


def test_nothing_follows_a_tensorrt_that_builds_nothing(bench, monkeypatch):
    def smoke(plan):
        raise RuntimeError("signal 11")

    monkeypatch.setattr(bench.gpu.rows, "smoke", smoke)
    monkeypatch.setattr(bench.gpu.gpu_machine, "machine", lambda runs: {})  # its ceilings load torch
    code, rows = bench()
    assert (code, list(rows), rows["smoke"]["error"]) == (1, ["machine", "smoke"], "RuntimeError: signal 11")


def test_targets_are_ratios_of_rows(bench):
    targets = importlib.import_module("gpu_targets").targets
    none = targets({})
    assert [entry["met"] for entry in none] == [None, None, None]
    done = {"status": "done"}
    place = "icnet/fp16/1024x2048"
    rows = {
        "machine": {**done, "ceilings": {"half_tflops": 800.0, "copy_gbps": 3000.0}},
        f"tensorrt/{place}": {**done, "network_fps": 1000.0, "throughput_fps": 390.0, "labels_ms": {"p50": 2.0},
                              "label_kernel_ms": {"p50": 0.02}, "work": {"gflop": 57.9, "gb": 0.3}},
        f"torch-cuda/{place}": {**done, "labels_ms": {"p50": 5.0}, "label_torch_ms": {"eager": 0.2, "compiled": 0.04}},
        f"loop/{place}": {**done, "decode_fps": 100.0, "loop_fps": 91.0},
        "miou/torch-cuda/icnet/fp32": {**done, "miou": 0.62},
        "miou/tensorrt/icnet/fp16": {**done, "miou": 0.619},
        "miou/tensorrt/icnet/int8": {**done, "miou": 0.61},
    }  # fmt: skip
    found = [(entry["measured"], entry["wanted"], entry["met"]) for entry in targets(rows)]
    assert found == [
        (1000.0, 800, True), (390.0, 400, False), (91.0, 90.0, True), (2.5, 2.0, True),
        (10.0, 5.0, True), (2.0, None, None), (-0.001, -0.002, True), (-0.01, -0.005, False),
        (0.0724, None, None), (0.1, None, None),
    ]  # fmt: skip
    rows[f"torch-cuda/{place}"]["status"] = "failed"
    assert targets(rows)[3]["met"] is None


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
class TestBundle:
    @pytest.fixture
    def clone(self, tmp_path):
        """A clone with a bundle in two parts, and a Python that only prints what it was asked to run."""
        clone = tmp_path / "clone"
        (clone / "benchmarks").mkdir(parents=True)
        shutil.copy(BENCHMARKS / "gpu.sh", clone / "benchmarks")
        (tmp_path / "site" / "tensorrt").mkdir(parents=True)
        (tmp_path / "site" / "tensorrt" / "__init__.py").write_text("__version__ = '10.15'\n")
        with tarfile.open(tmp_path / "all.tar.xz", "w:xz") as archive:
            archive.add(tmp_path / "site", ".")
        whole = (tmp_path / "all.tar.xz").read_bytes()
        parts = {"part.00": whole[:100], "part.01": whole[100:]}
        (clone / ".trt").mkdir()
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items())
        (clone / ".trt" / "SHA256SUMS").write_text(sums)
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\ncase "$1" in benchmarks/*) echo "ran $*"; exec {sys.executable} -S -c '
            '"import tensorrt; print(tensorrt.__version__)";; *) exec ' + sys.executable + ' -S "$@";; esac\n'
        )
        python.chmod(0o755)
        return clone, parts, tmp_path

    def run(self, clone, *arguments):
        folder = clone.parent
        environment = {**os.environ, "RTSEG_GPU_HOME": str(folder / "home"), "PYTHON": str(folder / "python")}
        environment.pop("PYTHONPATH", None)
        command = ["bash", str(clone / "benchmarks" / "gpu.sh"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=250, env=environment, cwd=folder)

    def test_parts_may_come_one_at_a_time(self, clone):
        folder, parts, _ = clone
        (folder / ".trt" / "part.00").write_bytes(parts["part.00"])
        first = self.run(folder, "--minutes", "9")
        assert (first.returncode, first.stdout.strip()) == (0, "these parts of TensorRT are still to come: part.01")
        (folder / ".trt" / "part.00").unlink()
        (folder / ".trt" / "part.01").write_bytes(parts["part.01"])
        second = self.run(folder, "--minutes", "9")
        assert second.stdout.splitlines() == ["ran benchmarks/gpu.py --minutes 9", "10.15"], second.stderr
        shutil.rmtree(folder / ".trt")
        assert self.run(folder).stdout.splitlines() == ["ran benchmarks/gpu.py", "10.15"]

    def test_a_damaged_part_is_told(self, clone):
        folder, parts, _ = clone
        (folder / ".trt" / "part.00").write_bytes(parts["part.00"][:-1])
        (folder / ".trt" / "part.01").write_bytes(parts["part.01"])
        done = self.run(folder)
        assert (done.returncode, done.stderr.strip()) == (3, "error: damaged, bring again: part.00")
        (folder / ".trt" / "part.00").write_bytes(parts["part.00"])
        assert self.run(folder).stdout.splitlines()[-1] == "10.15"

    def test_no_bundle_is_told(self, clone):
        folder, _, _ = clone
        shutil.rmtree(folder / ".trt")
        done = self.run(folder)
        assert (done.returncode, "no TensorRT here" in done.stderr) == (3, True)
