"""Activations: element-wise functions of one tensor with attributes, and PRelu."""

from __future__ import annotations

import math

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import FLOATS, INTS, NUMBERS, SIGNED, Binary, Unary
from tilewise.ops.special import erf


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + e^x), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def mish(x: np.ndarray) -> np.ndarray:
    """x tanh(log(1 + e^x))."""
    return x * np.tanh(softplus(x))


def gelu(x: np.ndarray) -> np.ndarray:
    """x (1 + erf(x / sqrt(2))) / 2."""
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


class Activation(Unary):
    """An activation; `alpha` and `beta` are read with the defaults of the newest opset."""

    alpha_default: float = 0.0
    beta_default: float = 0.0

    @property
    def alpha(self) -> float:
        return float(self.attr("alpha", self.alpha_default))

    @property
    def beta(self) -> float:
        return float(self.attr("beta", self.beta_default))

    def parameters(self) -> tuple[float, float]:
        return self.alpha, self.beta


class Relu(Activation):
    """y = max(x, 0) (ONNX Relu, opset 14)."""

    accepts = FLOATS | SIGNED
    kernel = "relu"

    def apply(self, x):
        return np.maximum(x, 0)


class LeakyRelu(Activation):
    """y = x, or alpha x below zero (ONNX LeakyRelu, opset 16)."""

    attributes = frozenset({"alpha"})
    kernel = "leaky_relu"
    alpha_default = 0.01

    def apply(self, x):
        return np.where(x < 0, self.alpha * x, x)


class Elu(Activation):
    """y = x, or alpha (e^x - 1) below zero (ONNX Elu, opset 22)."""

    attributes = frozenset({"alpha"})
    kernel = "elu"
    alpha_default = 1.0

    def apply(self, x):
        return np.where(x < 0, self.alpha * np.expm1(x), x)


class Celu(Activation):
    """y = max(0, x) + min(0, alpha (e^(x / alpha) - 1)) (ONNX Celu, opset 28)."""

    attributes = frozenset({"alpha"})
    kernel = "celu"
    alpha_default = 1.0

    def apply(self, x):
        return np.where(x < 0, self.alpha * np.expm1(x / self.alpha), x)


class Selu(Activation):
    """y = gamma x, or gamma alpha (e^x - 1) below zero (ONNX Selu, opset 22)."""

    attributes = frozenset({"alpha", "gamma"})
    kernel = "selu"
    alpha_default = 1.67326319217681884765625

    @property
    def gamma(self) -> float:
        return float(self.attr("gamma", 1.05070102214813232421875))

    def parameters(self) -> tuple[float, float]:
        return self.alpha, self.gamma

    def apply(self, x):
        return self.gamma * np.where(x < 0, self.alpha * np.expm1(x), x)


class Sigmoid(Activation):
    """y = 1 / (1 + e^-x) (ONNX Sigmoid, opset 13)."""

    kernel = "sigmoid"

    def apply(self, x):
        return sigmoid(x)


class HardSigmoid(Activation):
    """y = max(0, min(1, alpha x + beta)) (ONNX HardSigmoid, opset 22)."""

    attributes = frozenset({"alpha", "beta"})
    kernel = "hard_sigmoid"
    alpha_default = 0.2
    beta_default = 0.5

    def apply(self, x):
        return np.clip(self.alpha * x + self.beta, 0, 1)


class HardSwish(Activation):
    """y = x max(0, min(1, x / 6 + 1 / 2)) (ONNX HardSwish, opset 22)."""

    kernel = "hard_swish"

    def apply(self, x):
        return x * np.clip(x / 6 + 0.5, 0, 1)


class Swish(Activation):
    """y = x sigmoid(alpha x) (ONNX Swish, opset 24)."""

    attributes = frozenset({"alpha"})
    kernel = "swish"
    alpha_default = 1.0

    def apply(self, x):
        return x * sigmoid(self.alpha * x)


class Mish(Activation):
    """y = x tanh(softplus(x)) (ONNX Mish, opset 22)."""

    kernel = "mish"

    def apply(self, x):
        return mish(x)


class Gelu(Activation):
    """y = x (1 + erf(x / sqrt(2))) / 2, or its approximation by tanh (ONNX Gelu, opset 20)."""

    attributes = frozenset({"approximate"})

    @property
    def approximate(self) -> str:
        value = self.attr("approximate", "none")
        return value.decode() if isinstance(value, bytes) else str(value)

    def unsupported(self) -> str | None:
        if self.approximate in ("none", "tanh"):
            return None
        return f"attribute approximate: expected 'none' or 'tanh', got {self.approximate!r}"

    @property
    def kernel(self) -> str:  # type: ignore[override]
        return "gelu_tanh" if self.approximate == "tanh" else "gelu"

    def apply(self, x):
        return gelu_tanh(x) if self.approximate == "tanh" else gelu(x)


class Softplus(Activation):
    """y = log(1 + e^x) (ONNX Softplus, opset 22)."""

    kernel = "softplus"

    def apply(self, x):
        return softplus(x)


class Softsign(Activation):
    """y = x / (1 + |x|) (ONNX Softsign, opset 22)."""

    kernel = "softsign"

    def apply(self, x):
        return x / (1 + np.abs(x))


class Tanh(Activation):
    """The hyperbolic tangent (ONNX Tanh, opset 13)."""

    kernel = "tanh"

    def apply(self, x):
        return np.tanh(x)


class ThresholdedRelu(Activation):
    """y = x where x > alpha, else 0 (ONNX ThresholdedRelu, opset 22)."""

    attributes = frozenset({"alpha"})
    kernel = "thresholded_relu"
    alpha_default = 1.0

    def apply(self, x):
        return np.where(x > self.alpha, x, np.zeros((), x.dtype))


class Shrink(Activation):
    """y = x + bias below -lambd, x - bias above lambd, else 0 (ONNX Shrink, opset 9)."""

    attributes = frozenset({"bias", "lambd"})
    accepts = NUMBERS
    kernel = "shrink"

    def parameters(self) -> tuple[float, float]:
        return float(self.attr("lambd", 0.5)), float(self.attr("bias", 0.0))

    def apply(self, x):
        lambd, bias = self.parameters()
        return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


class PRelu(Binary):
    """y = x, or slope x below zero; slope broadcasts to x alone (ONNX PRelu, opset 16)."""

    accepts = FLOATS | INTS
    kernel = "prelu"

    def infer(self, ins: Inputs) -> list[Fact]:
        (y,) = super().infer(ins)
        x, slope = self.operand(ins, 0), self.operand(ins, 1)
        if x.shape is not None and y.shape is not None and not _covers(x.shape, y.shape):
            raise self.fail(f"expected a slope that broadcasts to x of shape {x.shape}, got {slope.shape}")
        return [Fact(y.dtype, x.shape)]

    def apply(self, x, y):
        return np.where(x < 0, x * y, x)


def _covers(x: Shape, y: Shape) -> bool:
    """False where broadcasting has made x larger."""
    return len(x) == len(y) and all(
        not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in zip(x, y, strict=True)
    )
