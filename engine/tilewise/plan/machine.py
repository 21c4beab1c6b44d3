"""The machine that plans run on: its name, and what its arithmetic can do at best."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import numpy as np

import tilewise_kernels
from tilewise.ops.lowering import float_bits

FMA_CHAINS = 12
"""Vector multiply-adds in a turn of kernel `fma_chains`."""
TURNS = 1 << 16
"""Turns of a task: a fraction of a millisecond."""
TRIALS = 40


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        with open(cpuinfo) as lines:
            named = (
                line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))
            )
            name = next(named, "")
    except OSError:
        name = ""
    return name or platform.processor() or platform.machine()


def fma_peak(threads: int) -> float | None:
    """float32 operations a second that so many threads reach in registers alone, a multiply-add being two.

    Measured now, the best of some trials. None without extension modules.
    """
    if not tilewise_kernels.has("fma_chains"):
        return None
    tasks = 8 * threads
    sums = np.empty(tasks, np.float32)
    code = np.array([tilewise_kernels.address("fma_chains"), 0, tasks], np.int64)
    args = np.array([sums.ctypes.data, TURNS, float_bits(0.5), float_bits(1.0)], np.int64)
    times = []
    for _ in range(TRIALS):
        start = time.perf_counter_ns()
        tilewise_kernels.run(code, args, threads)
        times.append(time.perf_counter_ns() - start)
    return 2e9 * FMA_CHAINS * tilewise_kernels.VECTOR_FLOATS * TURNS * tasks / min(times)
