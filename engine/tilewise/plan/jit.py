"""When kernels are compiled, in installations without extension modules."""

from __future__ import annotations

import os

import tilewise_kernels
from tilewise.errors import InputError

MODES = ("background", "wait", "off")


def check_jit(jit: str | None) -> str:
    """`jit` as one of `MODES`; None means what `TILEWISE_JIT` says, or "background"."""
    if jit is None:
        jit, what = os.environ.get("TILEWISE_JIT", MODES[0]), "TILEWISE_JIT"
    else:
        what = "jit"
    if jit not in MODES:
        raise InputError(f"{what}: expected one of {', '.join(MODES)}, got {jit!r}")
    return jit


def prepare(jit: str) -> bool:
    """Start or await the compilation of kernels as `jit` says; True once plans made from now on stay the best."""
    return not uses_kernels(jit) or tilewise_kernels.prepare(wait=jit == "wait")


def uses_kernels(jit: str) -> bool:
    """False where all kernels would be compiled ones and `jit` says none."""
    return jit != "off" or tilewise_kernels.ISA != "jit"
