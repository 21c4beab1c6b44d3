"""Which kernels this process has: the extension modules of the best instruction-set level that the CPU runs."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

_MODULES = (
    "movement",
    "elementwise",
    "gemm",
    "conv",
    "blocked",
    "blocked_group",
    "blocked_move",
    "blocked_norm",
    "blocked_pool",
    "turned_depthwise",
    "deform",
    "winograd",
    "pool",
    "norm",
    "reduce",
    "resize",
    "vision",
    "recurrent",
    "peak",
)
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
    """The level in use and its kernels; "jit" or "none" without extension modules, or under `TILEWISE_PURE=1`."""
    without: tuple[str, dict[str, int]] = ("jit" if importlib.util.find_spec("numba") else "none", {})
    if os.environ.get("TILEWISE_PURE") == "1":
        return without
    try:
        levels = _levels()
    except ModuleNotFoundError:
        return without
    for level in levels:
        table = _load_level(level)
        if table:
            return level, table
    return without


def _host_vector_floats() -> int:
    """Floats in a vector register of this CPU, by NumPy's own detection; `TILEWISE_VECTOR` forces another width."""
    forced = os.environ.get("TILEWISE_VECTOR")
    if forced is not None:
        if forced not in ("4", "8", "16"):
            raise ImportError(f"TILEWISE_VECTOR={forced!r}: expected 4, 8 or 16")
        return int(forced)
    features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    return 16 if features.get("AVX512F") else 8 if features.get("AVX2") else 4


ISA, _TABLE = _load()
"""The level in use: "v4", "v3", "v2" or "base"; "jit" for kernels by Numba alone, "none" for none at all."""

NATIVE = bool(_TABLE)
"""True where extension modules are in use."""

VECTOR_FLOATS = _VECTOR_FLOATS.get(ISA) or _host_vector_floats()
"""Floats in a vector register at the level in use."""

_EXECUTOR = importlib.import_module(
    "tilewise_kernels._executor" if NATIVE else "tilewise_kernels.jit.executor"
)

Entry: Any = getattr(_EXECUTOR, "Entry", None)
"""See `_executor.Entry`; None without extension modules, as `Signature`."""

Signature: Any = getattr(_EXECUTOR, "Signature", None)


def run(code, args, threads: int, times=None) -> None:
    """Run a segment of a plan; see `_executor.run`."""
    _EXECUTOR.run(code, args, threads, times)


def prepare(wait: bool) -> bool:
    """Have kernels that this installation must compile made ready; True once no more will come.

    wait: until they are, else they come while others go on; where the cache on disk has them, they are there at once.
    """
    if ISA != "jit":
        return True
    from tilewise_kernels.jit import background

    table = background.request(wait)
    if table is None:
        return False
    _TABLE.update(table)
    return True


def has(name: str) -> bool:
    """True where the kernel can be called now."""
    return name in _TABLE


def address(name: str) -> int:
    """The address of a kernel; `KeyError` for one that this process lacks."""
    return _TABLE[name]


def names() -> list[str]:
    return sorted(_TABLE)
