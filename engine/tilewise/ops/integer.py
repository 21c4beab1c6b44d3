"""Products and convolutions of quantized numbers, exact, in NumPy.

Sums of products of bytes are whole numbers, which floats hold exactly: float32 where no sum can reach 2**24,
float64 otherwise. So they are left to float products, which are fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Shape, known
from tilewise.ops.base import Array, Inputs
from tilewise.ops.conv import Conv, convolve
from tilewise.ops.elementwise import FLOAT8, FLOATS, ElementWise
from tilewise.ops.linalg import MatMul
from tilewise.ops.quantize import stored
from tilewise.ops.windows import read_windows

BYTES = frozenset({"int8", "uint8"})
SCALES = FLOATS - {"float64"}
EXACT = 1 << 24
"""Up to here float32 holds all whole numbers."""
LEFT, RIGHT = 0, 1


class Product(ElementWise):
    """What products of quantized operands share; an operand is LEFT or RIGHT."""

    accepts = BYTES

    def result(self, x: Fact, w: Fact, bias: Fact | None) -> Shape | None:
        """Shape of the result; an error where the operands do not fit."""
        raise NotImplementedError(type(self).__name__)

    def multiply(self, x: Array, w: Array) -> Array:
        """The result for operands of one float dtype."""
        raise NotImplementedError(type(self).__name__)

    def depth(self, w: Shape) -> int:
        """How many products make one element of the result."""
        raise NotImplementedError(type(self).__name__)

    def place(self, shape: Shape, side: int, of: Shape) -> Shape | None:
        """The shape in which a scale or zero point of that `shape` broadcasts against its operand; None where
        it does not fit."""
        raise NotImplementedError(type(self).__name__)

    def against_result(self, placed: Array) -> Array:
        """A scale as `place` shaped it, so that it broadcasts against the result."""
        return placed

    def parameter(self, ins: Inputs, i: int, accepts: frozenset[str], side: int, of: Fact) -> Fact:
        """Fact of a scale or zero point of the operand `of`, checked."""
        fact = self.operand(ins, i, accepts)
        if fact.known_shape and of.known_shape:
            self.placed_shape(fact.shape, side, of.shape)
        return fact

    def zero_point(self, ins: Inputs, i: int, side: int, of: Fact) -> None:
        """Check an optional zero point of the operand `of`."""
        if i < len(ins) and ins[i] is not None:
            self.parameter(ins, i, self.accepts, side, of)

    def placed_shape(self, shape: Shape, side: int, of: Shape) -> Shape:
        """`place`, with an error where the parameter does not fit; one element is good for the whole operand."""
        placed = () if int(np.prod(shape)) == 1 else self.place(shape, side, of)
        if placed is None:
            side_name = ("left", "right")[side]
            raise self.fail(
                f"expected a scale or zero point that fits the {side_name} operand {of}, got {shape}"
            )
        return placed

    def shifted(self, x: Array, zero: Array | None, side: int) -> Array:
        """x - zero point, exact: int16 for bytes, float32 for float8."""
        wide: Any = np.int16 if x.dtype.name in BYTES else np.float32
        if zero is None:
            return x.astype(wide)
        placed = zero.astype(wide).reshape(self.placed_shape(zero.shape, side, x.shape))
        return np.subtract(x.astype(wide), placed)

    def accumulate(self, x: Array, w: Array) -> Array:
        """The product of what `shifted` returns: int32, which alone may overflow, or else float64."""
        if x.dtype.kind != "i" or w.dtype.kind != "i":
            return self.multiply(x.astype(np.float64), w.astype(np.float64))
        bound = _magnitude(x) * _magnitude(w) * self.depth(w.shape)
        wide = np.float32 if bound < EXACT else np.float64
        return np.asarray(self.multiply(x.astype(wide), w.astype(wide))).astype(np.int64).astype(np.int32)


def _magnitude(x: Array) -> int:
    return max(int(x.max(initial=0)), -int(x.min(initial=0)))


class Matrices(Product):
    """Products by the rules of MatMul; parameters are per tensor, per row on the left, per column on the right."""

    def result(self, x: Fact, w: Fact, bias: Fact | None) -> Shape | None:
        (fact,) = MatMul(self.node).infer([Fact(None, x.shape), Fact(None, w.shape)])
        return fact.shape

    def multiply(self, x: Array, w: Array) -> Array:
        return np.matmul(x, w)

    def depth(self, w: Shape) -> int:
        return int(w[-2] if len(w) > 1 else w[-1])

    def place(self, shape: Shape, side: int, of: Shape) -> Shape | None:
        if len(of) < 2 or len(shape) > len(of):
            return None
        if len(shape) == 1:
            shape = (*shape, 1) if side == LEFT else (1, *shape)
        rows = (*of[:-1], 1) if side == LEFT else (*of[:-2], 1, of[-1])
        fits = all(d in (1, r) for d, r in zip(shape[::-1], rows[::-1], strict=False))
        return shape if fits else None


class Convolution(Product):
    """Products by the rules of Conv; parameters are per tensor, on the right also per output channel."""

    attributes = Conv.attributes

    def result(self, x: Fact, w: Fact, bias: Fact | None) -> Shape | None:
        (fact,) = Conv(self.node).infer([Fact(None, x.shape), Fact(None, w.shape), bias])
        return fact.shape

    def multiply(self, x: Array, w: Array) -> Array:
        return convolve(x, w, read_windows(self, x.shape[2:], w.shape[2:]), int(self.attr("group", 1)))

    def depth(self, w: Shape) -> int:
        return int(np.prod(w[1:]))

    def place(self, shape: Shape, side: int, of: Shape) -> Shape | None:
        return (*shape, *[1] * (len(of) - 1)) if side == RIGHT and shape == of[:1] else None

    def against_result(self, placed: Array) -> Array:
        return placed[..., 0] if placed.ndim else placed


class ToInt32(Product):
    """y = (x - x_zero) (w - w_zero) in int32; inputs x, w and, optionally, their zero points."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w = self.operand(ins, 0), self.operand(ins, 1)
        self.zero_point(ins, 2, LEFT, x)
        self.zero_point(ins, 3, RIGHT, w)
        return [Fact(np.dtype(np.int32), self.result(x, w, None))]

    def evaluate(self, x, w, x_zero=None, w_zero=None):
        return [self.accumulate(self.shifted(x, x_zero, LEFT), self.shifted(w, w_zero, RIGHT))]


