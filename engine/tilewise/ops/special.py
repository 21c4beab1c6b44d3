"""The error function in NumPy, for which NumPy has no name."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import Chebyshev

_SPLIT = 1.0
_END = 6.0  # erf is 1 to double precision from here on
_CENTER = 2.0


def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) to about 1e-14, in float64."""
    x = np.asarray(x, np.float64)
    a = np.minimum(np.abs(x), _END)
    inner, outer = _interpolants()
    near = a * inner(a * a)
    far = 1.0 - np.exp(-a * a) * outer(_mapped(np.maximum(a, _SPLIT)))
    return np.copysign(np.where(a < _SPLIT, near, far), x)


def _mapped(a):
    return (a - _CENTER) / (a + _CENTER)


@cache
def _interpolants() -> tuple[Chebyshev, Chebyshev]:
    """erf(sqrt(s)) / sqrt(s) on [0, 1], and exp(x^2) erfc(x) on [1, 6] as a function of (x - 2) / (x + 2)."""

    def near(s):
        return [math.erf(math.sqrt(v)) / math.sqrt(v) for v in s]

    def far(z):
        xs = [_CENTER * (1 + v) / (1 - v) for v in z]
        return [math.exp(x * x) * math.erfc(x) for x in xs]

    domain = [_mapped(_SPLIT), _mapped(_END)]
    return Chebyshev.interpolate(near, 15, [0.0, 1.0]), Chebyshev.interpolate(far, 20, domain)
