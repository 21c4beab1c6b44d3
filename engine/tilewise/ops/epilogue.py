"""What a convolution does to its result before it is stored: residual and activation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

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
}
"""Activations of internal operators and their codes in the kernels."""


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


def _sigmoid(y: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-y))


_NUMPY: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "": lambda y, a, b: y,
    "Relu": lambda y, a, b: np.maximum(y, 0),
    "Clip": lambda y, a, b: np.clip(y, a, b if math.isfinite(b) else None),
    "LeakyRelu": lambda y, a, b: np.where(y < 0, y * a, y),
    "Sigmoid": lambda y, a, b: _sigmoid(y),
    "Tanh": lambda y, a, b: np.tanh(y),
    "HardSigmoid": lambda y, a, b: np.clip(a * y + b, 0, 1),
    "HardSwish": lambda y, a, b: y * np.clip(y / 6 + 0.5, 0, 1),
    "Swish": lambda y, a, b: y * _sigmoid(a * y),
}
