"""Softmax, its relatives, and the losses made of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

NAN, INF = np.nan, np.inf
FAMILY = ["Softmax", "LogSoftmax", "Hardmax"]


def floats(*shape, dtype=np.float32, seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def along(op, axis, flatten=False):
    """An oracle in float64. flatten: the sum runs over all axes from `axis` on."""

    def run(x):
        wide = x.astype(np.float64)
        if flatten:
            wide = wide.reshape(*x.shape[: axis % x.ndim], -1)
        at = -1 if flatten else axis
        if op == "Hardmax":
            y = np.zeros_like(wide)
            np.put_along_axis(y, np.argmax(wide, axis=at, keepdims=True), 1, axis=at)
        else:
            e = np.exp(wide - wide.max(axis=at, keepdims=True))
            y = e / e.sum(axis=at, keepdims=True)
            y = np.log(y) if op == "LogSoftmax" else y
        return y.reshape(x.shape).astype(x.dtype)

    return run


SHAPES = [
    ((1,), 0),
    ((5,), -1),
    ((1, 1, 3), 1),
    ((3, 4), 0),
    ((3, 4, 5), 0),
    ((3, 4, 5), 1),
    ((3, 4, 5), -1),
    ((700, 2), 1),
    ((3, 1000), 1),
    ((5, 197), 1),
    ((2, 90, 3), 1),
    ((2, 21, 17, 19), 1),
    ((1, 3, 1100), 1),
    ((1, 1100, 70), 1),
    ((2, 3, 4, 5, 6), 2),
]


@pytest.mark.parametrize("op", FAMILY)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_axis(op, shape, axis):
    check(op, [floats(*shape)], {"axis": axis}, oracle=along(op, axis), kernel=True)


@pytest.mark.parametrize("op", FAMILY)
@pytest.mark.parametrize("opset", [7, 11, 12])
@pytest.mark.parametrize(("shape", "axis"), [((3, 4, 5), 0), ((3, 4, 5), 1), ((3, 4, 5), -1), ((6, 200), 1)])
def test_flattened_before_opset_13(op, opset, shape, axis):
    check(op, [floats(*shape)], {"axis": axis}, opset=opset, oracle=along(op, axis, True), kernel=True)


@pytest.mark.parametrize("op", FAMILY)
def test_default_axis(op):
    x = floats(2, 3, 4)
    check(op, [x], opset=9, oracle=along(op, 1, True), kernel=True)
    check(op, [x], opset=13, oracle=along(op, -1), kernel=True)


@pytest.mark.parametrize("op", FAMILY)
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float64, 1e-12), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)]
)
def test_dtypes(op, dtype, rtol):
    x = floats(3, 20, 4, dtype=dtype)
    check(op, [x], {"axis": 1}, oracle=along(op, 1), rtol=rtol, atol=1e-7, kernel=False)


@pytest.mark.parametrize("op", FAMILY)
def test_nothing(op):
    check(op, [np.zeros((0, 3), np.float32)], {"axis": 1}, oracle=lambda x: x)
    check(op, [np.zeros((3, 0), np.float32)], {"axis": 1}, oracle=lambda x: x)


@pytest.mark.parametrize("across", [1, 3, 80])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_special_values(op, across):
    rows = np.array(
        [
            [1, -INF, 3, 0],
            [1e30, 0, -1e30, 1],
            [200, 100, -200, 0],
            [NAN, 1, 2, 3],
            [-1e-40, 1e-40, 0, 0],
            [88, 89, -100, -104],
        ],
        np.float32,
    )
    for length in (4, 100):
        x = np.full((len(rows), length, across), -50, np.float32)
        x[:, :4] = rows[:, :, None]
        with np.errstate(all="ignore"):
            want = along(op, 1)(x.astype(np.float64))
        if op == "LogSoftmax":
            shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
            want = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        want = want.astype(np.float32)
        check(op, [x], {"axis": 1}, oracle=lambda _, want=want: want, kernel=True)


def test_hardmax_marks_the_first_of_equals():
    x = np.array([[1, 3, 3, 0], [2, 2, 2, 2], [NAN, 1, 5, NAN]], np.float32)
    want = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], np.float32)
    check("Hardmax", [x], oracle=lambda _: want, kernel=True)


def test_as_onnxruntime():
    x = floats(2, 3, 4, 5)
    for op in FAMILY:
        for opset, axis in ((11, 1), (11, 2), (13, 1), (13, -1)):
            oracle = ort(op, {"axis": axis}, opset=opset)
            check(op, [x], {"axis": axis}, opset=opset, oracle=oracle, kernel=True)


def test_axis_out_of_range():
    for op in FAMILY:
        with pytest.raises(TilewiseError, match=r"axis 2 is outside \[-2, 2\)"):
            load(one_node(op, [floats(2, 3)], {"axis": 2}).SerializeToString()).run({"x0": floats(2, 3)})


def nll(x, target, weight=None, *, ignore=None, reduction="mean"):
    """The loss element by element, in float64."""
    losses, shares = np.zeros(target.shape), np.zeros(target.shape)
    for at in np.ndindex(target.shape):
        c = target[at]
        if c != ignore:
            shares[at] = 1 if weight is None else np.float64(weight[c])
            losses[at] = -np.float64(x[(at[0], c, *at[1:])]) * shares[at]
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / shares.sum()


def log_softmax(x):
    shifted = x.astype(np.float64) - x.astype(np.float64).max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


TARGET_SHAPES = [(4,), (1,), (2, 3), (2, 3, 4), (2, 2, 3, 4)]


def problem(shape, dtype=np.float32, index=np.int64, classes=5):
    rng = np.random.default_rng(3)
    x = floats(shape[0], classes, *shape[1:], dtype=dtype)
    target = rng.integers(0, classes, shape).astype(index)
    target.flat[-1] = 2
    target.flat[0] = 1
    return x, target, rng.uniform(0.5, 2, classes).astype(dtype)


@pytest.mark.parametrize("shape", TARGET_SHAPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignore", [None, 2, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(shape, reduction, ignore, weighted):
    x, target, weight = problem(shape)
    if ignore == -1 and target.size > 1:
        target.flat[-1] = -1
    attrs = {"reduction": reduction} | ({} if ignore is None else {"ignore_index": ignore})
    inputs = [x, target] + ([weight] if weighted else [])

    def negative_log_likelihood(x, target, weight=None):
        return nll(x, target, weight, ignore=ignore, reduction=reduction).astype(x.dtype)

    def cross_entropy(x, target, weight=None):
        scores = log_softmax(x)
        loss = nll(scores, target, weight, ignore=ignore, reduction=reduction)
        return [np.asarray(loss).astype(x.dtype), scores.astype(x.dtype)]

    check("NegativeLogLikelihoodLoss", inputs, attrs, oracle=negative_log_likelihood)
    check("SoftmaxCrossEntropyLoss", inputs, attrs, outputs=2, oracle=cross_entropy)
    check("SoftmaxCrossEntropyLoss", inputs, attrs, oracle=lambda *a: cross_entropy(*a)[0])


@pytest.mark.parametrize("opset", [12, 13, 22])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_loss_opsets(opset, index):
    x, target, weight = problem((3, 4), index=index)
    check("NegativeLogLikelihoodLoss", [x, target, weight], opset=opset)
    check("SoftmaxCrossEntropyLoss", [x, target, weight], opset=opset, outputs=2)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float64, 1e-12), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)]
)
def test_loss_dtypes(dtype, rtol):
    x, target, weight = problem((3, 4), dtype)
    want = lambda x, t, w: nll(log_softmax(x), t, w).astype(x.dtype)  # noqa: E731
    check("SoftmaxCrossEntropyLoss", [x, target, weight], oracle=want, rtol=rtol)
    want = lambda x, t, w: nll(x, t, w).astype(x.dtype)  # noqa: E731
    check("NegativeLogLikelihoodLoss", [x, target, weight], oracle=want, rtol=rtol)


def test_all_targets_ignored():
    x, target, _ = problem((3,))
    target[:] = 4
    attrs = {"ignore_index": 4}
    check("NegativeLogLikelihoodLoss", [x, target], attrs, oracle=lambda *_: np.float32(NAN))
    attrs["reduction"] = "none"
    check("NegativeLogLikelihoodLoss", [x, target], attrs, oracle=lambda *_: np.zeros(3, np.float32))


@pytest.mark.parametrize(
    ("x", "target", "weight", "attrs", "told"),
    [
        ((3, 5), [0, 1, 5], None, {}, r"expected targets in \[0, 5\), got 5"),
        ((3, 5), [0, -1, 1], None, {}, r"expected targets in \[0, 5\), got -1"),
        ((3, 5), [0, 1], None, {}, r"expected targets of shape \[3\], got int64\[2\]"),
        ((3, 5, 2), [0, 1, 2], None, {}, r"expected targets of shape \[3, 2\]"),
        ((3,), [0, 1, 2], None, {}, "expected scores of rank 2 or more"),
        ((3, 5), [0, 1, 2], 4, {}, r"expected weights of shape \[5\], got float32\[4\]"),
        ((3, 5), [0, 1, 2], None, {"reduction": "max"}, "expected reduction to be one of none, sum, mean"),
    ],
)
def test_loss_errors(x, target, weight, attrs, told):
    inputs = [floats(*x), np.array(target)] + ([] if weight is None else [np.ones(weight, np.float32)])
    feeds = {f"x{i}": a for i, a in enumerate(inputs)}
    for op in ("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"):
        with pytest.raises(TilewiseError, match=told):
            load(one_node(op, inputs, attrs).SerializeToString()).run(feeds)
