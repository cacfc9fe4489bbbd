"""What a user may say that decides code: options, targets, and that packages keep them."""

import json

import numpy as np
import pytest
import tessel
from tessel.compiler.driver import Driver
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.options import Options
from tessel.compiler.targets.base import Target
from tessel.compiler.targets.table import TARGETS, open_target
from tessel.runtime.execution.load import LOADERS
from tessel.runtime.execution.package import Package
from tessel.runtime.reuse.entries import canonical

X = np.array([[1, 2], [3, 4]], np.float32)


def product():
    b = Builder()
    b.output("y", b.matmul(b.input("x", "f32[32,32]"), b.constant(np.eye(32, dtype=np.float32))))
    return b.graph


# -- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"opt_level": 4}, "optimisation level"),
        ({"opt_level": 1.0}, "optimisation level"),
        ({"opt_level": True}, "optimisation level"),
        ({"strict": "yes"}, "strict is a switch"),
        ({"unchecked": 2}, "unchecked is a switch"),
        ({"verify_bounds": None}, "verify_bounds is a switch"),
        ({"quantize": "int8"}, "quantize names no recipe"),
        ({"prune": 0.5}, "prune is not supported"),
    ],
)
def test_values_that_no_compilation_can_meet(said, message):
    with pytest.raises(UsageError, match=message):
        Options(**said)


def test_equal_options_have_one_key_also_as_text():
    same = Options(np.int64(1), np.True_), Options(1, 1), Options(1, True)
    assert len({repr(o.key()) for o in same}) == 1
    keys = [canonical(o.key()) for o in (Options(), Options(1), Options(strict=True))]
    assert None not in keys and len(set(map(repr, keys))) == 3


@pytest.mark.parametrize(
    "options", [Options(), Options(0, True), Options(3, unchecked=True, precision="tf32")]
)
def test_what_packages_say_is_read_back(options):
    assert Options.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_packages_of_older_versions_do_not_say_whether_they_are_checked():
    assert Options.from_dict({"level": 1, "strict": True}) == Options(1, True)


def test_a_loaded_package_has_the_options_that_it_was_compiled_with(tmp_path):
    exe = tessel.compile(product(), opt_level=1, strict=True, unchecked=True, cache=False)
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl", cache=False)
    assert loaded.options == exe.options == Options(1, True, unchecked=True)
    manifest = Package(tmp_path / "m.tsl").manifest
    assert (manifest["level"], manifest["strict"], manifest["checked"]) == (1, True, False)


# -- targets ---------------------------------------------------------------------------------


def test_every_target_has_a_loader():
    assert set(TARGETS) == set(LOADERS)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_knows_its_kind(kind):
    assert open_target(kind).kind == kind


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cpu:z80", "numpy:x", "cuda:sm_1", None, 3])
def test_names_that_are_no_target(name):
    with pytest.raises(UsageError, match="unknown"):
        open_target(name)


def test_a_target_says_what_it_cannot_do():
    with pytest.raises(UsageError, match="nothing to tune"):
        open_target("numpy", tuning=object())
    with pytest.raises(UsageError, match="numpy has no LLVM code"):
        open_target("numpy").stage("llvm", None, {})
    assert open_target("numpy").predict(None) is None
    assert Target("mine").pipeline(Options()) is None


# -- precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [None, "tf32", "tf32x3"])
def test_precision_is_how_a_gpu_multiplies(precision):
    driver = Driver(open_target("cuda:sm_90"), Options(precision=precision))
    text = driver.build(driver.optimize(product()), {}).record.source()
    assert f'input_precision="{precision or "ieee"}"' in text


@pytest.mark.parametrize(("target", "precision"), [("cpu", "tf32"), ("cuda:sm_90", "f16")])
def test_a_precision_that_a_target_has_not(target, precision):
    with pytest.raises(UsageError, match=f"precision is not supported by the target {target}"):
        Driver(open_target(target), Options(precision=precision))
