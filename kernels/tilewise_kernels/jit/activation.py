"""Activations by the codes of activation.h, one number at a time."""

from __future__ import annotations

import math

from numba import njit

from tilewise_kernels.jit.emit import load_float, store_float

LAST = 13
"""The highest code that these kernels know."""


@njit(error_model="numpy", fastmath=False)
def activate(code, address, n, alpha, beta):
    """Apply activation `code` in place to n floats."""
    for i in range(n):
        p = address + 4 * i
        x = load_float(p)
        if code == 1:
            y = 0.0 if x < 0 else x
        elif code == 2:
            y = _clip(x, alpha, beta)
        elif code == 3:
            y = alpha * x if x < 0 else x
        elif code == 4:
            y = _sigmoid(x)
        elif code == 5:
            y = math.tanh(x)
        elif code == 6:
            y = _clip(alpha * x + beta, 0.0, 1.0)
        elif code == 7:
            y = x * _clip(x / 6 + 0.5, 0.0, 1.0)
        elif code == 8:
            y = x * _sigmoid(alpha * x)
        elif code == 9:
            y = 0.5 * x * (1 + math.erf(x * math.sqrt(0.5)))
        elif code == 10:
            y = 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
        elif code == 11:
            y = alpha * math.expm1(x) if x < 0 else x
        elif code == 12:
            y = _softplus(x)
        else:
            y = x * math.tanh(_softplus(x))
        store_float(p, y)


@njit(error_model="numpy", inline="always")
def _clip(x, lo, hi):
    x = lo if x < lo else x
    return hi if x > hi else x


@njit(error_model="numpy", inline="always")
def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


@njit(error_model="numpy", inline="always")
def _softplus(x):
    return (0.0 if x < 0 else x) + math.log1p(math.exp(-abs(x)))
