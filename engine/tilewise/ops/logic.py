"""Comparisons and logic of two tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilewise.ops.elementwise import BOOL, NUMBERS, Binary, lower_walk

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering


class Truth(Binary):
    """A function of two tensors whose result is bool."""

    accepts = NUMBERS
    result = np.dtype(bool)


class Equal(Truth):
    """z = (x == y) (ONNX Equal, opset 19)."""

    accepts = NUMBERS | {"bool", "object"}
    kernel = "equal"

    def apply(self, x, y):
        return np.equal(x, y)


class Less(Truth):
    """z = (x < y) (ONNX Less, opset 13)."""

    kernel = "less"

    def apply(self, x, y):
        return np.less(x, y)


class LessOrEqual(Truth):
    """z = (x <= y) (ONNX LessOrEqual, opset 16)."""

    kernel = "less_or_equal"

    def apply(self, x, y):
        return np.less_equal(x, y)


class Swapped(Truth):
    """A comparison that is another one's kernel with the operands in the other order."""

    def lower(self, b: Lowering) -> bool:
        return lower_walk(b, f"{self.kernel}_{b.ins[0].dtype.name}", [1, 0])


class Greater(Swapped):
    """z = (x > y) (ONNX Greater, opset 13)."""

    kernel = "less"

    def apply(self, x, y):
        return np.greater(x, y)


class GreaterOrEqual(Swapped):
    """z = (x >= y) (ONNX GreaterOrEqual, opset 16)."""

    kernel = "less_or_equal"

    def apply(self, x, y):
        return np.greater_equal(x, y)


class And(Truth):
    """z = x and y (ONNX And, opset 7)."""

    accepts = BOOL
    kernel = "and"

    def apply(self, x, y):
        return np.logical_and(x, y)


class Or(Truth):
    """z = x or y (ONNX Or, opset 7)."""

    accepts = BOOL
    kernel = "or"

    def apply(self, x, y):
        return np.logical_or(x, y)


class Xor(Truth):
    """z = x xor y (ONNX Xor, opset 7)."""

    accepts = BOOL
    kernel = "xor"

    def apply(self, x, y):
        return np.logical_xor(x, y)
