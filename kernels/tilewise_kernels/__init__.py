"""Kernels of Tilewise: arrays, pointers and integers, and nothing of graphs.

Every kernel has the C signature `void kernel(const int64_t* args, int64_t task_begin, int64_t task_end)` and is known
by name. The extension modules exist once for each instruction-set level; the best one that this CPU runs is loaded.
"""

from tilewise_kernels.registry import (
    ISA,
    NATIVE,
    VECTOR_FLOATS,
    Entry,
    Signature,
    address,
    has,
    names,
    prepare,
    run,
)

__all__ = [
    "ISA",
    "NATIVE",
    "VECTOR_FLOATS",
    "Entry",
    "Signature",
    "address",
    "has",
    "names",
    "prepare",
    "run",
]
