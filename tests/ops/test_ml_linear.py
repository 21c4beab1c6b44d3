"""LinearRegressor and LinearClassifier."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.ml_harness import TRANSFORMS, check_ml, check_ort, check_refused, transformed
from tests.ops.ort_oracle import ort

X = np.array([[1, -2], [0.25, 0.5], [-1, 0.125]], np.float32)
THREE = {"coefficients": [0.3, 0.4, 0.1, 0.2, 0.5, -0.6], "intercepts": [0.1, 0.2, 0.0]}
INTS, TEXTS = {"classlabels_ints": [5, 0, -7]}, {"classlabels_strings": ["a", "", "é"]}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("x", [X, X[:1], X[:0], X[0]], ids=["rows", "one", "none", "vector"])
def test_regressor_of_three_targets(x, name):
    attrs = {**THREE, "targets": 3, "post_transform": name}
    if x.size:
        check_ort("LinearRegressor", [x], attrs)
    else:
        check_ml("LinearRegressor", [x], attrs, oracle=lambda _: np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("name", TRANSFORMS[:4])
def test_regressor_of_one_target(name):
    attrs = {"coefficients": [2.0, -1.5], "post_transform": name}

    def oracle(x):
        return transformed(x @ np.array([[2.0], [-1.5]]), name).astype(np.float32)

    check_ml("LinearRegressor", [X], attrs, oracle=oracle)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int32])
def test_regressor_types(dtype):
    x = np.array([[3, -7], [100003, 2]], dtype)
    expected = (x @ np.array([[0.5], [-0.25]]) + 0.125).astype(np.float32)
    attrs = {"coefficients": [0.5, -0.25], "intercepts": [0.125]}
    check_ml("LinearRegressor", [x], attrs, oracle=lambda _: expected)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("labels", [INTS, TEXTS], ids=["ints", "strings"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_classifier_of_three_classes(dtype, labels, name):
    attrs = {**THREE, **labels, "post_transform": name, "multi_class": 1}
    check_ort("LinearClassifier", [X.astype(dtype)], attrs, outputs=2)


def test_classifier_of_one_row():
    check_ort("LinearClassifier", [X[0]], {**THREE, **INTS}, outputs=2)


@pytest.mark.parametrize("name", TRANSFORMS[:4])
@pytest.mark.parametrize(
    "labels", [{"classlabels_ints": [5, -7]}, {"classlabels_strings": ["b", "a"]}], ids=str
)
def test_classifier_of_two_classes_and_one_score(labels, name):
    attrs = {"coefficients": [0.3, 0.4], "intercepts": [0.1], "post_transform": name, **labels}
    scores = X @ np.array([[0.3], [0.4]]) + 0.1
    both = transformed(np.concatenate([-scores, scores], axis=1), name).astype(np.float32)
    chosen = ort("LinearClassifier", attrs, outputs=2, domain="ai.onnx.ml")(X)[0]
    check_ml("LinearClassifier", [X], attrs, outputs=2, oracle=lambda _: [chosen, both])


def test_an_empty_batch_has_no_labels():
    check_ml(
        "LinearClassifier",
        [X[:0]],
        {**THREE, **INTS},
        outputs=2,
        oracle=lambda _: [np.zeros(0, np.int64), np.zeros((0, 3), np.float32)],
    )


ERRORS = [
    ("LinearRegressor", X, {}, "'coefficients': expected as many for each of 1 scores, got 0"),
    ("LinearRegressor", X, {**THREE, "targets": 4}, "'coefficients': expected as many for each of 4"),
    ("LinearRegressor", X, {**THREE, "targets": 2}, "'intercepts': expected 2, got 3"),
    (
        "LinearRegressor",
        np.zeros((2, 3), np.float32),
        {**THREE, "targets": 3},
        "expected 2 features, got float32[2, 3]",
    ),
    (
        "LinearRegressor",
        X[None],
        {**THREE, "targets": 3},
        "expected an input of shape (N, C) or (C,), got float32[1,",
    ),
    (
        "LinearRegressor",
        X,
        {**THREE, "targets": 3, "post_transform": "EXP"},
        "'post_transform' = 'EXP', expected one",
    ),
    ("LinearClassifier", X, THREE, "classlabels_ints, classlabels_strings, got none"),
    ("LinearClassifier", X, {**THREE, **INTS, **TEXTS}, "got classlabels_ints and classlabels_strings"),
]


@pytest.mark.parametrize(("op", "x", "attrs", "message"), ERRORS)
def test_errors(op, x, attrs, message):
    check_refused(op, [x], attrs, message, outputs=2 if op == "LinearClassifier" else 1)