class Requantized(Product):
    """y = saturate(round((x - x_zero) (w - w_zero) x_scale w_scale / y_scale) + y_zero), ties to even.

    Inputs: each of x, w and y is a triple with its scale and zero point, y's without y, then an optional int32
    bias. The sums are exact; their scale and its product with them are made in float32, and y is of y_zero's type.
    """

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w = self.operand(ins, 0), self.operand(ins, 3)
        for side, first, of in ((LEFT, 0, x), (RIGHT, 3, w)):
            self.parameter(ins, first + 1, SCALES, side, of)
            self.zero_point(ins, first + 2, side, of)
        scale, zero = self.operand(ins, 6, SCALES), self.operand(ins, 7)
        bias = self.operand(ins, 8, frozenset({"int32"})) if len(ins) > 8 and ins[8] is not None else None
        shape = self.result(x, w, bias)
        for fact in (scale, zero):
            if fact.known_shape and shape is not None and known(shape):
                self.check_of_result(fact, shape)
        return [Fact(zero.dtype, shape)]

    def check_of_result(self, fact: Fact, y: Shape) -> None:
        """An error where a parameter of y, of known shape, does not fit."""
        if fact.size != 1 and self.broadcast(fact.shape, y) != y:
            raise self.fail(f"expected a scale and zero point that broadcast to y {y}, got {fact}")

    def evaluate(self, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias=None):
        sums = self.accumulate(self.shifted(x, x_zero, LEFT), self.shifted(w, w_zero, RIGHT))
        if bias is not None:
            sums = sums + bias.reshape(-1, *[1] * (x.ndim - 2))
        scale = (
            self.scale(x_scale, LEFT, x)
            * self.scale(w_scale, RIGHT, w)
            / self.single(y_scale.astype(np.float32))
        )
        return [stored(sums.astype(np.float32) * scale, self.single(y_zero), y_zero.dtype)]

    def scale(self, values: Array, side: int, of: Array) -> Array:
        """A scale in float32 that broadcasts against the result."""
        placed = values.astype(np.float32).reshape(self.placed_shape(values.shape, side, of.shape))
        return self.against_result(placed)

    @staticmethod
    def single(values: Array) -> Array:
        """A parameter of y: of no rank where it has one element."""
        return values.reshape(()) if values.size == 1 else values


class MatMulInteger(Matrices, ToInt32):
    """(a - a_zero_point) @ (b - b_zero_point) in int32 (ONNX MatMulInteger, opset 10)."""


class ConvInteger(Convolution, ToInt32):
    """Convolution of (x - x_zero_point) by (w - w_zero_point) in int32 (ONNX ConvInteger, opset 10).

    x (N, C, *S), w (oC, C / group, *K); x is padded with its zero point.
    """


class QLinearMatMul(Matrices, Requantized):
    """Matrix product of quantized a and b, quantized (ONNX QLinearMatMul, opset 10, 21; float8 since 21)."""

    accepts = BYTES | FLOAT8


class QLinearConv(Convolution, Requantized):
    """Convolution of quantized x by w, quantized (ONNX QLinearConv, opset 10); x is padded with its zero point."""
