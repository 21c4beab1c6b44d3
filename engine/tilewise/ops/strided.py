"""Lowering of copies between strided views of buffers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Array
from tilewise.ops.lowering import Lowering, Ref, chunks

TASK_BYTES = 1 << 16
"""About how much one task copies."""

MAX_DIMS = 32
"""Dims that `strided_copy` walks, those of blocks included."""

Dim = tuple[int, int, int]
"""Length, destination stride, source stride, both in bytes."""

_ROWS, _ANY, _TRANSPOSE = 0, 1, 2  # modes of `strided_copy`
_NARROW = 8  # a dim of fewer elements makes a poor inner loop
_TILE = 64  # side of a block of a transposition
_WOVEN = 4  # as many rows or columns are transposed by interleaving


@dataclass(frozen=True, slots=True)
class Layout:
    """Strided memory of a plan: what starts at `ref` has the shape, strides and dtype of `array`.

    `array` is there for NumPy to make views of; its content must not be read.
    """

    ref: Ref
    array: Array

    @staticmethod
    def of(ref: Ref, dtype: np.dtype, shape: Sequence[int]) -> Layout:
        """A C-contiguous value."""
        return Layout(ref, _blank(shape, dtype))

    def seen(self, view: Array) -> Layout:
        """The part or arrangement of this memory that `view`, made from `array`, shows."""
        return Layout(self.ref.at(distance(self.array, view)), view)

    def __getitem__(self, index) -> Layout:
        return self.seen(self.array[index])


def layout_in(b: Lowering, i: int) -> Layout:
    """Input `i`."""
    return _layout(b.input(i), b.ins[i])


def layout_out(b: Lowering, i: int = 0) -> Layout:
    """Output `i`."""
    return _layout(b.output(i), b.outs[i])


def _layout(ref: Ref, fact: Fact | None) -> Layout:
    assert fact is not None
    return Layout(ref, blank(fact))


def blank(fact: Fact) -> Array:
    """Stands for a C-contiguous value; not to be read."""
    assert fact.dtype is not None
    return _blank([d for d in fact.shape or () if isinstance(d, int)], fact.dtype)


def _blank(shape: Sequence[int], dtype: np.dtype) -> Array:
    return np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, contiguous(shape, dtype.itemsize))


def contiguous(shape: Sequence[int], item: int) -> tuple[int, ...]:
    """C-contiguous strides in bytes."""
    return tuple(item * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def is_contiguous(view: Array) -> bool:
    """True where the elements follow each other in memory, in order."""
    dense = contiguous(view.shape, view.itemsize)
    return all(n == 1 or s == c for n, s, c in zip(view.shape, view.strides, dense, strict=True))


def distance(base: Array, view: Array) -> int:
    """Bytes from the first element of `base` to that of `view`."""
    return view.__array_interface__["data"][0] - base.__array_interface__["data"][0]


def fill(b: Lowering, dst: Layout, scalar: Ref) -> None:
    """Emit dst[...] = scalar, one element of the same dtype."""
    src = Layout.of(scalar, dst.array.dtype, ())
    copy(b, dst, src.seen(np.broadcast_to(src.array, dst.array.shape)))


def copy(b: Lowering, dst: Layout, src: Layout) -> None:
    """Emit dst[...] = src, of one shape and dtype and without overlap.

    A ValueError for more dims than kernels walk, which takes an array of 2**30 elements at least.
    """
    item, dims = collapse(dst.array.shape, dst.array.strides, src.array.strides, dst.array.itemsize)
    if len(dims) <= 1 and all(d[1:] == (item, item) for d in dims):
        nbytes = item * math.prod(n for n, _, _ in dims)
        b.step("copy", chunks(nbytes, TASK_BYTES), dst.ref, src.ref, nbytes, TASK_BYTES)
        return
    mode, outer, rows, cols = _arrange(dims, item)
    if len(outer) + 2 > MAX_DIMS:
        raise ValueError(f"a copy of {len(outer) + 2} dims, expected at most {MAX_DIMS}")
    row_block, col_block = _blocks(mode, rows[0], cols[0], item)
    walk = [*outer, _in_blocks(rows, row_block), _in_blocks(cols, col_block)]
    units = math.prod(n for n, _, _ in walk)
    grain = max(1, TASK_BYTES // (row_block * col_block * item))
    sizes = (mode, item, grain, units, rows[0], cols[0], row_block, col_block)
    strides = (rows[1], cols[1], rows[2], cols[2])
    flat = (value for dim in walk for value in dim)
    b.step("strided_copy", chunks(units, grain), dst.ref, src.ref, *sizes, *strides, len(walk), *flat)


def collapse(
    shape: Sequence[int], dst: Sequence[int], src: Sequence[int], item: int
) -> tuple[int, list[Dim]]:
    """The same copy with the largest element, of 1, 2, 4, 8 or 16 bytes, and the fewest dims."""
    dims: list[Dim] = []
    for n, d, s in zip(shape, dst, src, strict=True):
        if n == 1:
            continue
        if dims and dims[-1][1:] == (n * d, n * s):
            n *= dims.pop()[0]
        dims.append((n, d, s))
    if dims and dims[-1][1:] == (item, item) and dims[-1][0] * item in (2, 4, 8, 16):
        item *= dims.pop()[0]
    return item, dims


def _arrange(dims: list[Dim], item: int) -> tuple[int, list[Dim], Dim, Dim]:
    """The mode of `strided_copy`, its outer dims, and those of rows and columns."""
    last = len(dims) - 1
    dst_unit = next((i for i, d in enumerate(dims) if d[1] == item), None)
    src_unit = next((i for i, d in enumerate(dims) if d[2] == item), None)
    mode, row, col = _ANY, last - 1, last
    if dst_unit is not None and src_unit is not None:
        mode, col = _ROWS if dst_unit == src_unit else _TRANSPOSE, dst_unit
        row = src_unit if mode == _TRANSPOSE else last - 1
    elif dims[last][0] < _NARROW:
        col = max(range(len(dims)), key=lambda i: dims[i][0])
        row = last if col != last else last - 1
    outer = [d for i, d in enumerate(dims) if i not in (row, col)]
    return mode, outer, dims[row] if row >= 0 else (1, 0, 0), dims[col]


def _blocks(mode: int, rows: int, cols: int, item: int) -> tuple[int, int]:
    """Rows and columns of a block: a task's share, or what a transposition keeps in the first cache."""
    share = max(1, TASK_BYTES // item)
    if mode == _TRANSPOSE and min(rows, cols) > _WOVEN:
        return min(rows, _TILE), min(cols, _TILE)
    if mode == _TRANSPOSE:
        narrow = min(rows, cols)
        return min(rows, share // narrow), min(cols, share // narrow)
    col_block = min(cols, share)
    return min(rows, max(1, share // col_block)), col_block


def _in_blocks(dim: Dim, block: int) -> Dim:
    return chunks(dim[0], block), dim[1] * block, dim[2] * block
