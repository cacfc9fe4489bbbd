"""The ai.onnx.ml domain beside trees: linear models, vector machines, features, encoders."""

import numpy as np
import onnx
import pytest
import tessel
from onnx import helper
from onnx.reference import ReferenceEvaluator
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.errors import InputError, TesselError, UnsupportedError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import F32, STR, MapType, TensorType
from tessel.compiler.lowering.lower import lower

from ...support.onnx_models import graph_of, onnxruntime, ops

T = onnx.TensorProto
KIND = {
    "float32": T.FLOAT,
    "float64": T.DOUBLE,
    "int64": T.INT64,
    "int32": T.INT32,
    "int16": T.INT16,
    "object": T.STRING,
}
X = np.round(np.random.default_rng(0).normal(size=(7, 3)), 2).astype(np.float32)


def model(op, inputs, outputs, version=1, **attrs) -> onnx.ModelProto:
    """One node; `outputs` are dtypes."""
    names = [f"x{i}" for i in range(len(inputs))], [f"y{i}" for i in range(len(outputs))]
    node = helper.make_node(op, *names, domain="ai.onnx.ml", **attrs)
    values = helper.make_tensor_value_info
    ins = [values(n, KIND[x.dtype.name], x.shape) for n, x in zip(names[0], inputs)]
    outs = [values(n, KIND[kind], None) for n, kind in zip(names[1], outputs)]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(
        helper.make_graph([node], "g", ins, outs), opset_imports=opsets, ir_version=8
    )


def run(proto, *inputs) -> list:
    executable = tessel.compile(proto, threads=1)
    return list(executable.run({f"x{i}": x for i, x in enumerate(inputs)}).values())


def reference(proto, *inputs) -> list:
    return ReferenceEvaluator(proto).run(None, {f"x{i}": x for i, x in enumerate(inputs)})


def check(op, inputs, outputs, version=1, judge=onnxruntime, atol=1e-6, **attrs) -> list:
    proto = model(op, inputs, outputs, version, **attrs)
    got = run(proto, *inputs)
    for y, want in zip(got, judge(proto, *inputs), strict=True):
        want = np.asarray(want)
        if want.dtype.kind in "OUiu":
            assert y.tolist() == want.tolist()
        else:
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=atol)
    return got


# -- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
@pytest.mark.parametrize("length", [1, 3])
def test_scaler(dtype, length):
    x = (X * 10).astype(dtype)
    attrs = {"offset": [0.5, -1.0, 2.0][:length], "scale": [2.0, 0.1, 3.0][:length]}
    check("Scaler", [x], ["float32"], **attrs)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32"])
def test_binarizer(dtype):
    x = (X * 3).astype(dtype)
    (y,) = run(model("Binarizer", [x], [dtype], threshold=0.5), x)
    assert y.dtype == x.dtype and y.tolist() == (x > 0.5).astype(dtype).tolist()


