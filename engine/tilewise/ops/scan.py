"""Running sums and products."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op, values
from tilewise.ops.columns import MAX_WIDTH, TASK_FLOATS, even_width
from tilewise.ops.lowering import Lowering, chunks
from tilewise.ops.reduce import wide


class CumSum(Op):
    """Running sums along an axis given as a scalar input (ONNX CumSum, opsets 11 and 14).

    exclusive: element i is the sum of those before it. reverse: sums run from the end.
    """

    attributes = frozenset({"exclusive", "reverse"})
    product: ClassVar[bool] = False

    def infer(self, ins: Inputs) -> list[Fact]:
        x, axis = ins
        if axis.known_shape and axis.shape not in ((), (1,)):
            raise self.fail(f"expected axis to be a scalar, got {axis}")
        known = values(axis)
        if x.shape is not None and known is not None:
            self.axis(known[0], len(x.shape))
        return [x.without_value()]

    def evaluate(self, x, axis):
        axis = self.axis(int(np.ravel(axis)[0]), x.ndim)
        accumulate = (np.multiply if self.product else np.add).accumulate
        turned = np.flip(x, axis) if self.attr("reverse", 0) else x
        y = accumulate(wide(turned), axis=axis, dtype=wide(turned).dtype).astype(x.dtype, copy=False)
        if self.attr("exclusive", 0):
            shifted = np.full_like(y, int(self.product))
            after, before = [slice(None)] * x.ndim, [slice(None)] * x.ndim
            after[axis], before[axis] = slice(1, None), slice(None, -1)
            shifted[tuple(after)] = y[tuple(before)]
            y = shifted
        return [np.flip(y, axis) if self.attr("reverse", 0) else y]

    def lower(self, b: Lowering) -> bool:
        axis = values(b.ins[1])
        if b.ins[0].dtype != "float32" or axis is None:
            return False
        shape = b.ins[0].shape
        at = self.axis(axis[0], len(shape))
        outer, rows, inner = math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])
        width = even_width(inner, MAX_WIDTH)
        items = outer * chunks(inner, width)
        grain = max(1, TASK_FLOATS // (rows * width))
        sizes = (outer, rows, inner, width, grain)
        flags = (self.attr("exclusive", 0), self.attr("reverse", 0), self.product)
        b.step("scan", chunks(items, grain), b.output(0), b.input(0), *sizes, *flags)
        return True


class CumProd(CumSum):
    """Running products, otherwise as `CumSum` (ONNX CumProd, opset 26)."""

    product = True
