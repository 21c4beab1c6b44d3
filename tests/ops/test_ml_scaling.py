"""Operators of ai.onnx.ml that map features to features."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import one_node
from tests.ops.ml_harness import DOMAIN, check_ml, check_ort, check_refused, text
from tilewise import TilewiseError, load

X = np.array([[1, -2, 0.5], [0, 0, 0], [-1, -3, -0.25]], np.float32)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("x", [X, X[:1], X[0], X.astype(np.float64), (4 * X).astype(np.int64)], ids=str)
def test_normalizer(x, norm):
    check_ort("Normalizer", [x], {"norm": norm})


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_normalizer_of_nothing(shape):
    check_ml("Normalizer", [np.zeros(shape, np.int32)], {}, oracle=lambda x: x.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32])
def test_binarizer(dtype):
    x = np.array([[-1, 0, 1], [2, 3, -4]], dtype)
    check_ml("Binarizer", [x], {"threshold": 0.5})
    check_ml("Binarizer", [x], {})


def test_binarizer_of_nan_and_scalars():
    nan = np.array([np.nan, np.inf, -np.inf], np.float32)
    check_ml("Binarizer", [nan], {}, oracle=lambda _: np.array([0, 1, 0], np.float32))
    check_ml("Binarizer", [np.array(2, np.int64)], {}, oracle=lambda _: np.array(1))


SCALES = [
    ([2.0], [1.0]),
    ([2.0, 3.0, 0.5], [1.0, 0.0, -1.0]),
]


@pytest.mark.parametrize(("scale", "offset"), SCALES)
@pytest.mark.parametrize("x", [X, X[0], X.astype(np.float64), (4 * X).astype(np.int32)], ids=str)
def test_scaler(x, scale, offset):
    check_ort("Scaler", [x], {"scale": scale, "offset": offset})


def test_scaler_of_one_length_and_another_or_none():
    check_ml(
        "Scaler",
        [X],
        {"scale": [1.0, 2, 4], "offset": [1.0]},
        oracle=lambda x: (x - 1) * np.float32([1, 2, 4]),
    )
    check_ml("Scaler", [X.astype(np.float64)], {}, oracle=lambda x: x.astype(np.float32))
    check_ml("Scaler", [X[:0]], {"scale": [2.0]}, oracle=lambda x: x)


IMPUTED = [
    (X, {"imputed_value_floats": [9.0], "replaced_value_float": -1.0}),
    (X, {"imputed_value_floats": [7.0, 8, 9]}),
    (X[0], {"imputed_value_floats": [7.0, 8, 9], "replaced_value_float": 0.5}),
    (np.array([[np.nan, 1]], np.float32), {"imputed_value_floats": [5.0], "replaced_value_float": np.nan}),
    (X[None].repeat(2, 0), {"imputed_value_floats": [7.0, 8, 9], "replaced_value_float": -3.0}),
    (X.astype(np.int64), {"imputed_value_int64s": [7, 8, 9]}),
    (X.astype(np.int64), {"imputed_value_int64s": [7], "replaced_value_int64": -2}),
]


@pytest.mark.parametrize(("x", "attrs"), IMPUTED)
def test_imputer(x, attrs):
    check_ort("Imputer", [x], attrs)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_imputer_types(dtype):
    kind = {"imputed_value_floats": [9.0]} if dtype == np.float64 else {"imputed_value_int64s": [9]}
    expected = np.array([[9, 4], [-3, 9]], dtype)
    check_ml("Imputer", [np.array([[0, 4], [-3, 0]], dtype)], kind, oracle=lambda _: expected)


EXTRACTED = [
    (X, np.array([1, 0, 1])),
    (X[0], np.array([2])),
    (X, np.array(1)),
    (X, np.array([[1, 0], [0, 2]])),
    (X[None], np.array([2, 0])),
    (X.astype(np.int32), np.array([0])),
    (text(["a", "b"], ["c", "d"]), np.array([1, 1])),
]


@pytest.mark.parametrize(("x", "indices"), EXTRACTED)
def test_array_feature_extractor(x, indices):
    check_ort("ArrayFeatureExtractor", [x, indices], {})


@pytest.mark.parametrize("index", [-1, 3])
def test_array_feature_extractor_outside(index):
    model = load(one_node("ArrayFeatureExtractor", [X, np.array([0])], domain=DOMAIN))
    with pytest.raises(TilewiseError, match=rf"index {index} is outside \[0, 3\)"):
        model(X, np.array([index]))


JOINED = [
    ([X, X[:, :1]], [3, 1]),
    ([X, X[:, :2]], [1, 4]),
    ([X[0], X[1]], [3, 3]),
    ([X[None]], [9]),
    ([X.astype(np.int64)], [3]),
]


@pytest.mark.parametrize(("inputs", "lengths"), JOINED)
def test_feature_vectorizer(inputs, lengths):
    check_ort("FeatureVectorizer", inputs, {"inputdimensions": lengths})


def test_feature_vectorizer_without_lengths():
    inputs = [X.astype(np.float64), X[:, :1].astype(np.float64)]
    check_ml("FeatureVectorizer", inputs, {}, oracle=lambda *x: np.hstack(x).astype(np.float32))


ERRORS = [
    ("Normalizer", [X], {"norm": "L3"}, "'norm' = 'L3', expected one of MAX, L1, L2"),
    ("Normalizer", [X[None]], {}, "expected an input of shape (N, C) or (C,), got float32[1, 3, 3]"),
    ("Scaler", [X], {"scale": [1.0, 2.0]}, "'scale': expected 1 or 3 values for float32[3, 3], got 2"),
    ("Imputer", [X], {}, "imputed_value_floats, imputed_value_int64s, got none"),
    (
        "Imputer",
        [X],
        {"imputed_value_int64s": [1]},
        "expected integers like the imputed values, got float32[3, 3]",
    ),
    ("Imputer", [X], {"imputed_value_floats": [1.0, 2.0]}, "expected 1 or 3 imputed values"),
    (
        "FeatureVectorizer",
        [X, X],
        {"inputdimensions": [3]},
        "'inputdimensions' = [3], expected a length for each",
    ),
    (
        "FeatureVectorizer",
        [X, X[:2]],
        {"inputdimensions": [3, 3]},
        "expected 3 rows in each input, got float32[2, 3]",
    ),
    ("ArrayFeatureExtractor", [X[0, 0].reshape(()), np.array([0])], {}, "rank 1 or more, got float32[]"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), ERRORS)
def test_errors(op, inputs, attrs, message):
    check_refused(op, inputs, attrs, message)
