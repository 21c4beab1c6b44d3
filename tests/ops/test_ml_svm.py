"""Support vector machines."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.ml_harness import TRANSFORMS, check_ml, check_ort, check_refused, transformed
from tests.ops.ort_oracle import ort
from tilewise.ops.ml.svm import couple

X = np.array([[1, 2], [-1, -0.5], [3, -2], [0, 0]], np.float32)
VECTORS = [1.0, 0, 0, 1, -1, 0.5, 2, -1, 0.25, 3]
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


def machine(classes, *, seed=0, kernel="RBF", **more):
    """A classifier by 5 support vectors."""
    rng = np.random.default_rng(seed)
    sizes = {2: [2, 3], 3: [2, 1, 2], 4: [1, 2, 1, 1]}[classes]
    return {
        "classlabels_ints": [7, -2, 4, 0][:classes],
        "support_vectors": VECTORS,
        "vectors_per_class": sizes,
        "coefficients": rng.normal(size=5 * (classes - 1)).tolist(),
        "rho": rng.normal(size=classes * (classes - 1) // 2).tolist(),
        "kernel_type": kernel,
        "kernel_params": [0.5, 0.25, 3.0],
        **more,
    }


def probable(classes, seed=5):
    rng, pairs = np.random.default_rng(seed), classes * (classes - 1) // 2
    return {"prob_a": (-rng.random(pairs) - 0.5).tolist(), "prob_b": rng.normal(size=pairs).tolist()}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_classifier(seed, classes, kernel):
    check_ort(
        "SVMClassifier", [X], machine(classes, seed=seed, kernel=kernel), outputs=2, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("classes", [3, 4])
def test_classifier_transforms(classes, name):
    attrs = machine(classes, post_transform=name)
    attrs["classlabels_strings"] = [str(i) for i in attrs.pop("classlabels_ints")]
    check_ort("SVMClassifier", [X], attrs, outputs=2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["NONE", "LOGISTIC", "SOFTMAX"])
def test_two_classes_transformed(name):
    """The label and the pair's score are ONNX Runtime's, the transform is ours."""
    attrs = machine(2, seed=3)
    label, scores = ort("SVMClassifier", attrs, outputs=2, domain="ai.onnx.ml")(X)
    expected = [label, transformed(scores, name).astype(np.float32)]
    check_ml("SVMClassifier", [X], {**attrs, "post_transform": name}, outputs=2, oracle=lambda _: expected)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("kernel", ["RBF", "LINEAR"])
def test_probabilities(kernel, classes):
    attrs = machine(classes, kernel=kernel, **probable(classes))
    check_ort("SVMClassifier", [X], attrs, outputs=2, rtol=1e-3, atol=1e-4)


def test_coupling_minimizes_the_disagreement():
    """Probabilities that make all pairs exactly are found, for each row on its own."""
    p = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    r = p[:, :, None] / (p[:, :, None] + p[:, None, :])
    r[:, range(5), range(5)] = 0
    np.testing.assert_allclose(couple(r), p, atol=5e-3)
    np.testing.assert_array_equal(couple(r[3:4])[0], couple(r)[3])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_linear_classifier(name):
    attrs = {
        "classlabels_strings": ["a", "b", "c"],
        "coefficients": [1.0, 0.5, -1, 0.3, 0.2, -0.7],
        "rho": [0.1, 0.2, 0.3],
        "kernel_params": [0.0, 0.0, 0.0],
        "post_transform": name,
    }
    check_ort("SVMClassifier", [X[:3]], attrs, outputs=2)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_classifier_types(dtype):
    x, attrs = X.astype(dtype), machine(3)
    expected = ort("SVMClassifier", attrs, outputs=2, domain="ai.onnx.ml")(x.astype(np.float32))
    check_ml("SVMClassifier", [x], attrs, outputs=2, oracle=lambda _: expected, rtol=1e-4)


def test_an_empty_batch_and_one_row():
    attrs = machine(3, **probable(3))
    label, scores = ort("SVMClassifier", attrs, outputs=2, domain="ai.onnx.ml")(X[:1])
    check_ml("SVMClassifier", [X[0]], attrs, outputs=2, oracle=lambda _: [label, scores], rtol=1e-3)
    expected = [np.zeros(0, np.int64), np.zeros((0, 3), np.float32)]
    check_ml("SVMClassifier", [X[:0]], attrs, outputs=2, oracle=lambda _: expected)


REGRESSION = {
    "coefficients": [1.0, 0.5, -1, 0.25, -0.75],
    "support_vectors": VECTORS,
    "n_supports": 5,
    "rho": [0.1],
}


@pytest.mark.parametrize("one_class", [0, 1])
@pytest.mark.parametrize("kernel", KERNELS)
def test_regressor(kernel, one_class):
    attrs = {**REGRESSION, "kernel_type": kernel, "kernel_params": [0.5, 0.25, 2.0], "one_class": one_class}
    check_ort("SVMRegressor", [X], attrs, rtol=1e-4)


def test_linear_regressor():
    check_ort("SVMRegressor", [X], {"coefficients": [1.0, 0.5], "rho": [0.1], "kernel_params": [0.0, 0, 0]})
    expected = (X.astype(np.float64) @ np.array([[1.0], [0.5]])).astype(np.float32)
    check_ml("SVMRegressor", [X.astype(np.float64)], {"coefficients": [1.0, 0.5]}, oracle=lambda _: expected)


def test_regressor_transform():
    scores = ort("SVMRegressor", {**REGRESSION, "kernel_params": [0.0, 0, 0]}, domain="ai.onnx.ml")(X)[0]
    expected = transformed(scores, "LOGISTIC").astype(np.float32)
    check_ml("SVMRegressor", [X], {**REGRESSION, "post_transform": "LOGISTIC"}, oracle=lambda _: expected)


ERRORS = [
    ("SVMClassifier", {"rho": [1.0]}, "'rho': expected 3, got 1"),
    ("SVMClassifier", {"vectors_per_class": [2, 3]}, "'vectors_per_class': expected 3, got 2"),
    ("SVMClassifier", {"coefficients": [1.0]}, "'coefficients': expected 10, got 1"),
    ("SVMClassifier", {"prob_a": [1.0, 2, 3]}, "'prob_b': expected 3, got 0"),
    ("SVMClassifier", {"kernel_type": "COSINE"}, "'kernel_type' = 'COSINE', expected one of LINEAR"),
    (
        "SVMClassifier",
        {"kernel_params": [1.0]},
        "'kernel_params': expected gamma, coef0 and degree, got [1.0]",
    ),
    (
        "SVMClassifier",
        {"support_vectors": [1.0]},
        "'support_vectors': expected 5 vectors of one length, got 1",
    ),
    ("SVMRegressor", {"coefficients": [1.0]}, "'coefficients': expected 5, got 1"),
    ("SVMRegressor", {"rho": [1.0, 2.0]}, "'rho': expected 1, got 2"),
]


@pytest.mark.parametrize(("op", "changed", "message"), ERRORS)
def test_errors(op, changed, message):
    classifier = op == "SVMClassifier"
    attrs = {**(machine(3) if classifier else REGRESSION), **changed}
    check_refused(op, [X], attrs, message, outputs=2 if classifier else 1)


def test_a_wrong_number_of_features():
    check_refused("SVMRegressor", [X[:, :1]], REGRESSION, "expected 2 features, got float32[4, 1]")
