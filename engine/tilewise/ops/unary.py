"""Element-wise functions of one tensor: rounding, powers, exponentials, trigonometry, tests."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import (
    BOOL,
    FLOAT8,
    FLOATS,
    INTS,
    NUMBERS,
    SIGNED,
    Unary,
    wide,
)
from tilewise.ops.special import erf


class Abs(Unary):
    """y = |x| (ONNX Abs, opset 13)."""

    accepts = NUMBERS
    kernel = "abs"

    def apply(self, x):
        return np.abs(x)


class Neg(Unary):
    """y = -x (ONNX Neg, opset 13)."""

    accepts = FLOATS | SIGNED
    kernel = "neg"

    def apply(self, x):
        return np.negative(x)


class Sign(Unary):
    """y = 1, 0 or -1 as x is above, at or below zero (ONNX Sign, opset 13)."""

    accepts = NUMBERS
    kernel = "sign"

    def apply(self, x):
        return np.sign(x)


class Ceil(Unary):
    """The smallest whole number not below x (ONNX Ceil, opset 13)."""

    kernel = "ceil"

    def apply(self, x):
        return np.ceil(x)


class Floor(Unary):
    """The largest whole number not above x (ONNX Floor, opset 13)."""

    kernel = "floor"

    def apply(self, x):
        return np.floor(x)


class Round(Unary):
    """The nearest whole number, ties to even (ONNX Round, opset 22)."""

    kernel = "round"

    def apply(self, x):
        return np.rint(x)


class Sqrt(Unary):
    """y = sqrt(x), NaN below zero (ONNX Sqrt, opset 13)."""

    kernel = "sqrt"

    def apply(self, x):
        return np.sqrt(x)


class Reciprocal(Unary):
    """y = 1 / x (ONNX Reciprocal, opset 13)."""

    kernel = "reciprocal"

    def apply(self, x):
        return np.reciprocal(x)


class Exp(Unary):
    """y = e^x (ONNX Exp, opset 13)."""

    kernel = "exp"

    def apply(self, x):
        return np.exp(x)


class Log(Unary):
    """The natural logarithm (ONNX Log, opset 13)."""

    kernel = "log"

    def apply(self, x):
        return np.log(x)


class Erf(Unary):
    """The error function (ONNX Erf, opset 13; integers until opset 12)."""

    accepts = NUMBERS
    kernel = "erf"

    def apply(self, x):
        return erf(x)


class Sin(Unary):
    """Sine of radians (ONNX Sin, opset 22)."""

    kernel = "sin"

    def apply(self, x):
        return np.sin(x)


class Cos(Unary):
    """Cosine of radians (ONNX Cos, opset 22)."""

    kernel = "cos"

    def apply(self, x):
        return np.cos(x)


class Tan(Unary):
    """Tangent of radians (ONNX Tan, opset 22)."""

    kernel = "tan"

    def apply(self, x):
        return np.tan(x)


class Asin(Unary):
    """Inverse sine, in radians (ONNX Asin, opset 22)."""

    kernel = "asin"

    def apply(self, x):
        return np.arcsin(x)


class Acos(Unary):
    """Inverse cosine, in radians (ONNX Acos, opset 22)."""

    kernel = "acos"

    def apply(self, x):
        return np.arccos(x)


class Atan(Unary):
    """Inverse tangent, in radians (ONNX Atan, opset 22)."""

    kernel = "atan"

    def apply(self, x):
        return np.arctan(x)


class Sinh(Unary):
    """Hyperbolic sine (ONNX Sinh, opset 22)."""

    kernel = "sinh"

    def apply(self, x):
        return np.sinh(x)


class Cosh(Unary):
    """Hyperbolic cosine (ONNX Cosh, opset 22)."""

    kernel = "cosh"

    def apply(self, x):
        return np.cosh(x)


class Asinh(Unary):
    """Inverse hyperbolic sine (ONNX Asinh, opset 22)."""

    kernel = "asinh"

    def apply(self, x):
        return np.arcsinh(x)


class Acosh(Unary):
    """Inverse hyperbolic cosine (ONNX Acosh, opset 22)."""

    kernel = "acosh"

    def apply(self, x):
        return np.arccosh(x)


class Atanh(Unary):
    """Inverse hyperbolic tangent (ONNX Atanh, opset 22)."""

    kernel = "atanh"

    def apply(self, x):
        return np.arctanh(x)


class Not(Unary):
    """y = not x (ONNX Not, opset 1)."""

    accepts = BOOL
    kernel = "not"

    def apply(self, x):
        return np.logical_not(x)


class BitwiseNot(Unary):
    """Every bit inverted (ONNX BitwiseNot, opset 18)."""

    accepts = INTS

    def apply(self, x):
        return np.invert(x)


class Test(Unary):
    """A function whose result is bool."""

    accepts = FLOATS | FLOAT8

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(np.dtype(bool), self.operand(ins, 0).shape)]

    def evaluate(self, x):
        return [np.asarray(self.apply(wide(x)))]


class IsNaN(Test):
    """Where x is not a number (ONNX IsNaN, opset 20)."""

    kernel = "isnan"

    def apply(self, x):
        return np.isnan(x)


class IsInf(Test):
    """Where x is an infinity of a sign that the attributes ask for (ONNX IsInf, opset 20)."""

    attributes = frozenset({"detect_negative", "detect_positive"})
    kernel = "isinf"

    def parameters(self) -> tuple[float, float]:
        return float(self.attr("detect_positive", 1)), float(self.attr("detect_negative", 1))

    def apply(self, x):
        positive, negative = self.parameters()
        return (np.isposinf(x) & bool(positive)) | (np.isneginf(x) & bool(negative))
