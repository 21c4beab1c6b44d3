"""TfIdfVectorizer, against naive counting and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise import TilewiseError, load


def attrs_of(pool, starts, *, low=1, high=2, skip=0, mode="TF", indexes=None, weights=None):
    kind = "pool_strings" if isinstance(pool[0], str) else "pool_int64s"
    sizes = np.diff([*starts, len(pool)])
    count = sum(int(size) // n for n, size in enumerate(sizes, 1))
    found = {
        "min_gram_length": low,
        "max_gram_length": high,
        "max_skip_count": skip,
        "mode": mode,
        "ngram_counts": starts,
        "ngram_indexes": list(range(count)) if indexes is None else indexes,
        kind: pool,
    }
    return found if weights is None else {**found, "weights": weights}


def naive(attrs):
    """Counts by the definition: every start, length and distance."""
    pool = attrs.get("pool_int64s") or attrs.get("pool_strings")
    grams, width = [], max(attrs["ngram_indexes"]) + 1
    starts = [*attrs["ngram_counts"], len(pool)]
    for n in range(1, len(starts)):
        grams += [tuple(pool[i : i + n]) for i in range(starts[n - 1], starts[n], n)]
    lengths = range(attrs["min_gram_length"], attrs["max_gram_length"] + 1)
    column = dict(zip(grams, attrs["ngram_indexes"], strict=False))

    def run(x):
        rows = x.reshape(-1, x.shape[-1]) if x.ndim == 2 else x.reshape(1, -1)
        y = np.zeros((len(rows), width), np.float32)
        for r, row in enumerate(rows.tolist()):
            for n in lengths:
                for distance in range(1, 2 + attrs["max_skip_count"] if n > 1 else 2):
                    for start in range(len(row) - distance * (n - 1)):
                        gram = tuple(row[start + distance * k] for k in range(n))
                        if gram in column:
                            y[r, column[gram]] += 1
        if attrs["mode"] == "IDF":
            y = np.minimum(y, 1)
        if attrs["mode"] != "TF" and "weights" in attrs:
            y *= np.array(attrs["weights"], np.float32)[:width]
        return y.reshape(*x.shape[:-1], width)

    return run


INTS = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]
TEXTS = ["two", "three", "five", "four", "five", "six", "seven", "eight", "six", "seven"]
TRIGRAMS = [1, 2, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2, 1]
POOLS = [
    attrs_of(INTS, [0, 4]),
    attrs_of(INTS, [0, 4], low=2),
    attrs_of(INTS, [0, 4], high=1, skip=3),
    attrs_of(INTS, [0, 4], skip=5),
    attrs_of(INTS, [0, 4], skip=1, high=4),
    attrs_of(INTS, [0, 0]),
    attrs_of(INTS, [0]),
    attrs_of(INTS, [0, 4], indexes=[6, 5, 4, 3, 2, 1, 0]),
    attrs_of(INTS, [0, 4], indexes=[0, 0, 2, 9, 2, 5, 0]),
    attrs_of(TRIGRAMS, [0, 2, 8], high=3, skip=2),
    attrs_of(TRIGRAMS, [0, 2, 8], low=3, high=3, skip=1),
    attrs_of(INTS, [0, 4], mode="IDF", skip=5),
    attrs_of(INTS, [0, 4], mode="IDF", weights=[0.5, 2, 3, 4, 5, 6, 7], skip=5),
    attrs_of(INTS, [0, 4], mode="TFIDF", weights=[0.5, 2, 3, 4, 5, 6, 7], skip=5),
    attrs_of(INTS, [0, 4], mode="TFIDF"),
]
INPUTS = [
    np.array([1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]),
    np.array([[1, 2, 1, 1, 1, 2], [2, 1, 1, 5, 6, 5]], np.int32),
    np.array([7]),
    np.array([[99, -1, 5]]),
]


@pytest.mark.parametrize("x", INPUTS, ids=str)
@pytest.mark.parametrize("attrs", POOLS)
def test_integers(attrs, x):
    check("TfIdfVectorizer", [x], attrs, oracle=naive(attrs), kernel=False)


@pytest.mark.parametrize("attrs", [POOLS[0], POOLS[3], POOLS[9], POOLS[13]])
def test_integers_as_in_onnxruntime(attrs):
    x = np.random.default_rng(3).integers(0, 9, (4, 40))
    check("TfIdfVectorizer", [x], attrs, oracle=ort("TfIdfVectorizer", attrs))


@pytest.mark.parametrize(
    "x", [["five", "six", "x"], [["two", "three", "four"], ["seven", "eight", "three"]]], ids=str
)
@pytest.mark.parametrize("skip", [0, 2])
def test_strings(x, skip):
    attrs = attrs_of(TEXTS, [0, 4], skip=skip)
    check("TfIdfVectorizer", [np.array(x, object)], attrs, oracle=naive(attrs))


@pytest.mark.parametrize(("x", "shape"), [(np.array(3), (7,)), (np.zeros((0, 4), int), (0, 7))])
def test_scalars_and_empty_batches(x, shape):
    y = np.zeros(shape, np.float32)
    y[1 if x.ndim == 0 else slice(0)] = 1
    check("TfIdfVectorizer", [x], POOLS[0], oracle=lambda _: y)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_empty_rows(shape):
    y = np.zeros((*shape[:-1], 7), np.float32)
    check("TfIdfVectorizer", [np.zeros(shape, np.int64)], POOLS[0], oracle=lambda _: y)


ERRORS = [
    (INPUTS[0], {**POOLS[0], "mode": "tf"}, "'mode' = 'tf', expected one of TF, IDF, TFIDF"),
    (
        INPUTS[0],
        {**POOLS[0], "pool_strings": ["a"]},
        "one of the attributes 'pool_int64s' and 'pool_strings'",
    ),
    (INPUTS[0], {**POOLS[0], "min_gram_length": 3}, "min_gram_length <= max_gram_length, got 3 and 2"),
    (INPUTS[0], {**POOLS[0], "max_skip_count": -1}, "'max_skip_count' = -1, expected 0 or more"),
    (INPUTS[0], {**POOLS[0], "ngram_counts": [0, 3]}, "does not divide a pool of 10"),
    (INPUTS[0], {**POOLS[0], "ngram_counts": [0, 40]}, "ascending positions in a pool of 10"),
    (INPUTS[0], {**POOLS[0], "ngram_indexes": [0, 1]}, "'ngram_indexes': expected 7 columns, got [0, 1]"),
    (INPUTS[0], {**POOLS[0], "weights": [1.0]}, "'weights': expected 7, got 1"),
    (np.array(["a"], object), POOLS[0], "expected integers as in the pool, got object[1]"),
    (
        np.zeros((1, 2, 3), np.int64),
        POOLS[0],
        "expected an input of shape (C,) or (N, C), got int64[1, 2, 3]",
    ),
]


@pytest.mark.parametrize(("x", "attrs", "message"), ERRORS)
def test_errors(x, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node("TfIdfVectorizer", [x], attrs))
    assert message in str(raised.value)
