"""Kernels compiled by Numba on the machine where they run, for installations without extension modules.

The same names, arguments and tasks as the Cython kernels. A process that runs them never imports Numba: another one
compiles them (`build`), their object code is kept on disk (`cache`), and llvmlite alone loads it (`objects`).
"""

from __future__ import annotations

MODULES = {
    "gemm": ("tile_gemm", "pack_rows", "pack_columns", "gemv"),
    "conv": ("pad_phases", "depthwise"),
}
"""Kernels by the module that holds them."""

NAMES = tuple(name for names in MODULES.values() for name in names)
