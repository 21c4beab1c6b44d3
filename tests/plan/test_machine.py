"""The measured peak, and the kernel that it is measured with."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tilewise.ops.lowering import float_bits
from tilewise.plan.machine import FMA_CHAINS, fma_peak

pytestmark = pytest.mark.skipif(not tilewise_kernels.has("fma_chains"), reason="needs extension modules")


@pytest.mark.parametrize("turns", [0, 1, 7])
def test_fma_chains(turns: int) -> None:
    tasks, factor, term = 3, 0.5, 1.25
    sums = np.full(tasks, np.nan, np.float32)
    code = np.array([tilewise_kernels.address("fma_chains"), 0, tasks], np.int64)
    args = np.array([sums.ctypes.data, turns, float_bits(factor), float_bits(term)], np.int64)
    tilewise_kernels.run(code, args, 1)
    v = np.arange(tasks)[:, None] + np.arange(FMA_CHAINS, dtype=np.float64)
    for _ in range(turns):
        v = v * factor + term
    np.testing.assert_allclose(sums, v.sum(axis=1) * tilewise_kernels.VECTOR_FLOATS, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_is_a_number_of_operations(threads: int) -> None:
    peak = fma_peak(threads)
    assert peak is not None
    assert 1e8 < peak < 1e13 * threads
