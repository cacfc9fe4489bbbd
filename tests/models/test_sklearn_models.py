"""Models of scikit-learn, by skl2onnx: compiled, against ONNX Runtime and scikit-learn."""

import warnings
from unittest import mock

import numpy as np
import onnx
import pytest
import tessel
from tessel.compiler.errors import TesselError

from ..support.onnx_models import onnxruntime

pytest.importorskip("sklearn", reason="scikit-learn makes the models")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx converts them")

from sklearn.cluster import KMeans  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import KNNImputer, SimpleImputer  # noqa: E402
from sklearn.linear_model import (  # noqa: E402
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    Binarizer,
    KBinsDiscretizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import (  # noqa: E402
    SVC,
    SVR,
    LinearSVC,
    LinearSVR,
    NuSVC,
    NuSVR,
    OneClassSVM,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: E402

RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(120, 4)), 3).astype(np.float32)
SCORE = X @ [1.0, -2.0, 0.5, 0.0] + 0.5 * np.sin(3 * X[:, 3])
TWO = (SCORE > 0).astype(np.int64)
THREE = np.digitize(SCORE, [-1.0, 1.0]).astype(np.int64)
WORDS = np.array(["low", "mid", "high"])[THREE]
FEW_HOLES = np.where(np.eye(40, 3, -5) + np.eye(40, 3, -21) > 0, np.float32(np.nan), X[:40, :3])
HOLES = np.where(RNG.uniform(size=X.shape) < 0.2, np.float32(np.nan), X)
COUNTS = RNG.integers(0, 5, X.shape).astype(np.int64)


def with_ints(name, value, make=onnx.helper.make_attribute, **options):
    """An attribute; skl2onnx hands over bools where newer protobufs want ints."""
    bools = isinstance(value, list) and any(isinstance(v, (bool, np.bool_)) for v in value)
    return make(name, [int(v) for v in value] if bools else value, **options)


def converted(model, x, **options) -> onnx.ModelProto:
    if options:
        options = {"options": {id(model): options}}
    opsets = {"": 18, "ai.onnx.ml": 3}
    with warnings.catch_warnings(), mock.patch("onnx.helper.make_attribute", with_ints):
        warnings.simplefilter("ignore")
        return skl2onnx.to_onnx(model, x[:1], target_opset=opsets, **options)


def results(proto, x) -> list:
    """Ours, which must agree with ONNX Runtime's."""
    ours = list(tessel.compile(proto, threads=1).run({proto.graph.input[0].name: x}).values())
    theirs = [np.asarray(y) for y in onnxruntime(proto, x)]
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs):
        assert (got.dtype.kind, got.shape) == (want.dtype.kind, want.shape)
        if want.dtype.kind in "Oiu":
            assert got.tolist() == want.tolist()
        else:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    return ours


