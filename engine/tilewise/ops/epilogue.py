"""What an operator does to its result before it is stored: the activation that follows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tilewise.ops.activation import gelu, gelu_tanh, mish, sigmoid, softplus
from tilewise.ops.base import Op

CODES = {
    "": 0,
    "Relu": 1,
    "Clip": 2,
    "LeakyRelu": 3,
    "Sigmoid": 4,
    "Tanh": 5,
    "HardSigmoid": 6,
    "HardSwish": 7,
    "Swish": 8,
    "Gelu": 9,
    "GeluTanh": 10,
    "Elu": 11,
    "Softplus": 12,
    "Mish": 13,
}
"""Activations of internal operators and their codes in the kernels."""


ATTRIBUTES = frozenset({"activation", "activation_alpha", "activation_beta"})


def activation(op: Op) -> tuple[int, float, float]:
    """The kernels' code, alpha and beta from the attributes activation, alpha, beta."""
    return (
        CODES[op.attr("activation", "")],
        float(op.attr("activation_alpha", 0.0)),
        float(op.attr("activation_beta", 0.0)),
    )


def apply(op: Op, y: np.ndarray) -> np.ndarray:
    """The activation of `op`'s attributes on an array, in its dtype."""
    _, alpha, beta = activation(op)
    name = op.attr("activation", "")
    return _NUMPY[name](y, alpha, beta).astype(y.dtype, copy=False)


_NUMPY: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "": lambda y, a, b: y,
    "Relu": lambda y, a, b: np.maximum(y, 0),
    "Clip": lambda y, a, b: np.clip(y, a, b if math.isfinite(b) else None),
    "LeakyRelu": lambda y, a, b: np.where(y < 0, y * a, y),
    "Sigmoid": lambda y, a, b: sigmoid(y),
    "Tanh": lambda y, a, b: np.tanh(y),
    "HardSigmoid": lambda y, a, b: np.clip(a * y + b, 0, 1),
    "HardSwish": lambda y, a, b: y * np.clip(y / 6 + 0.5, 0, 1),
    "Swish": lambda y, a, b: y * sigmoid(a * y),
    "Gelu": lambda y, a, b: gelu(y),
    "GeluTanh": lambda y, a, b: gelu_tanh(y),
    "Elu": lambda y, a, b: np.where(y < 0, a * np.expm1(y), y),
    "Softplus": lambda y, a, b: softplus(y),
    "Mish": lambda y, a, b: mish(y),
}
