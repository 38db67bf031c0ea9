"""How many cores a process may keep busy: the container's quota counts."""

import ctypes

import psutil
import pytest

from rtseg.core import machine
from rtseg.core.machine import cores, cpu_quota


def groups(root, membership, **limits):
    """A /proc and a /sys/fs/cgroup with these files."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for path, text in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, 0.5),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000"}, 3.0),
        ("4:memory:/x\n3:cpu,cpuacct:/x\n",
         {"cpu,cpuacct/x/cpu.cfs_quota_us": "250000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"}, 2.5),
        ("3:cpuacct,cpu:/x\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1.0),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("2:cpuset:/\n", {"cpu.max": "100000 100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ],
)  # fmt: skip
def test_the_quota_of_a_control_group(tmp_path, membership, limits, expected):
    groups(tmp_path, membership, **limits)
    assert cpu_quota(tmp_path) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.4, 1), (1.0, 1), (1.5, 2), (64.0, 8)])
def test_cores_are_the_lesser_of_affinity_and_quota(monkeypatch, quota, expected):
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores() == expected


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_that_was_freed_goes_back_to_the_system():
    blocks = [bytes(64 << 10) for _ in range(1000)]
    last = blocks.pop()  # above the others, so that freeing those alone returns nothing
    process = psutil.Process()
    used = process.memory_info().rss
    blocks.clear()
    machine.return_freed_memory()
    assert process.memory_info().rss < used - (32 << 20)
    assert len(last) == 64 << 10
