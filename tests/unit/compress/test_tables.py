"""Weights as entries of a table: floats of 8 and 4 bits, NF4."""

import numpy as np
import pytest
import tessel
from tessel.compiler.compress.blocks import weights_to_blocks
from tessel.compiler.compress.recipe import FLOATS, Recipe
from tessel.compiler.compress.tables import TABLES, entries
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import DTYPES

RNG = np.random.default_rng(0)
W = RNG.normal(size=(96, 64)).astype(np.float32)


def stored(name, w, block):
    """What rows of weights have become."""
    codes, scale = entries(w, TABLES[name], block)
    values = TABLES[name].values[codes] * scale.astype(np.float32)[..., None]
    return values.reshape(len(w), -1)[:, : w.shape[1]]


@pytest.mark.parametrize(("name", "dtype"), [("fp8", "f8e4m3fn"), ("fp8-e5m2", "f8e5m2")])
def test_the_nearest_float_of_8_bits(name, dtype):
    table, w = TABLES[name], W.ravel()
    found = table.values[table.nearest(w)]
    np.testing.assert_array_equal(found, w.astype(DTYPES[dtype].numpy).astype(np.float32))


@pytest.mark.parametrize("name", ["mxfp8", "mxfp4"])
def test_microscaling_has_powers_of_two(name):
    scale = entries(W, TABLES[name], 32)[1].astype(np.float32)
    np.testing.assert_array_equal(np.frexp(scale)[0], 0.5)
    top = np.abs(W.reshape(96, 2, 32)).max(-1) / scale
    emax = {"mxfp8": 8, "mxfp4": 2}[name]
    assert (top >= 2**emax).all() and (top < 2 ** (emax + 1)).all()


@pytest.mark.parametrize("name", FLOATS)
def test_zeros_and_rests_of_blocks(name):
    w = W[:, :40].copy()
    w[3] = 0
    found = stored(name, w, 32)
    np.testing.assert_array_equal(found[3], 0)
    assert np.abs(found - w).max() < 0.26 * np.abs(w).max()


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("name", FLOATS)
def test_a_product(name, rows):
    recipe, x = Recipe.of(name), RNG.normal(size=(rows, 96)).astype(np.float32)
    b = Builder()
    b.output("y", b.input("x", f"f32[{rows},96]") @ b.constant(W))
    expected = x @ stored(name, W.T, recipe.block if recipe.granularity == "block" else 0).T
    received = tessel.compile(b.graph, quantize=name)(x)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_rows_of_a_table():
    b = Builder()
    b.output("y", b.gather(b.constant(W), b.input("i", "i64[3]"), axis=0))
    i = np.array([0, 95, 5])
    weights_to_blocks(b.graph, block=64, table=TABLES["nf4"])
    received = tessel.compile(b.graph)(i)
    np.testing.assert_allclose(received, stored("nf4", W, 64)[i], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"rounding": "gptq"}, {"activations": "dynamic"}, {"equalize": "awq"}]
)
def test_tables_are_of_weights_alone_and_rounded_to_nearest(changes):
    with pytest.raises(UsageError, match="entries of a table") as raised:
        Recipe.of("fp8", **changes)
    assert "begin with the recipe fp8" in str(raised.value)
