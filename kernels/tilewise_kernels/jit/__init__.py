"""Kernels compiled by Numba on the machine where they run, for installations without extension modules.

The same names, arguments and tasks as the Cython kernels. Numba is imported when the first one is asked for.
"""

from __future__ import annotations

import importlib

_MODULES = {
    "tile_gemm": "gemm",
    "pack_rows": "gemm",
    "pack_columns": "gemm",
    "gemv": "gemm",
    "pad_phases": "conv",
    "depthwise": "conv",
}


def names() -> frozenset[str]:
    return frozenset(_MODULES)


def address(name: str) -> int:
    """The address of a kernel, compiled now or taken from Numba's cache."""
    module = importlib.import_module(f"tilewise_kernels.jit.{_MODULES[name]}")
    return getattr(module, name).address
