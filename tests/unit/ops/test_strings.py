"""Strings in models: they run in Python between compiled kernels."""

import sys

import numpy as np
import pytest
import tessel
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.errors import InputError, ModelError, UnsupportedError
from tessel.compiler.ops.text.strings import expression, lower, texts, upper
from tessel.frontends.onnx.operators.ai_onnx import ngram

from ...support.onnx_models import graph_of, model, ops
from .test_dtypes import model_of, run

WORDS = texts([["a1", "b2", "a1"], ["", "c", "b2"]])


def compiled(proto, **options):
    return tessel.compile(proto, threads=1, **options)


# -- between compiled kernels -------------------------------------------------------------------

MIXED = model(
    """
    half = Constant<value = float {0.5}>()
    h = Mul(x, half)
    t = Cast<to = 8>(h)
    unit = Constant<value_strings = ["kg"]>()
    u = StringConcat(t, unit)
    r = Reshape(u, shape)
    same = Equal(r, s)
    n = Cast<to = 1>(same)
    z = Add(n, half)
    w = Transpose(r)
    """,
    inputs="float[N] x, string[1,3] s",
    outputs="float[1,3] z, string[3,1] w",
    opset=20,
    extra="",
).graph


def mixed():
    proto = model("z = Identity(x)", inputs="float[N] x", outputs="float[N] z", opset=20)
    proto.graph.CopyFrom(MIXED)
    shape = helper.make_tensor("shape", 7, [2], [1, 3])
    proto.graph.initializer.append(shape)
    return proto


def check_mixed(exe):
    x = np.array([1, 3, 5], np.float32)
    out = exe.run({"x": x, "s": texts([["0.5kg", "9", "2.5kg"]])})
    assert out["z"].tolist() == [[1.5, 0.5, 1.5]]
    assert out["w"].tolist() == [["0.5kg"], ["1.5kg"], ["2.5kg"]]


def test_strings_between_compiled_kernels():
    exe = compiled(mixed())
    check_mixed(exe)
    check_mixed(exe)


def test_a_package_carries_strings(tmp_path):
    exe = compiled(mixed(), shapes={"x": (3,)})
    check_mixed(exe)
    exe.save(tmp_path / "m.tsl")
    check_mixed(tessel.load(tmp_path / "m.tsl"))
    check_mixed(tessel.load(tmp_path / "m.tsl", native=False))


def test_strict_refuses_what_runs_in_python():
    with pytest.raises(
        UnsupportedError, match=r"(?s)not everything.*string_concat is a host callback"
    ):
        compiled(mixed(), shapes={"x": (3,)}, strict=True)


def test_what_comes_out_is_the_callers_own():
    exe = compiled(model("y = Identity(x)", inputs="string[2] x", outputs="string[2] y"))
    x = texts(["a", "b"])
    (y,) = exe.run({"x": x}).values()
    y[0] = "changed"
    assert x[0] == "a"
    constant = 'y = Constant<value_strings = ["a", "b"]>()'
    exe = compiled(model(constant, outputs="string[2] y"))
    for _ in range(2):
        (y,) = exe.run({"x": np.zeros((2, 3), np.float32)}).values()
        assert y.tolist() == ["a", "b"]
        y[0] = "changed"


def test_branches_of_strings():
    body = """
    y = If (c) <
      then_branch = t () => (string[2] p) { p = StringConcat(x, x) },
      else_branch = e () => (string[2] q) { q = Identity(x) }
    >
    """
    exe = compiled(model(body, inputs="bool c, string[2] x", outputs="string[2] y", opset=20))
    x = texts(["a", "b"])
    assert exe.run({"c": np.array(True), "x": x})["y"].tolist() == ["aa", "bb"]
    assert exe.run({"c": np.array(False), "x": x})["y"].tolist() == ["a", "b"]


def test_loops_carry_strings():
    body = """
    z = Loop (n, go, x) <body = b (int64 i, bool c, string[2] s) => (bool c2, string[2] s2) {
      c2 = Identity(c) k = Constant<value_strings = ["!"]>() s2 = StringConcat(s, k)
    }>
    """
    proto = model(body, inputs="string[2] x", outputs="string[2] z", opset=20)
    proto.graph.initializer.append(helper.make_tensor("n", 7, [], [3]))
    proto.graph.initializer.append(helper.make_tensor("go", 9, [], [True]))
    assert compiled(proto).run({"x": texts(["a", ""])})["z"].tolist() == ["a!!!", "!!!"]


def test_loops_do_not_take_strings_apart():
    body = """
    z = Scan (x) <num_scan_inputs = 1, body = b (string[2] s) => (string[2] t) {
      t = StringConcat(s, s)
    }>
    """
    proto = model(body, inputs="string[3,2] x", outputs="string[3,2] z", opset=20)
    with pytest.raises(UnsupportedError, match=r"(?s)split or join strings.*Scan#0/StringConcat#0"):
        compiled(proto)


