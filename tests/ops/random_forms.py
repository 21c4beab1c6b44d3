"""Strategies that the tests of random forms share; the same forms in every run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

WIDE = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 48, 65)
"""Sizes around the widths of vectors and tiles."""


def forms(count: int) -> settings:
    """So many examples, derived from the test itself."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=checks
    )


@st.composite
def shapes(draw: Callable, min_rank: int = 0, max_rank: int = 5, least: int = 0) -> tuple[int, ...]:
    """Small dims, 0 and 1 among them, one of them sometimes wide."""
    rank = draw(st.integers(min_rank, max_rank))
    dims = [draw(st.sampled_from([d for d in (1, 2, 3, 0, 5) if d >= least])) for _ in range(rank)]
    if rank and draw(st.booleans()):
        dims[draw(st.integers(0, rank - 1))] = draw(st.sampled_from(WIDE))
    return tuple(dims)


def array(shape: tuple[int, ...], dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    """Normal numbers; integers from -9 to 9 or, unsigned, to 18; random bools."""
    rng = np.random.default_rng([seed, *shape])
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        low = 0 if np.dtype(dtype).kind == "u" else -9
        return rng.integers(low, low + 19, shape).astype(dtype)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def maybe_negative(draw: Callable, axis: int, rank: int) -> int:
    return axis - rank if draw(st.booleans()) else axis


def some_axes(draw: Callable, rank: int, least: int = 0) -> list[int]:
    """Different axes in any order, some of them counted from the back."""
    axes = draw(st.permutations(range(rank)))[: draw(st.integers(min(least, rank), rank))]
    return [maybe_negative(draw, a, rank) for a in axes]
