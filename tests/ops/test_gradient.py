"""Internal operators of gradients against naive loops."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise
from tests.ops.harness import one_node
from tilewise import UnsupportedError
from tilewise.graph import Fact, Node
from tilewise.ops.table import make


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    ("shape", "like"),
    [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((2, 3), (1, 3)),
        ((2, 3), (2, 1)),
        ((4, 2, 3), (2, 1)),
        ((2,), ()),
        ((1, 1), (1,)),
        ((0, 3), (3,)),
    ],
)
def test_sum_to(shape: tuple[int, ...], like: tuple[int, ...], dtype: type) -> None:
    op = make(Node("SumTo", ["x", "like"], ["y"], domain="tilewise"))
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    (y,) = op.evaluate(x, np.empty(like, dtype))
    assert op.infer([Fact.of(x), Fact(np.dtype(dtype), like)])[0].shape == like == y.shape
    expected = np.zeros(like, dtype)
    for at in np.ndindex(shape):
        inner = at[len(shape) - len(like) :]
        expected[tuple(0 if n == 1 else i for i, n in zip(inner, like, strict=True))] += x[at]
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


def test_internal_operators_are_not_onnx() -> None:
    proto = one_node("SumTo", [np.ones((2, 3), np.float32), np.ones(3, np.float32)])
    with pytest.raises(UnsupportedError, match="SumTo"):
        tilewise.load(proto)
