"""Cached engines: their keys, and what happens to entries that are damaged, foreign, or built twice at once."""

import json
import logging
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from rtseg.core.errors import OutputError
from rtseg.core.machine import cache_folder
from rtseg.engines.tensorrt.cache import BuildOptions, EngineCache, PlanKey

KEY = PlanKey(
    onnx_sha256="a" * 64,
    ranges_sha256="b" * 64,
    precision="fp16",
    size_hw=(1024, 2048),
    tensorrt="10.15.1.29",
    cuda="13.2",
    driver="580.95.05",
    gpu="NVIDIA H100 80GB HBM3",
    compute_capability=(9, 0),
)
CHANGES = {
    "onnx_sha256": "c" * 64,
    "ranges_sha256": "d" * 64,
    "precision": "int8",
    "size_hw": (2048, 1024),
    "tensorrt": "11.4.0.106",
    "cuda": "13.3",
    "driver": "580.95.06",
    "gpu": "NVIDIA H200",
    "compute_capability": (9, 1),
    "format": 999,
}
OPTIONS = {"optimization_level": 4, "workspace_mib": 512, "tf32": True, "keep": ("conv_1",)}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def test_every_part_of_the_key_matters(cache):
    assert set(CHANGES) == {field.name for field in fields(PlanKey)} - {"options"}
    assert set(OPTIONS) == {field.name for field in fields(BuildOptions)}
    keys = [replace(KEY, **{name: value}) for name, value in CHANGES.items()]
    keys += [replace(KEY, options=replace(BuildOptions(), **{name: value})) for name, value in OPTIONS.items()]
    cache.store(KEY, b"plan", {})
    assert cache.find(replace(KEY)).plan == b"plan"
    assert len({key.digest for key in (KEY, *keys)}) == 1 + len(CHANGES) + len(OPTIONS)
    for key in keys:
        assert cache.find(key) is None


def test_an_entry_comes_back_as_it_was_kept(cache, caplog):
    assert cache.find(KEY) is None
    cache.store(KEY, b"plan", {"agreement": 0.9991})
    entry = cache.find(KEY)
    assert (entry.plan, entry.report) == (b"plan", {"agreement": 0.9991})
    assert not caplog.records  # misses and hits are not logged


def damage(name):
    def change(manifest: Path, plan: Path) -> None:
        {
            "cut": lambda: plan.write_bytes(plan.read_bytes()[:-1]),
            "changed": lambda: plan.write_bytes(b"plam"),
            "no plan": plan.unlink,
            "no JSON": lambda: manifest.write_text("{"),
            "other JSON": lambda: manifest.write_text("[1]"),
            "foreign": lambda: manifest.write_text(
                json.dumps({**json.loads(manifest.read_text()), "key": replace(KEY, gpu="another").to_json()})
            ),
        }[name]()

    return change


@pytest.mark.parametrize("name", ["cut", "changed", "no plan", "no JSON", "other JSON", "foreign"])
def test_what_is_damaged_or_foreign_is_left_with_one_line(cache, caplog, name):
    cache.store(KEY, b"plan", {})
    damage(name)(*cache._paths(KEY))
    with caplog.at_level(logging.WARNING):
        assert cache.find(KEY) is None
    (record,) = caplog.records
    assert "rebuilding it" in record.message
    assert "\n" not in record.message
    cache.store(KEY, b"plan2", {})
    assert cache.find(KEY).plan == b"plan2"


def test_a_write_that_is_cut_short_leaves_no_entry(cache, monkeypatch):
    cache.store(KEY, b"plan", {})
    monkeypatch.setattr(
        "rtseg.engines.tensorrt.cache.write_json", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        cache.store(KEY, b"new plan", {})
    assert cache.find(KEY) is None
    assert not list(cache.folder.glob("*.part*"))


def test_options_are_remembered_for_their_network_and_machine(cache, caplog):
    chosen = replace(KEY, options=BuildOptions(5, 256, keep=("conv_1",)))
    cache.prefer(chosen)
    assert cache.preferred(KEY) == chosen.options
    assert cache.preferred(replace(KEY, precision="fp32")) == BuildOptions()
    (cache.folder / f"{KEY.target}.options.json").write_text("[]")
    assert cache.preferred(KEY) == BuildOptions()
    assert "cannot be read" in caplog.text


def test_timing_belongs_to_a_version_and_gpu(cache):
    assert cache.timing_cache(KEY) == cache.timing_cache(replace(KEY, precision="int8", size_hw=(64, 64)))
    for name in ("tensorrt", "cuda", "driver", "gpu", "compute_capability"):
        assert cache.timing_cache(KEY) != cache.timing_cache(replace(KEY, **{name: CHANGES[name]}))


@pytest.mark.slow
def test_two_processes_do_not_build_at_once(cache):
    """Each child reads a number, waits, and writes the next: without the lock both would read the same."""
    count = cache.folder.parent / "count"
    count.write_text("0")
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_engine_cache import KEY
from rtseg.engines.tensorrt.cache import EngineCache
count = Path({str(count)!r})
for _ in range(3):
    with EngineCache(Path({str(cache.folder)!r})).lock(KEY):
        number = int(count.read_text())
        time.sleep(0.05)
        count.write_text(str(number + 1))
"""
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait(timeout=250) for child in children] == [0, 0]
    assert count.read_text() == "6"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="RTSEG_CACHE"), EngineCache(tmp_path / "file" / "engines").lock(KEY):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="Linux keeps it under XDG_CACHE_HOME")
def test_the_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("RTSEG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rtseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "rtseg"
    monkeypatch.setenv("RTSEG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
