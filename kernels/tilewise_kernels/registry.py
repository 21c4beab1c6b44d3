"""Which kernels this process has: the extension modules of the best instruction-set level that the CPU runs."""

from __future__ import annotations

import importlib
import os

_MODULES = ("movement", "elementwise", "gemm", "conv", "pool", "norm", "reduce", "resize", "vision")
_VECTOR_FLOATS = {"v4": 16, "v3": 8, "v2": 4, "base": 4}


def _levels() -> list[str]:
    """Levels to try, best first; `TILEWISE_ISA` names one to use alone."""
    supported = importlib.import_module("tilewise_kernels._executor").cpu_levels()
    wanted = os.environ.get("TILEWISE_ISA")
    if wanted is None:
        return supported
    if wanted not in supported:
        raise ImportError(f"TILEWISE_ISA={wanted!r} is not one of this CPU's levels: {', '.join(supported)}")
    return [wanted]


def _load_level(level: str) -> dict[str, int]:
    """Addresses by kernel name of the modules that were built for `level`."""
    table: dict[str, int] = {}
    for module in _MODULES:
        try:
            table.update(importlib.import_module(f"tilewise_kernels._{level}.{module}").KERNELS)
        except ModuleNotFoundError:
            continue
    return table


def _load() -> tuple[str, dict[str, int]]:
    if os.environ.get("TILEWISE_PURE") == "1":
        return "none", {}
    try:
        levels = _levels()
    except ModuleNotFoundError:
        return "none", {}
    for level in levels:
        table = _load_level(level)
        if table:
            return level, table
    return "none", {}


ISA, _TABLE = _load()
"""The level in use: "v4", "v3", "v2", "base", or "none" where no extension module could be built."""

NATIVE = bool(_TABLE)
_EXECUTOR = importlib.import_module("tilewise_kernels._executor") if NATIVE else None
VECTOR_FLOATS = _VECTOR_FLOATS.get(ISA, 4)
"""Floats in a vector register at the level in use."""


def run(code, args, threads: int, times=None) -> None:
    """Run a segment of a plan; see `_executor.run`."""
    _EXECUTOR.run(code, args, threads, times)


def has(name: str) -> bool:
    return name in _TABLE


def address(name: str) -> int:
    """The address of a kernel; `KeyError` for one that this process lacks."""
    return _TABLE[name]


def names() -> list[str]:
    return sorted(_TABLE)
