"""How many threads a run takes: affinity, quotas of control groups, TESSEL_THREADS."""

import os
from pathlib import Path

import numpy as np
import pytest
import tessel
from tessel import TesselError
from tessel.compiler.system.cores import available_cores, check_threads

ALL = 64  # cores of the machine that these tests pretend to have


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(ALL)), raising=False)
    monkeypatch.delenv("TESSEL_THREADS", raising=False)


def files(root: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2, V1 = "0::/a/b", "5:cpu,cpuacct:/a/b\n4:memory:/a/b\n0::/"
IN_V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("group", "limits", "cores"),
    [
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "400000 100000"}, 4),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, ALL),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "250000 100000"}, 2),  # the third would be throttled
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "20000 100000"}, 1),  # a fifth of a core
        (
            V2,
            {"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "300000 100000"},
            3,
        ),
        (V2, {"sys/fs/cgroup/cpu.max": "500000 100000"}, 5),  # a container that sees its root only
        (
            V1,
            {f"{IN_V1}/a/b/cpu.cfs_quota_us": "600000", f"{IN_V1}/a/b/cpu.cfs_period_us": "100000"},
            6,
        ),
        (V1, {f"{IN_V1}/cpu.cfs_quota_us": "700000", f"{IN_V1}/cpu.cfs_period_us": "100000"}, 7),
        (
            V1,
            {f"{IN_V1}/a/b/cpu.cfs_quota_us": "-1", f"{IN_V1}/a/b/cpu.cfs_period_us": "100000"},
            ALL,
        ),
        (
            V1,
            {
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "6400000000 100000"}, ALL),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "nonsense"}, ALL),
        (V2, {}, ALL),
    ],
)
def test_quotas_of_control_groups_limit_the_cores(tmp_path, group, limits, cores):
    root = files(tmp_path, **{"proc/self/cgroup": group}, **limits)
    assert available_cores(root) == cores


def test_a_machine_without_control_groups_has_its_cores(tmp_path):
    assert available_cores(tmp_path) == ALL


def test_affinity_limits_the_cores(tmp_path, monkeypatch):
    root = files(tmp_path, **{"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert available_cores(root) == 2


def test_the_variable_is_the_default_and_threads_wins(monkeypatch):
    monkeypatch.setenv("TESSEL_THREADS", "3")
    assert check_threads(None) == 3
    assert check_threads(5) == 5


@pytest.mark.parametrize("said", ["0x", "many", "-1", "1.5"])
def test_a_variable_that_is_no_number_is_refused(monkeypatch, said):
    monkeypatch.setenv("TESSEL_THREADS", said)
    with pytest.raises(TesselError, match="TESSEL_THREADS is no number of threads"):
        tessel.jit(lambda x: x + 1)(np.ones(3, np.float32))


def test_no_thread_is_refused(monkeypatch):
    monkeypatch.setenv("TESSEL_THREADS", "0")
    with pytest.raises(TesselError, match="TESSEL_THREADS is no number of threads"):
        check_threads(None)