@pytest.mark.parametrize(
    ("x", "attrs"),
    [
        (
            np.where(X > 0.5, np.nan, X).astype("f4"),
            {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": np.nan},
        ),
        (
            np.where(X > 0.5, 0.25, X).astype("f4"),
            {"imputed_value_floats": [7.0], "replaced_value_float": 0.25},
        ),
        ((X * 2).astype(np.int64), {"imputed_value_int64s": [5, 6, 7], "replaced_value_int64": 0}),
    ],
    ids=["nan", "number", "ints"],
)
def test_imputer(x, attrs):
    check("Imputer", [x], [x.dtype.name], **attrs)


def test_imputer_of_doubles_and_short_ints():
    x = np.array([[1.0, np.nan], [np.nan, 2.0]])
    attrs = {"imputed_value_floats": [8.0, 9.0], "replaced_value_float": np.nan}
    assert run(model("Imputer", [x], ["float64"], **attrs), x)[0].tolist() == [[1, 9], [8, 2]]
    x = np.array([[1, 4]], np.int32)
    attrs = {"imputed_value_int64s": [8], "replaced_value_int64": 4}
    assert run(model("Imputer", [x], ["int32"], **attrs), x)[0].tolist() == [[1, 8]]


def test_feature_vectorizer():
    inputs = [X, X[:, 0].copy(), np.arange(7), X.astype("f8")]
    (y,) = run(
        model("FeatureVectorizer", inputs, ["float32"], inputdimensions=[2, 1, 1, 4]), *inputs
    )
    zeros = np.zeros((7, 1), np.float32)
    expected = np.hstack([X[:, :2], X[:, :1], np.arange(7)[:, None], X, zeros])
    np.testing.assert_array_equal(y, expected.astype(np.float32))


@pytest.mark.parametrize("x", [X, X[0].copy(), X.astype("f8"), (X * 9).astype(np.int64)])
def test_array_feature_extractor(x):
    check("ArrayFeatureExtractor", [x, np.array([2, 0, 2])], [x.dtype.name])


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(norm):
    check("Normalizer", [np.abs(X)], ["float32"], norm=norm)


# -- linear models, vector machines ---------------------------------------------------------------


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"])
def test_linear_regressor(post):
    attrs = {"coefficients": [0.1, 0.02, 0.01, 0.03, 0.1, 0.02], "intercepts": [0.5, 0.4]}
    atol = 1e-4 if post == "PROBIT" else 1e-6  # near 1/2 it subtracts what is nearly equal
    check("LinearRegressor", [X], ["float32"], atol=atol, targets=2, post_transform=post, **attrs)


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32"])
def test_linear_regressor_of_other_numbers(dtype):
    x = (X * 3).astype(dtype)
    proto = model("LinearRegressor", [x], ["float32"], coefficients=[0.1, 0.2, 0.3])
    expected = x @ np.array([[0.1], [0.2], [0.3]])
    np.testing.assert_allclose(run(proto, x)[0], expected, rtol=1e-5, atol=1e-6)


VECTORS = np.round(np.random.default_rng(1).normal(size=(6, 3)), 2)
KERNELS = [
    ("LINEAR", [0.0, 0.0, 0.0]),
    ("POLY", [0.3, 0.5, 3.0]),
    ("RBF", [0.4, 0.0, 0.0]),
    ("SIGMOID", [0.1, 0.2, 0.0]),
]


@pytest.mark.parametrize("one_class", [0, 1])
@pytest.mark.parametrize(("kernel", "params"), KERNELS)
def test_svm_regressor(kernel, params, one_class):
    check(
        "SVMRegressor",
        [X],
        ["float32"],
        kernel_type=kernel,
        kernel_params=params,
        support_vectors=VECTORS.reshape(-1),
        n_supports=6,
        rho=[0.3],
        one_class=one_class,
        coefficients=np.linspace(-1, 1, 6),
    )


def svm(classes, kernel, params, **more):
    counts = [6] if classes == 1 else [6 // classes] * classes
    pairs = classes * (classes - 1) // 2
    rng = np.random.default_rng(classes)
    return {
        "kernel_type": kernel,
        "kernel_params": params,
        "vectors_per_class": counts,
        "support_vectors": VECTORS.reshape(-1),
        "rho": rng.normal(size=pairs),
        "coefficients": rng.normal(size=6 * (classes - 1)),
        **more,
    }


@pytest.mark.parametrize("labels", [[3, 5], [1, 2, 4], ["a", "b", "c"]])
@pytest.mark.parametrize(("kernel", "params"), KERNELS)
def test_svm_classifier(kernel, params, labels):
    name, kind = ("strings", "object") if labels[0] == "a" else ("ints", "int64")
    attrs = svm(len(labels), kernel, params, **{f"classlabels_{name}": labels})
    check("SVMClassifier", [X], [kind, "float32"], **attrs)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_svm_probabilities(classes, post):
    pairs = classes * (classes - 1) // 2
    attrs = svm(
        classes,
        "RBF",
        [0.4, 0.0, 0.0],
        classlabels_ints=list(range(classes)),
        prob_a=np.linspace(-2, -1, pairs),
        prob_b=np.linspace(-0.1, 0.2, pairs),
        post_transform=post,
    )
    check("SVMClassifier", [X], ["int64", "float32"], **attrs)


def test_svm_without_vectors_is_linear():
    attrs = {"classlabels_ints": [4, 5, 6], "coefficients": np.linspace(-1, 1, 9), "rho": [0.2]}
    check("SVMClassifier", [X], ["int64", "float32"], kernel_params=[0.0, 0.0, 0.0], **attrs)


# -- encoders -------------------------------------------------------------------------------------

NUMBERS = np.array([[3, 1, 4], [1, 5, 9]])
WORDS = np.array([["b", "a", "zz"], ["", "c", "a"]], object)


@pytest.mark.parametrize("values", ["int64s", "floats", "strings"])
@pytest.mark.parametrize("keys", ["int64s", "floats", "strings"])
def test_label_encoder(keys, values):
    x = {"int64s": NUMBERS, "floats": NUMBERS.astype("f4"), "strings": WORDS}[keys]
    made = {"int64s": [7, 8, 9], "floats": [0.5, 1.5, 2.5], "strings": ["x", "y", "z"]}
    wanted = {"int64s": [1, 5, 3], "floats": [1.0, 5.0, 3.0], "strings": ["a", "c", "b"]}
    attrs = {f"keys_{keys}": wanted[keys], f"values_{values}": made[values]}
    attrs |= {"default_int64": -7, "default_float": 0.25, "default_string": "none"}
    kind = {"int64s": "int64", "floats": "float32", "strings": "object"}[values]
    check("LabelEncoder", [x], [kind], 2, **attrs)


@pytest.mark.parametrize("dtype", ["float64", "int16", "int32", "int64"])
def test_label_encoder_of_tensors(dtype):
    x = NUMBERS.astype(dtype)
    tensor = lambda name, values, kind: helper.make_tensor(name, KIND[kind], [len(values)], values)
    attrs = {
        "keys_tensor": tensor("k", [9, 1, 4, 1], dtype),  # of equal keys the last counts
        "values_tensor": tensor("v", [0, 1, 2, 3], "int16"),
        "default_tensor": tensor("d", [-5], "int16"),
    }
    (y,) = run(model("LabelEncoder", [x], ["int16"], 4, **attrs), x)
    assert y.dtype == np.int16 and y.tolist() == [[-5, 3, 2], [3, -5, 0]]


def test_nan_is_a_key():
    x = np.array([1.0, np.nan, 2.0], np.float32)
    attrs = {"keys_floats": [np.nan, 1.0], "values_int64s": [5, 6], "default_int64": 0}
    proto = model("LabelEncoder", [x], ["int64"], 4, **attrs)
    assert run(proto, x)[0].tolist() == [6, 5, 0]


def test_numbers_are_looked_up_by_compiled_code():
    attrs = {"keys_int64s": [3, 1], "values_floats": [0.5, 1.5]}
    graph = graph_of(model("LabelEncoder", [NUMBERS], ["float32"], 2, **attrs))
    assert ops(graph) == ["search", "gather"]
    tessel.compile(graph, strict=True)
    attrs = {"keys_strings": ["a"], "values_floats": [0.5]}
    with pytest.raises(UnsupportedError, match="search_strings is a host callback"):
        tessel.compile(model("LabelEncoder", [WORDS], ["float32"], 2, **attrs), strict=True)


@pytest.mark.parametrize("x", [NUMBERS % 4, WORDS], ids=["places", "words"])
def test_label_encoder_of_version_1(x):
    kind = "int64" if x is WORDS else "object"
    attrs = {"classes_strings": ["a", "b", "c"], "default_int64": -3, "default_string": "none"}
    check("LabelEncoder", [x], [kind], 1, **attrs)


@pytest.mark.parametrize("x", [NUMBERS, WORDS], ids=["numbers", "words"])
def test_category_mapper(x):
    kind = "int64" if x is WORDS else "object"
    check("CategoryMapper", [x], [kind], cats_int64s=[5, 3, 1], cats_strings=["c", "b", "a"])


@pytest.mark.parametrize(
    "x",
    [NUMBERS, NUMBERS.astype("f4") + 0.25, NUMBERS.astype("i4"), WORDS],
    ids=["ints", "floats", "short", "words"],
)
def test_one_hot_encoder(x):
    attrs = {"cats_strings": ["c", "zz", "a"]} if x is WORDS else {"cats_int64s": [4, 1, 7, 3]}
    judge = onnxruntime if x.dtype in (object, np.int64) else reference
    check(
        "OneHotEncoder", [np.trunc(x) if x.dtype == "f4" else x], ["float32"], judge=judge, **attrs
    )


def test_an_unknown_category_can_stop_the_run():
    proto = model("OneHotEncoder", [NUMBERS], ["float32"], cats_int64s=[1, 3, 4, 5, 9], zeros=0)
    assert run(proto, NUMBERS)[0].shape == (2, 3, 5)
    with pytest.raises(InputError, match="no known category"):
        run(proto, NUMBERS + 1)


# -- maps -----------------------------------------------------------------------------------------


def test_a_map_becomes_a_row():
    b = Builder()
    x = b.input("m", MapType(STR, TensorType(F32, ())))
    b.output("y", b.dict_vectorizer(x, vocabulary=("a", "b", "c")) * 2)
    module = NumpyModule(lower(b.graph))
    assert module([{"c": 1.5}])[0].tolist() == [[0.0, 0.0, 3.0]]
    with pytest.raises(InputError, match="not in the vocabulary"):
        module([{"d": 1.5}])


def test_a_map_becomes_text():
    y = OPS["cast_map"].ref({1: 0.5, 2: 3.0}, size=3, dtype=STR)
    assert y.tolist() == [["0.f", "0.500000", "3.000000"]]
    with pytest.raises(InputError, match="out of range"):
        OPS["cast_map"].ref({3: 0.5}, size=3, dtype=F32)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "x", "attrs", "message"),
    [
        ("LinearClassifier", X, {"coefficients": [1.0]}, "without class labels"),
        ("LinearRegressor", X, {"coefficients": [1.0] * 3, "targets": 2}, "a row per target"),
        ("LinearRegressor", X, {"coefficients": [1.0] * 3, "post_transform": "TANH"}, "no such"),
        ("Imputer", X, {"imputed_value_int64s": [1]}, "imputed_value_floats is missing"),
        ("Imputer", X, {"imputed_value_floats": [1.0, 2.0]}, "or one per feature"),
        ("FeatureVectorizer", X, {"inputdimensions": [1, 2]}, "a width per input"),
        ("OneHotEncoder", X, {"cats_strings": ["a"]}, "cats_int64s is missing"),
        ("CategoryMapper", NUMBERS, {"cats_int64s": [1], "cats_strings": []}, "must be as many"),
        ("SVMRegressor", X, {"coefficients": [1.0], "rho": []}, "rho is too short"),
        (
            "SVMRegressor",
            X,
            {"coefficients": [1.0], "rho": [0.0], "n_supports": 1, "support_vectors": [1.0]},
            "rows as long as x's",
        ),
        (
            "SVMRegressor",
            X,
            {
                "coefficients": [1.0],
                "rho": [0.0],
                "n_supports": 1,
                "support_vectors": [1.0] * 3,
                "kernel_type": "COSINE",
            },
            "unknown kernel_type",
        ),
        (
            "SVMClassifier",
            X,
            {"classlabels_ints": [1, 2], "vectors_per_class": [1]},
            "a number per class",
        ),
    ],
)
def test_wrong_attributes_are_refused(op, x, attrs, message):
    attrs = {k: v for k, v in attrs.items() if v != []}
    outputs = ["int64", "float32"] if "Classifier" in op else ["float32"]
    with pytest.raises(TesselError, match=message):
        graph_of(model(op, [x], outputs, **attrs))


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"keys_int64s": [1]}, "its values in exactly one"),
        ({"keys_int64s": [1], "values_int64s": [1, 2]}, "must be as many"),
        ({"keys_strings": ["a"], "values_int64s": [1]}, "of another type than the input"),
    ],
)
def test_wrong_label_encoders_are_refused(attrs, message):
    with pytest.raises(TesselError, match=message):
        graph_of(model("LabelEncoder", [NUMBERS], ["int64"], 2, **attrs))
