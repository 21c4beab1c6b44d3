"""The greatest or least elements along an axis."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op, values
from tilewise.ops.reduce import wide

SELECT_FACTOR = 4
"""Axes of more than this many times K elements are thinned out before they are sorted."""


class TopK(Op):
    """The K greatest (or least) elements along `axis` and their int64 indices (ONNX TopK, opsets 1 to 24).

    Of equal elements the one of lower index comes first; NaN counts as greater than every number. Results are
    sorted whether `sorted` asks for it or not. K is an attribute before opset 10, then a one-element input.
    """

    attributes = frozenset({"axis", "k", "largest", "sorted"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, shape = ins[0], ins[0].shape
        k = self._constant_k(ins)
        if shape is not None:
            axis = self.axis(self.attr("axis", -1), len(shape))
            if k is not None and isinstance(shape[axis], int):
                self._check(k, shape[axis])
            shape = (*shape[:axis], k, *shape[axis + 1 :])
        return [Fact(x.dtype, shape), Fact(np.dtype(np.int64), shape)]

    def evaluate(self, x, k=None):
        k = self.attr("k") if k is None else int(np.ravel(k)[0])
        axis = self.axis(self.attr("axis", -1), x.ndim)
        self._check(k, x.shape[axis])
        rows = np.moveaxis(x, axis, -1)
        index = order(wide(rows), k, bool(self.attr("largest", 1)))
        y = np.take_along_axis(rows, index, axis=-1)
        return [np.moveaxis(y, -1, axis), np.moveaxis(index, -1, axis)]

    def _constant_k(self, ins: Inputs) -> int | None:
        if self.version < 10:
            k = self.attr("k")
            if k is None:
                raise self.fail("expected an attribute k, got none")
            return k
        if ins[1].known_shape and ins[1].size != 1:
            raise self.fail(f"expected K to hold one element, got {ins[1]}")
        known = values(ins[1])
        return None if known is None else known[0]

    def _check(self, k: int, size: int) -> None:
        if not 0 <= k <= size:
            raise self.fail(f"expected K in [0, {size}], the size of the axis, got {k}")


def order(x: np.ndarray, k: int, largest: bool) -> np.ndarray:
    """Indices (int64) of the k greatest or least elements along the last axis, in order, ties by index."""
    if k * SELECT_FACTOR < x.shape[-1] and not (x.dtype.kind == "f" and np.isnan(x).any()):
        chosen = select(x, k, largest)
        best = np.take_along_axis(x, chosen, axis=-1)
        return np.take_along_axis(chosen, _sorted(best, largest), axis=-1)
    return _sorted(x, largest)[..., :k]


def select(x: np.ndarray, k: int, largest: bool) -> np.ndarray:
    """Ascending indices of the k greatest or least elements along the last axis; of equals the first."""
    n = x.shape[-1]
    if k == 0:
        return np.empty((*x.shape[:-1], 0), np.int64)
    at = n - k if largest else k - 1
    bound = np.partition(x, at, axis=-1)[..., at : at + 1]
    inside = x > bound if largest else x < bound
    equal = x == bound
    room = k - np.count_nonzero(inside, axis=-1, keepdims=True)
    inside |= equal & (np.cumsum(equal, axis=-1) <= room)
    return np.nonzero(inside)[-1].reshape(*x.shape[:-1], k)


def _sorted(x: np.ndarray, largest: bool) -> np.ndarray:
    """A stable order of the last axis; stable in descending order too, by sorting the reversed axis."""
    if not largest:
        return np.argsort(x, axis=-1, kind="stable").astype(np.int64, copy=False)
    reverse = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return (x.shape[-1] - 1 - reverse).astype(np.int64, copy=False)
