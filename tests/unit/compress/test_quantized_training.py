"""Training of quantized models: what is trained, exported and run computes the same."""

import numpy as np
import pytest
import tessel
from tessel.compiler.autodiff.parameters import with_constants
from tessel.compiler.compress.recipe import Recipe
from tessel.compiler.errors import UsageError
from tessel.compiler.ir.builder import Builder

from .test_quantize import DATA, small_net

LABELS = np.random.default_rng(4).integers(0, 5, len(DATA))
TRAINING = {"x": DATA, "labels": LABELS}


def fake(model):
    """What is trained, with the weights that it has by now."""
    return tessel.compile(with_constants(model.graph, model.values()))


def trained(recipe="int8", steps=2, **options):
    options.setdefault("optimizer", tessel.optimizers.Adam(1e-2))
    model = tessel.quantize_for_training(small_net(), DATA, recipe, **options)
    for _ in range(steps):
        model.trainer.step(TRAINING)
    return model


RECIPES = [
    {},
    {"activations": "i8"},
    {"dtype": "i4", "activations": "u4"},
    {"granularity": "tensor"},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_trained_exported_and_run_it_is_the_same_to_the_bit(recipe):
    model = trained(recipe)
    expected = fake(model)(DATA)
    quantized = model.quantized()
    assert tessel.compile(quantized)(DATA).tobytes() == expected.tobytes()
    exported = tessel.to_onnx(quantized, opset=21)
    assert tessel.compile(exported)(DATA).tobytes() == expected.tobytes()


def test_before_training_it_is_what_quantize_gives():
    """But for biases, which training corrects by itself."""
    recipe = Recipe.of("int8", bias_correction=False)
    model = tessel.quantize_for_training(small_net(), DATA)
    quantized = tessel.compile(tessel.quantize(small_net(), DATA, recipe))
    assert fake(model)(DATA).tobytes() == quantized(DATA).tobytes()


@pytest.mark.parametrize("rounding", ["gptq", "hqq"])
def test_it_begins_with_the_rounding_that_was_chosen(rounding):
    recipe = Recipe.of("int8", dtype="i4", rounding=rounding, small=0, bias_correction=False)
    model = tessel.quantize_for_training(small_net(), DATA, recipe, threads=1)
    quantized = tessel.quantize(small_net(), DATA, recipe)
    assert str(model.quantized().graph) == str(quantized.graph)


def test_training_lowers_the_loss_of_the_quantized_model():
    def loss(model):
        y = tessel.compile(model)(DATA).astype(np.float64)
        log_p = y - np.log(np.exp(y).sum(1, keepdims=True))
        return -log_p[np.arange(len(LABELS)), LABELS].mean()

    model = trained({"dtype": "i4", "activations": "u4"}, steps=30)
    assert loss(model.quantized()) < 0.7 * loss(tessel.quantize(small_net(), DATA))


def test_the_model_of_floats_can_be_the_teacher():
    recipe, adam = {"dtype": "i2", "activations": "u4"}, tessel.optimizers.Adam(1e-3)
    model = trained(recipe, 0, loss="none", distill=1.0, optimizer=adam)
    losses = [model.trainer.step({"x": DATA})["loss"] for _ in range(25)]
    assert 0 <= losses[-1] < 0.8 * losses[0]


def test_the_loss_in_training_is_that_of_what_runs():
    model = trained(steps=0, loss="mse", optimizer=tessel.optimizers.SGD(0.0))
    targets = np.zeros((len(DATA), 5), np.float32)
    loss = model.trainer.step({"x": DATA, "targets": targets})["loss"]
    y = tessel.compile(model.quantized())(DATA)
    assert loss == pytest.approx(float(np.square(y).mean()), rel=1e-6)


def test_scales_stay_where_they_are_not_learned():
    model = trained(learn_scales=False)
    assert not [n for n in model.values() if n.endswith(".scale")]
    before = tessel.quantize(small_net(), DATA).recipe.scales
    scale = lambda graph: sorted(
        float(n.inputs[1].constant) for n in graph.nodes if n.op.name == "quantize_linear"
    )
    expected = sorted(float(np.float32(s.scale)) for s in before.values())
    assert scale(model.quantized().graph) == expected


def test_labels_below_zero_are_not_counted():
    model = trained(steps=0)
    some = np.where(np.arange(len(LABELS)) % 2, LABELS, -1)
    rest = model.trainer.step({"x": DATA, "labels": some})["loss"]
    one = trained(steps=0).trainer.step({"x": DATA[1::2], "labels": LABELS[1::2]})["loss"]
    assert rest == pytest.approx(one, rel=1e-4)


def wide_mlp():
    b, rng = Builder(), np.random.default_rng(1)
    x = b.gelu(b.input("x", "f32[N,48]") @ (rng.standard_normal((48, 96)) / 7).astype("f4"))
    b.output("y", x @ (rng.standard_normal((96, 48)) / 9).astype("f4"))
    return b.graph


@pytest.mark.parametrize("recipe", [{}, {"dtype": "i3"}, {"symmetric": True}], ids=str)
def test_weights_by_blocks(recipe):
    """Products of blocks sum in another order than the graph that is trained."""
    x = np.random.default_rng(3).standard_normal((40, 48)).astype(np.float32)
    adam = tessel.optimizers.Adam(1e-3)
    model = tessel.quantize_for_training(
        wide_mlp(), recipe=Recipe.of("int4", **recipe), loss="none", distill=1.0, optimizer=adam
    )
    losses = [model.trainer.step({"x": x})["loss"] for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    exe = tessel.compile(model.quantized())
    assert [n.op.name for n in exe.graph.nodes].count("matmul_blocks") == 2
    np.testing.assert_allclose(exe(x), fake(model)(x), rtol=1e-4, atol=1e-5)


def test_a_loss_may_be_a_function():
    def loss(b: Builder, outputs):
        (y,) = outputs
        return (y * b.input("direction", "f32[5]")).mean()

    model = tessel.quantize_for_training(small_net(), DATA, loss=loss)
    first = model.trainer.step({"x": DATA, "direction": np.ones(5, np.float32)})["loss"]
    assert np.isfinite(first)


@pytest.mark.parametrize(
    "options",
    [{"loss": "hinge"}, {"distill": 2.0}, {"loss": "none"}, {"loss": "none", "distill": 0.5}],
    ids=str,
)
def test_what_is_no_loss_is_refused(options):
    with pytest.raises(UsageError, match=r"unknown loss|share of the loss"):
        tessel.quantize_for_training(small_net(), DATA, **options)


def test_activations_of_4_bits_are_those_of_every_product():
    recipe = Recipe.of("int8", dtype="i4", activations="u4", small=0.0, observer="minmax")
    assert tessel.quantize(small_net(), DATA, recipe).report.kept == {}
