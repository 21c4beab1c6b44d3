"""How a reduction along one axis is cut into tasks for the kernels of reduce.pyx."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilewise.ops.lowering import chunks

SHORT, LONG, COLUMNS = 0, 1, 2
MAX_WIDTH = 1024
SHORT_FLOATS = 64
ROW = 16
"""A row of so many floats is worked on along itself."""
BUFFER_FLOATS = 4096
NARROW = 64
TASK_FLOATS = 16384
MANY_ITEMS = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """`outer` blocks of `rows` rows of `inner` floats; rows are reduced.

    form, width, items, grain: how the kernels cut them (see reduce.pyx). part: rows reduced by one item.
    """

    outer: int
    rows: int
    inner: int
    form: int
    width: int
    items: int
    grain: int
    part: int

    @property
    def parts(self) -> int:
        return chunks(self.rows, self.part)

    @property
    def tasks(self) -> int:
        return chunks(self.items, self.grain)

    @property
    def args(self) -> tuple[int, ...]:
        """Arguments 2 to 8 of the kernels."""
        return (self.outer, self.rows, self.inner, self.form, self.width, self.items, self.grain)


def fold_blocks(outer: int, rows: int, inner: int, *, split: bool = True) -> Blocks:
    """Blocks for a kernel that makes one number of a column; `split` allows it to reduce parts first."""
    if rows * inner <= SHORT_FLOATS:
        return _short(outer, rows, inner)
    if inner < NARROW:
        form, width, tiles, part = LONG, _fold_width(rows, inner), 1, chunks(TASK_FLOATS, inner)
    else:
        form, width = COLUMNS, even_width(inner, MAX_WIDTH)
        tiles, part = chunks(inner, width), max(64, TASK_FLOATS // width)
    if not split or outer * tiles >= MANY_ITEMS or rows <= 2 * part:
        part = rows
    floats = part * (width if form == COLUMNS else inner)
    items = outer * tiles * chunks(rows, part)
    return Blocks(outer, rows, inner, form, width, items, max(1, TASK_FLOATS // floats), part)


def map_blocks(outer: int, rows: int, inner: int) -> Blocks:
    """Blocks for a kernel that maps every float by numbers of its column."""
    if rows * inner <= SHORT_FLOATS and not (inner == 1 and rows >= ROW):
        return _short(outer, rows, inner)
    if inner < NARROW:
        form, width, tiles, floats = LONG, _fold_width(rows, inner), 1, rows * inner
    else:
        form, width = COLUMNS, even_width(inner, min(MAX_WIDTH, max(NARROW, 2 * TASK_FLOATS // rows)))
        tiles, floats = chunks(inner, width), rows * width
    return Blocks(outer, rows, inner, form, width, outer * tiles, max(1, TASK_FLOATS // floats), rows)


def even_width(size: int, limit: int) -> int:
    """A width of at most `limit`, in vectors of 16, that cuts `size` columns into about equal tiles."""
    width = chunks(size, chunks(size, limit))
    return min(size, limit, chunks(width, 16) * 16)


def collapse(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, int, int]]:
    """`axes` of `shape` as reductions (outer, rows, inner) to be done one after the other, the last first."""
    runs: list[list[int]] = []  # [size, 1 where reduced] of neighbouring axes
    for axis, size in enumerate(shape):
        reduced = int(axis in axes)
        if runs and (size == 1 or runs[-1][1] == reduced):
            runs[-1][0] *= size
        elif size != 1:
            runs.append([size, reduced])
    steps = []
    inner = 1
    for i in reversed(range(len(runs))):
        size, reduced = runs[i]
        if reduced:
            steps.append((math.prod(s for s, _ in runs[:i]), size, inner))
        else:
            inner *= size
    return steps or [(1, 1, math.prod(shape))]


def _short(outer: int, rows: int, inner: int) -> Blocks:
    width = max(1, min(outer, 256, BUFFER_FLOATS // (rows * inner), MAX_WIDTH // inner))
    grain = max(1, TASK_FLOATS // (width * rows * inner))
    return Blocks(outer, rows, inner, SHORT, width, chunks(outer, width), grain, rows)


def _fold_width(rows: int, inner: int) -> int:
    """Floats of a row of the fold: whole rows of the block, a few vectors."""
    wanted = 256 if rows * inner >= 1024 else 64
    return max(1, min(rows, wanted // inner)) * inner
