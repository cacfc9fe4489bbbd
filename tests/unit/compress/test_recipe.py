"""Recipes: presets, files, and what there is not."""

import pytest
import tessel
from tessel.compiler.compress.recipe import PRESETS, Recipe, Scale


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_is_the_recipe(preset, tmp_path):
    scales = {'/a "b"/Conv': Scale(0.1, 128, "mse"), "ü\n": Scale(1e-8, 0, "minmax")}
    recipe = Recipe.of(preset, keep=("*head*", "x[0]"), scales=scales, data="00ff")
    recipe.save(tmp_path / "r.toml")
    assert Recipe.load(tmp_path / "r.toml") == recipe
    assert Recipe.of(tmp_path / "r.toml") == recipe
    assert recipe.to_toml() == Recipe.load(tmp_path / "r.toml").to_toml()


def test_a_file_may_begin_with_a_preset(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('preset = "int8-dynamic"\nkeep = ["head"]\n')
    assert Recipe.of(path) == Recipe.of("int8-dynamic", keep=("head",))


def test_fields_as_a_dict():
    assert Recipe.of({"observer": "mse"}) == Recipe(observer="mse")


@pytest.mark.parametrize(
    ("make", "message", "fix"),
    [
        (lambda: Recipe.of("int9"), "unknown recipe", "did you mean 'int8'?"),
        (lambda: Recipe(observer="minmx"), "observer is none", "did you mean 'minmax'?"),
        (
            lambda: Recipe.of("int8", observr="mse"),
            "no field 'observr'",
            "did you mean 'observer'?",
        ),
        (lambda: Recipe(block=1), "at least two weights", "block=32"),
        (lambda: Recipe(percentile=10), "above 50", "percentile=99.99"),
        (lambda: Recipe(rounding="gtpq"), "rounding is none", "did you mean 'gptq'?"),
        (
            lambda: Recipe.of("int4", bias_correction=True),
            "where activations have scales",
            "leave out bias_correction, or begin with the recipe int8",
        ),
    ],
)
def test_what_there_is_not(make, message, fix):
    with pytest.raises(tessel.TesselError, match=message) as caught:
        make()
    assert caught.value.fix == fix


def test_files_that_are_no_recipes(tmp_path):
    path = tmp_path / "r.toml"
    with pytest.raises(tessel.TesselError, match="cannot be read"):
        Recipe.of(path)
    path.write_text("a = ")
    with pytest.raises(tessel.TesselError, match="no TOML"):
        Recipe.of(path)
    path.write_text('preset = "int7"')
    with pytest.raises(tessel.TesselError, match="unknown preset"):
        Recipe.of(path)