def test_composites_of_strings_run_whole():
    x = texts(list("abcdefgh")).reshape(1, 4, 1, 2)
    numbers = np.arange(8).reshape(1, 4, 1, 2)
    y, order = (run("DepthToSpace", [t], blocksize=2)[0] for t in (x, numbers))
    assert y.tolist() == x.ravel()[order].tolist()


def test_constants_are_worked_out_while_compiling():
    body = """
    words = Constant<value_strings = ["a b", "c"]>()
    parts, n = StringSplit(words)
    two = Constant<value = int64[1] {1}>()
    g = Gather<axis = 1>(parts, two)
    m = Cast<to = 1>(n)
    y = Mul(x, m)
    """
    proto = model(body, inputs="float[2] x", outputs="string[2,1] g, float[2] y", opset=20)
    out = compiled(proto).run({"x": np.array([1, 2], np.float32)})
    assert out["g"].tolist() == [["b"], [""]]
    assert out["y"].tolist() == [2, 2]


def test_strings_come_as_any_array_of_text():
    exe = compiled(model("y = Identity(x)", inputs="string[N] x", outputs="string[N] y"))
    for x in (["é", "b"], np.array(["é", "b"]), np.array(["é".encode(), b"b"]), texts(["é", "b"])):
        (y,) = exe.run({"x": x}).values()
        assert y.tolist() == ["é", "b"]
        assert all(type(v) is str for v in y)
    with pytest.raises(InputError, match=r"(?s)no string.*'?1.5'?.*astype\(str\)"):
        exe.run({"x": texts(["a", 1.5])})
    with pytest.raises(InputError, match=r"(?s)wrong dtype.*astype\(str\)"):
        exe.run({"x": np.array([1.5])})
    with pytest.raises(InputError, match="no text"):
        exe.run({"x": np.array([b"\xff"])})


# -- casts --------------------------------------------------------------------------------------


def test_numbers_from_strings():
    x = texts(["1", "-2.75", "1e2", "INF", "-inf", "NaN"])
    got = run("Cast", [x], to=1)[0]
    np.testing.assert_array_equal(got, np.float32([1, -2.75, 100, np.inf, -np.inf, np.nan]))
    whole = texts(["12", "-7", "18446744073709551615", "3.9"])
    assert run("Cast", [whole], to=7)[0].tolist() == [12, -7, -1, 3]
    assert run("Cast", [whole], to=13)[0].tolist() == [12, 2**64 - 7, 2**64 - 1, 3]
    assert run("Cast", [whole], to=22)[0].astype(int).tolist() == [-4, -7, -1, 3]


def test_a_string_that_is_no_number():
    with pytest.raises(InputError, match=r"(?s)not a number.*'twelve'"):
        run("Cast", [texts(["1", "twelve"])], to=1)


# -- operators ----------------------------------------------------------------------------------


def test_regular_expressions_are_those_of_re2():
    x = texts(["été", "ete", "a\nb"])
    assert run("RegexFullMatch", [x], pattern=r"\w+")[0].tolist() == [False, True, False]
    assert run("RegexFullMatch", [x], pattern=r"\pL+")[0].tolist() == [True, True, False]
    with pytest.raises(ModelError, match=r"(?s)RegexFullMatch.*no regular expression"):
        run("RegexFullMatch", [x], pattern=r"(a)\1")


def test_without_re2(monkeypatch):
    expression.cache_clear()
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(UnsupportedError, match=r"(?s)needs RE2.*pip install 'tessel\[text\]'"):
        run("RegexFullMatch", [WORDS], pattern="a")


@pytest.mark.parametrize(
    ("locale", "small", "large"),
    [
        ("en_US", "i", "I"),
        ("tr_TR.UTF-8", "ı", "I"),
        ("az", "i", "İ"),
        ("de", "straße", "STRASSE"),
        ("lt", "i\u0307\u0301", "I\u0301"),
        ("lt_LT", "j\u0307\u0300", "J\u0300"),
    ],
)
def test_locales(locale, small, large):
    assert upper(small, locale) == large
    if small != "straße":
        assert lower(large, locale) == small
    assert lower("ΟΔΟΣ", locale) == "οδος"


def test_every_word_stays_without_stop_words():
    x = texts(["Monday", "friday"])
    assert run("StringNormalizer", [x], case_change_action="UPPER")[0].tolist() == [
        "MONDAY",
        "FRIDAY",
    ]
    with pytest.raises(tessel.TesselError, match="one row"):
        run("StringNormalizer", [WORDS])


def test_splits_of_any_width():
    exe = compiled(model_of("StringSplit", [texts(["", ""])], 2, delimiter=","))
    for words, parts in [
        (["a,b", "c"], [["a", "b"], ["c", ""]]),
        (["", "d,,e"], [["", "", ""], ["d", "", "e"]]),
    ]:
        out = exe.run({"x0": texts(words)})
        assert out["y0"].tolist() == parts
        assert out["y1"].tolist() == [w.count(",") + 1 for w in words]


# -- n-grams ------------------------------------------------------------------------------------

