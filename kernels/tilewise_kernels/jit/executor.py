"""The executor of an installation without extension modules: kernels are called one by one through ctypes."""

from __future__ import annotations

import ctypes
import time

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def run(code, args, threads: int, times=None) -> None:
    """Run a segment on the calling thread, the GIL released during each kernel.

    code, args, times: as `_executor.run` takes them. threads: accepted for the same signature; one is used.
    """
    base = args.ctypes.data
    for i, (kernel, first, tasks) in enumerate(code.reshape(-1, 3).tolist()):
        start = time.perf_counter_ns()
        _KERNEL(kernel)(base + 8 * first, 0, tasks)
        if times is not None:
            times[i] = time.perf_counter_ns() - start
