"""Where and Clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import (
    BOOL,
    NUMBERS,
    ElementWise,
    allow_inplace,
    emit_walk,
    lower_map,
    lower_walk,
    scalar_value,
    wide,
)

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering


class Where(ElementWise):
    """z = x where the condition holds, else y, of any type, broadcast (ONNX Where, opset 16)."""

    accepts = NUMBERS | BOOL | {"object", "complex64", "complex128"}

    def infer(self, ins: Inputs) -> list[Fact]:
        condition = self.operand(ins, 0, BOOL)
        x, y = self.operand(ins, 1), self.operand(ins, 2)
        return [Fact(self.common_dtype([x, y]), self.broadcast(condition.shape, x.shape, y.shape))]

    def evaluate(self, condition, x, y):
        return [np.where(condition, x, y)]

    def lower(self, b: Lowering) -> bool:
        return lower_walk(b, f"where_{b.outs[0].dtype.itemsize}", [0, 1, 2])


class Clip(ElementWise):
    """y = min(max(x, low), high) (ONNX Clip, opset 13).

    The bounds are the attributes `min` and `max` until opset 10, then inputs of one element; either may be
    left out.
    """

    attributes = frozenset({"max", "min"})
    accepts = NUMBERS

    def infer(self, ins: Inputs) -> list[Fact]:
        x = self.operand(ins, 0)
        bounds = [self._bound(ins, i) for i in (1, 2) if i < len(ins) and ins[i] is not None]
        return [Fact(self.common_dtype([x, *bounds]), x.shape)]

    def _bound(self, ins: Inputs, i: int) -> Fact:
        bound = self.operand(ins, i)
        if bound.shape is not None and any(isinstance(d, int) and d != 1 for d in bound.shape):
            raise self.fail(f"input {i}: expected a bound of one element, got {bound}")
        return bound

    def evaluate(self, x, low=None, high=None):
        if self.version < 11:
            low, high = (None if v is None else np.array(v, x.dtype) for v in self._attributes())
        y = wide(x)
        if low is not None:
            y = np.maximum(y, wide(low.reshape(())))
        if high is not None:
            y = np.minimum(y, wide(high.reshape(())))
        return [y.astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        low, high = self._limit(b, 1, -math.inf), self._limit(b, 2, math.inf)
        if math.isnan(low) or math.isnan(high):
            return self._lower_inputs(b)
        if low == -math.inf and high == math.inf:
            b.alias(0, 0)
            return True
        return b.is_dtype() and lower_map(b, "clip_float32", low, high)

    def _attributes(self) -> tuple[float | None, float | None]:
        low, high = self.attr("min"), self.attr("max")
        return None if low is None else float(low), None if high is None else float(high)

    def _limit(self, b: Lowering, i: int, absent: float) -> float:
        """The lower (1) or upper (2) bound: `absent` where left out, NaN where not known."""
        if self.version < 11:
            bound = self._attributes()[i - 1]
            return absent if bound is None else bound
        if i >= len(b.ins) or b.ins[i] is None:
            return absent
        value = scalar_value(b.value(i))
        return math.nan if value is None else value

    def _lower_inputs(self, b: Lowering) -> bool:
        """Bounds that are known only at run time: a maximum, then a minimum."""
        x, shape, dtype = b.input(0), b.outs[0].shape, b.outs[0].dtype.name
        for i, kernel in ((1, "max"), (2, "min")):
            if i >= len(b.ins) or b.ins[i] is None:
                continue
            if not emit_walk(b, f"{kernel}_{dtype}", [x, b.input(i)], [shape, b.ins[i].shape], shape):
                return False
            if len(b.steps) == 1:
                allow_inplace(b, [0, i])
            x = b.output(0)
        return bool(b.steps)