LABELLED = [  # by one operator
    LogisticRegression(),
    DecisionTreeClassifier(max_depth=5, random_state=0),
    RandomForestClassifier(5, random_state=0),
    ExtraTreesClassifier(5, max_depth=4, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=3, random_state=0),
    SVC(),
    SVC(kernel="linear"),
    SVC(kernel="poly", degree=2, coef0=0.5),
    SVC(kernel="sigmoid", gamma=0.1),
    NuSVC(nu=0.3),
    LinearSVC(random_state=0),
]
COMPOSED = [  # of many
    SGDClassifier(loss="log_loss", random_state=0),
    SGDClassifier(random_state=0),
    Perceptron(),
    RidgeClassifier(),
    AdaBoostClassifier(n_estimators=3, random_state=0),
    BaggingClassifier(n_estimators=3, random_state=0),
    GaussianNB(),
    KNeighborsClassifier(3),
    MLPClassifier((8,), max_iter=30, random_state=0),
    VotingClassifier(
        [("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", flatten_transform=False
    ),
]


def name_of(model) -> str:
    kernel = getattr(model, "kernel", "")
    return type(model).__name__ + (f"-{kernel}" if isinstance(kernel, str) and kernel else "")


def check_classifier(model, x, y) -> None:
    """Labels are those of scikit-learn, and so are probabilities where it has them."""
    model.fit(x, y)
    scores = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    options = {} if scores == "predict_proba" else {"raw_scores": True}
    if not isinstance(model, LinearSVC):
        options["zipmap"] = False
    label, got = results(converted(model, x, **options), x)[:2]
    assert label.tolist() == model.predict(x).tolist()
    if scores == "predict_proba":
        np.testing.assert_allclose(got, model.predict_proba(x), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("y", [TWO, THREE, WORDS], ids=["two", "three", "words"])
@pytest.mark.parametrize("model", LABELLED, ids=name_of)
def test_classifiers(model, y):
    check_classifier(model, X, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("model", COMPOSED, ids=name_of)
def test_classifiers_of_many_operators(model, y):
    check_classifier(model, X, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
def test_missing_values_choose_a_branch(y):
    check_classifier(HistGradientBoostingClassifier(max_iter=3, random_state=0), HOLES, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("y", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("model", [SVC(probability=True), NuSVC(nu=0.3, probability=True)])
def test_probabilities_of_pairs_are_joined(model, y):
    check_classifier(model.set_params(random_state=0), X, y)


REGRESSORS = [
    LinearRegression(),
    Ridge(),
    ElasticNet(alpha=0.1),
    DecisionTreeRegressor(max_depth=6, random_state=0),
    RandomForestRegressor(5, random_state=0),
    ExtraTreesRegressor(5, max_depth=4, random_state=0),
    GradientBoostingRegressor(n_estimators=5, random_state=0),
    HistGradientBoostingRegressor(max_iter=5, random_state=0),
    SVR(),
    SVR(kernel="poly", degree=3),
    NuSVR(kernel="sigmoid", gamma=0.1),
    LinearSVR(random_state=0),
    KNeighborsRegressor(3),
    MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", REGRESSORS, ids=name_of)
def test_regressors(model):
    model.fit(X, SCORE)
    (y,) = results(converted(model, X), X)
    np.testing.assert_allclose(y.reshape(-1), model.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [RandomForestRegressor(3, random_state=0), Ridge()], ids=name_of)
def test_regressors_of_two_targets(model):
    model.fit(X, np.stack([SCORE, SCORE**2], 1))
    (y,) = results(converted(model, X), X)
    np.testing.assert_allclose(y, model.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model", [OneClassSVM(nu=0.2), IsolationForest(n_estimators=3, random_state=0)]
)
def test_outliers(model):
    model.fit(X)
    label, score = results(converted(model, X), X)
    assert label.reshape(-1).tolist() == model.predict(X).tolist()
    np.testing.assert_allclose(score.reshape(-1), model.decision_function(X), atol=1e-3)


TRANSFORMERS = [
    (StandardScaler(), X),
    (MinMaxScaler(), X),
    (MaxAbsScaler(), X),
    (RobustScaler(), X),
    (Normalizer("l1"), X),
    (Normalizer("l2"), X),
    (Normalizer("max"), np.abs(X)),
    (Binarizer(threshold=0.25), X),
    (SimpleImputer(), HOLES),
    (KNNImputer(n_neighbors=3), FEW_HOLES),
    (KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"), X),
    (KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf"), X),
    (OneHotEncoder(sparse_output=False), COUNTS),
    (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), COUNTS),
    (OrdinalEncoder(), COUNTS),
    (OrdinalEncoder(), WORDS[:, None].astype(object)),
    (LabelEncoder(), COUNTS[:, 0]),
    (LabelEncoder(), WORDS.astype(object)),
    (PolynomialFeatures(2), X),
    (PCA(2), X),
    (make_pipeline(SimpleImputer(), StandardScaler(), PCA(3), Normalizer()), HOLES),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model", "x"), TRANSFORMERS, ids=[name_of(model) for model, _ in TRANSFORMERS]
)
def test_transformers(model, x):
    model.fit(x)
    y = results(converted(model, x), x)[0]
    np.testing.assert_allclose(y, model.transform(x), rtol=1e-3, atol=1e-4)


def test_clusters():
    model = KMeans(3, n_init=1, random_state=0).fit(X)
    label, distances = results(converted(model, X), X)
    assert label.tolist() == model.predict(X).tolist()
    np.testing.assert_allclose(distances, model.transform(X), atol=1e-4)


OPEN = [
    LogisticRegression(),
    SVC(),
    RandomForestClassifier(3, random_state=0),
    GradientBoostingClassifier(n_estimators=3, random_state=0),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", OPEN, ids=name_of)
def test_the_number_of_features_may_be_open(model):
    """Inputs of [None, None]: what does not fit is refused when it comes, not read past its end."""
    proto = converted(model.fit(X, THREE), X, zipmap=False)
    proto.graph.input[0].type.tensor_type.shape.dim[1].Clear()
    label = results(proto, X)[0]
    assert label.tolist() == model.predict(X).tolist()
    with pytest.raises(TesselError):
        tessel.compile(proto, threads=1).run({"X": X[:, :2].copy()})
