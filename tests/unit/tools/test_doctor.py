"""`tessel doctor`: what it finds, and problems with their fixes."""

import json
import os
import tomllib

import pytest
from tessel.tools import cli, doctor


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run it with a cache of its own; what it prints."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TESSEL_THREADS", raising=False)

    def call(*options):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["doctor", *options])
        return capsys.readouterr().out

    return call


def test_what_there_is(call, tmp_path):
    out = call()
    for text in (
        "python ",
        "numpy ",
        "onnx ",
        "llvmlite ",
        "cpu ",
        "features: ",
        "vectors of ",
        "caches: L1 ",
        " allowed: ",
        f"{tmp_path}/tessel, private",
        "gpu ",
        "packages: 0, 0 B of at most 4.00 GiB",
        "kernels: 0, 0 B of at most 1.00 GiB",
        "levels: ",
        "llvm ",
        " are read, 21 to ",
        "images: ",
        "no problems found",
    ):
        assert text in out, text


def test_a_cache_that_others_may_write_to(call, tmp_path):
    (tmp_path / "tessel").mkdir()
    (tmp_path / "tessel").chmod(0o777)
    out = call()
    assert "problem: the cache is not used: others may write" in out and "fix: chmod 700" in out


def test_a_cache_that_cannot_be(call, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "fix: set XDG_CACHE_HOME" in call()


@pytest.mark.parametrize(
    ("said", "problem"), [("many", "no number of threads"), ("999", "999 threads on")]
)
def test_threads(call, monkeypatch, said, problem):
    monkeypatch.setenv("TESSEL_THREADS", said)
    out = call()
    assert problem in out and "fix: unset TESSEL_THREADS" in out


def test_packages_that_are_missing_or_broken(call, monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "onnx" else "1.0")
    monkeypatch.setattr(
        doctor, "_import_error", lambda name: "ImportError: no" if name == "llvmlite" else None
    )
    out = call()
    assert "problem: onnx is not installed" in out and "fix: pip install onnx" in out
    assert "problem: llvmlite: ImportError: no" in out


def test_what_cannot_be_looked_at_is_a_finding(call, monkeypatch):
    def fail():
        raise OSError("broken")

    monkeypatch.setattr(doctor, "host", fail)
    out = call()
    assert "problem: processor: OSError: broken" in out and "extras" in out


def test_a_gpu_without_a_compiler(call, monkeypatch):
    monkeypatch.setattr("tessel.runtime.gpu.driver.why_unavailable", lambda: None)
    monkeypatch.setattr(
        "tessel.runtime.gpu.driver.CudaDevice", lambda: type("D", (), {"target": "cuda:sm_90"})
    )
    monkeypatch.setattr(doctor, "_import_error", lambda name: "no" if name == "triton" else None)
    out = call()
    assert "found, its target is cuda:sm_90" in out and "no Triton to compile for it" in out


def test_as_json(call, tmp_path):
    found = json.loads(call("--json"))
    assert all({"heading", "said", "facts"} <= set(entry) for entry in found)
    facts = {}
    for entry in found:
        facts.setdefault(entry["heading"], []).append(entry["facts"])
    assert facts["cache"][0] == {"folder": str(tmp_path / "tessel")}
    kernels = {"cache": "kernels", "count": 0, "bytes": 0, "limit": 1 << 30}
    assert kernels in facts["cache"]
    assert facts["cores"][0]["there"] == os.cpu_count()
    assert {f["extra"] for f in facts["extras"]} == set(doctor.EXTRAS)
    assert set(facts["onnx opsets"][0]) == {"read", "written"}
    assert not [entry for entry in found if "problem" in entry or "fix" in entry]


def test_a_problem_as_json(call, monkeypatch):
    monkeypatch.setenv("TESSEL_THREADS", "many")
    [entry] = [e for e in json.loads(call("--json")) if "problem" in e]
    assert entry["heading"] == "cores" and "unset TESSEL_THREADS" in entry["fix"]


def test_an_extra_that_is_missing_says_how_to_get_it(call, monkeypatch):
    monkeypatch.setattr(doctor, "_is_there", lambda module: False)
    out = call()
    for extra, (_, what) in doctor.EXTRAS.items():
        assert f"{extra}: not installed: {what}; pip install 'tessel[{extra}]'" in out


def test_every_extra_for_users_is_looked_for(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) == {*doctor.EXTRAS, "dev", "docs"}