POOL = {
    "pool_int64s": [1, 2, 3, 1, 2, 2, 3, 3, 1, 1, 2, 3],
    "ngram_counts": [0, 3, 9],
    "ngram_indexes": [3, 0, 5, 1, 2, 7, 6],
}
MODES = [("TF", None), ("IDF", True), ("TFIDF", True)]  # the others fail without weights


def tfidf(x, low, high, skips, mode, weights, pool):
    attrs = dict(pool, min_gram_length=low, max_gram_length=high, max_skip_count=skips, mode=mode)
    if weights:
        attrs["weights"] = [0.5, 1, 2, 3, 4, 5, 6, 7.5]
    proto = model_of("TfIdfVectorizer", [x], opset=9, **attrs)
    (want,) = ReferenceEvaluator(proto).run(None, {"x0": x})
    got = compiled(proto).run({"x0": x})["y0"]
    np.testing.assert_array_equal(got, want)
    return got


@pytest.fixture(params=[True, False], ids=["few", "many"])
def few(request, monkeypatch):
    """Both ways to count."""
    if not request.param:
        monkeypatch.setattr(ngram, "FEW", 0)


@pytest.mark.sweep(12, suite=12)
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grams", [(1, 1, 3), (1, 2, 0), (2, 3, 2), (1, 3, 1), (3, 3, 4)])
def test_ngrams_are_counted_as_the_reference_counts_them(grams, mode):
    x = np.random.default_rng(0).integers(0, 4, (3, 11))
    total = tfidf(x, *grams, *mode, POOL)
    assert total.any()
    tfidf(x[0].astype(np.int32), *grams, *mode, POOL)


@pytest.mark.usefixtures("few")
def test_ngrams_of_words():
    names = ["none", "one", "two", "three"]
    pool = dict(POOL, pool_strings=[names[i] for i in POOL["pool_int64s"]])
    del pool["pool_int64s"]
    x = np.random.default_rng(1).integers(0, 4, (2, 7))
    words = np.array(names, object)[x]
    got = tfidf(words, 1, 3, 1, "TF", None, pool)
    np.testing.assert_array_equal(got, tfidf(x, 1, 3, 1, "TF", None, POOL))


@pytest.mark.usefixtures("few")
def test_ngrams_of_one_column_are_added_up():
    pool = {"pool_int64s": [1, 2, 3], "ngram_counts": [0], "ngram_indexes": [1, 1, 2]}
    got = tfidf(np.array([[1, 2, 3, 3], [0, 0, 2, 1]]), 1, 1, 0, "TF", None, pool)
    assert got.tolist() == [[0, 2, 2], [0, 2, 0]]


@pytest.mark.usefixtures("few")
def test_ngrams_of_rows_of_any_length():
    attrs = dict(POOL, min_gram_length=1, max_gram_length=3, max_skip_count=2, mode="TF")
    proto = model_of("TfIdfVectorizer", [np.zeros((2, 5), np.int64)], opset=9, **attrs)
    for d in proto.graph.input[0].type.tensor_type.shape.dim:
        d.dim_param = f"d{d.dim_value}"
    exe = compiled(proto)
    for rows, length in ((2, 7), (3, 1), (1, 4)):
        x = np.random.default_rng(length).integers(0, 4, (rows, length))
        (want,) = ReferenceEvaluator(proto).run(None, {"x0": x})
        np.testing.assert_array_equal(exe.run({"x0": x})["y0"], want)


def test_the_last_of_equal_ngrams_counts(few):
    pool = {
        "pool_int64s": [1, 1, 1, 2, 1, 2],
        "ngram_counts": [0, 2],
        "ngram_indexes": [0, 1, 2, 3],
    }
    got = tfidf(np.array([[1, 2, 1, 2]]), 1, 2, 0, "TF", None, pool)
    assert got.tolist() == [[0, 2, 0, 2]]


def test_weights_may_be_missing():
    x = np.array([1, 2, 1, 5])
    attrs = dict(POOL, min_gram_length=1, max_gram_length=1, max_skip_count=0)
    for mode, ones in (("IDF", 1), ("TFIDF", 2)):
        got = run("TfIdfVectorizer", [x], opset=9, mode=mode, **attrs)[0]
        assert got.tolist() == [1, 0, 0, ones, 0, 0, 0, 0]


def test_ngrams_are_compiled():
    x = np.zeros((2, 5), np.int64)
    proto = model_of(
        "TfIdfVectorizer",
        [x],
        opset=9,
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=1,
        mode="TF",
        **POOL,
    )
    assert "ngram_counts" in ops(graph_of(proto))
    compiled(proto, strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ngram_indexes": [0]}, "one entry for each n-gram"),
        ({"mode": "X"}, "unknown mode"),
        ({"weights": [1.0]}, "one entry for each column"),
        ({"pool_strings": ["a"]}, "one pool"),
    ],
)
def test_vectorizers_that_make_no_sense(change, message):
    attrs = {"min_gram_length": 1, "max_gram_length": 1, "max_skip_count": 0, "mode": "TFIDF"}
    proto = model_of("TfIdfVectorizer", [np.zeros(3, np.int64)], opset=9, **attrs | POOL | change)
    with pytest.raises(ModelError, match=message):
        compiled(proto)
