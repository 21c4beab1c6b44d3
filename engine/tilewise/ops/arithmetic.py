"""Element-wise arithmetic of two and of many tensors, bits included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import (
    FLOATS,
    GRAIN,
    INTS,
    NUMBERS,
    Binary,
    Variadic,
    emit_walk,
    lower_map,
    scalar_value,
)
from tilewise.ops.lowering import chunks

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering


class Add(Binary):
    """z = x + y; integers wrap (ONNX Add, opset 14)."""

    accepts = NUMBERS
    kernel = "add"

    def apply(self, x, y):
        return np.add(x, y)


class Sub(Binary):
    """z = x - y; integers wrap (ONNX Sub, opset 14)."""

    accepts = NUMBERS
    kernel = "sub"

    def apply(self, x, y):
        return np.subtract(x, y)


class Mul(Binary):
    """z = x y; integers wrap (ONNX Mul, opset 14)."""

    accepts = NUMBERS
    kernel = "mul"

    def apply(self, x, y):
        return np.multiply(x, y)


class Div(Binary):
    """z = x / y, rounded toward zero for integers (ONNX Div, opset 14); an integer over zero gives zero."""

    accepts = NUMBERS
    kernel = "div"

    def apply(self, x, y):
        if x.dtype.kind == "f":
            return np.divide(x, y)
        quotient = np.floor_divide(x, y)
        if x.dtype.kind == "u":
            return quotient
        inexact = (np.remainder(x, y) != 0) & ((x < 0) != (y < 0))
        return quotient + inexact.astype(x.dtype)


class Mod(Binary):
    """The remainder: of the divisor's sign, or with `fmod` of the dividend's (ONNX Mod, opset 28)."""

    attributes = frozenset({"fmod"})
    accepts = NUMBERS

    def apply(self, x, y):
        return np.fmod(x, y) if self.attr("fmod", 0) else np.mod(x, y)

    def lower(self, b: Lowering) -> bool:
        return False


_POWERS = {-1.0: "reciprocal", 0.5: "sqrt", 2.0: "square", 3.0: "cube"}


class Pow(Binary):
    """z = x to the power y, of x's dtype; y may be of another one from opset 12 on (ONNX Pow, opset 15)."""

    accepts = NUMBERS
    kernel = "pow"

    def infer(self, ins: Inputs) -> list[Fact]:
        x, y = self.operand(ins, 0), self.operand(ins, 1)
        return [Fact(x.dtype, self.broadcast(x.shape, y.shape))]

    def apply(self, x, y):
        if x.dtype.kind in "iu" and y.dtype.kind == "i" and (y < 0).any():
            return np.power(x.astype(np.float64), y)
        return np.power(x, y)

    def lower(self, b: Lowering) -> bool:
        if b.ins[0].dtype != "float32":
            return False
        exponent = scalar_value(b.value(1))
        if exponent in (1.0, *_POWERS) and b.ins[0].shape == b.outs[0].shape:
            if exponent == 1.0:
                b.alias(0, 0)
                return True
            return lower_map(b, f"{_POWERS[exponent]}_float32")
        if b.ins[1].dtype != "float32" and b.value(1) is not None:
            y = b.packed(1, "float32", lambda: b.value(1).astype(np.float32))
            shapes = [b.ins[0].shape, b.ins[1].shape]
            return emit_walk(b, "pow_float32", [b.input(0), y], shapes, b.outs[0].shape)
        return b.is_dtype() and super().lower(b)


class BitShift(Binary):
    """Bits moved left or right; signed right shifts keep the sign (ONNX BitShift, opset 28).

    Shifts outside [0, bits) leave what the sign fills in.
    """

    attributes = frozenset({"direction"})
    accepts = INTS

    def unsupported(self) -> str | None:
        if self.direction in ("LEFT", "RIGHT"):
            return None
        return f"attribute direction: expected 'LEFT' or 'RIGHT', got {self.direction!r}"

    @property
    def direction(self) -> str:
        value = self.attr("direction", "")
        return value.decode() if isinstance(value, bytes) else str(value)

    def apply(self, x, y):
        bits = 8 * x.dtype.itemsize
        outside = (y < 0) | (y >= bits)
        count = np.where(outside, 0, y).astype(x.dtype)
        if self.direction == "LEFT":
            return np.where(outside, 0, np.left_shift(x, count))
        return np.where(outside, np.where(x < 0, -1, 0).astype(x.dtype), np.right_shift(x, count))

    def lower(self, b: Lowering) -> bool:
        return False


class Bitwise(Binary):
    """Bit by bit."""

    accepts = INTS

    def lower(self, b: Lowering) -> bool:
        return False


class BitwiseAnd(Bitwise):
    """z = x & y (ONNX BitwiseAnd, opset 18)."""

    def apply(self, x, y):
        return np.bitwise_and(x, y)


class BitwiseOr(Bitwise):
    """z = x | y (ONNX BitwiseOr, opset 18)."""

    def apply(self, x, y):
        return np.bitwise_or(x, y)


class BitwiseXor(Bitwise):
    """z = x ^ y (ONNX BitwiseXor, opset 18)."""

    def apply(self, x, y):
        return np.bitwise_xor(x, y)


class Max(Variadic):
    """The largest operand; NaN where any is (ONNX Max, opset 13)."""

    accepts = NUMBERS
    kernel = "max"

    def apply(self, x, y):
        return np.maximum(x, y)


class Min(Variadic):
    """The smallest operand; NaN where any is (ONNX Min, opset 13)."""

    accepts = NUMBERS
    kernel = "min"

    def apply(self, x, y):
        return np.minimum(x, y)


class Sum(Variadic):
    """The sum of the operands (ONNX Sum, opset 13)."""

    accepts = FLOATS
    kernel = "add"

    def apply(self, x, y):
        return np.add(x, y)


class Mean(Sum):
    """The mean of the operands (ONNX Mean, opset 13)."""

    def finish(self, y, count):
        return y / count

    def lower_chain(self, b: Lowering, kernel: str) -> bool:
        if b.ins[0].dtype != "float32" or not super().lower_chain(b, kernel):
            return False
        out, size, count = b.output(0), b.outs[0].size, float(len(b.ins))
        b.step("divide_by_float32", chunks(size, GRAIN), out, out, size, GRAIN, count, 0.0)
        return True
