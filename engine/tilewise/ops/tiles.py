"""Matrix products cut into register tiles, panels of columns and tasks: the arguments of kernel `tile_gemm`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilewise.ops.layout import VECTOR
from tilewise.ops.lowering import Arg, Ref, empty_aligned

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering

PANEL = 2 * VECTOR
TILE_ROWS = {16: 14, 8: 6, 4: 6}[VECTOR]
TASKS = 32
"""Tasks to aim for where the work allows it."""
ENOUGH_TASKS = 8
"""Above this nothing is cut that makes tasks read the larger side again."""
TASK_FLOPS = 1 << 20
"""A task is not cut below this."""
K_BLOCK = 512
"""Rows of the right side that `tile_matmul` takes at once, at most (K_BLOCK of `gemm.pyx`)."""
FEW_PANELS = 4
"""A row tile that serves no more panels is read as it lies."""
CONFLICT = 256
"""Rows some multiple of so many floats apart take each other's places in the first-level cache."""
PACK_COLUMNS = 256
"""A row tile that serves so many columns takes little time to pack."""
BLOCK_FLOATS = 1 << 17
"""Floats of the right side that one task should touch, so that they stay in the second-level cache."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Columns of a product in groups of one or two vectors.

    table: int64 [panels, 4]: where the panel starts in x, its vectors, its first run, its runs.
    runs: int64 [., 3]: first column in the panel, length, where it goes in y.
    """

    table: np.ndarray
    runs: np.ndarray

    @property
    def vectors(self) -> int:
        return int(self.table[:, 1].sum())


def tile_rows(rows: int) -> int:
    """Height of the tiles that cover `rows` most evenly."""
    return -(-rows // -(-rows // TILE_ROWS))


def pack_tiles(w: np.ndarray) -> np.ndarray:
    """[groups, rows, k] as float32 tiles of `tile_rows(rows)` rows, each [k][rows], end to end."""
    groups, rows, k = w.shape
    mr = tile_rows(rows)
    count, left = divmod(rows, mr)
    full = count * mr
    out = empty_aligned((groups, rows * k), np.dtype(np.float32))
    tiles, rest = out[:, : full * k], out[:, full * k :]
    tiles.reshape(groups, count, k, mr)[...] = w[:, :full].reshape(groups, count, mr, k).transpose(0, 1, 3, 2)
    rest.reshape(groups, k, left)[...] = w[:, full:].transpose(0, 2, 1)
    return out


def contiguous_panels(columns: int, stride: int = 0) -> Panels:
    """Panels over `columns` that lie side by side in x and in y.

    stride: where given, floats from panel to panel in x, the last one filled up to its full width (`pack_columns`);
    else a last panel that would read beyond the end is shifted back over the one before.
    """
    if stride:
        starts = np.arange(0, columns, PANEL)
        rows = [(i * stride, min(2, -(-(columns - int(q)) // VECTOR)), i, 1) for i, q in enumerate(starts)]
        return _panels(rows, [(0, min(PANEL, columns - int(q)), int(q)) for q in starts])
    return row_panels([(0, 0)], columns, shift=True)


def row_panels(rows: Sequence[tuple[int, int]], width: int, step: int = 1, *, shift: bool = False) -> Panels:
    """Panels that do not cross rows; `rows` gives where each starts in x and in y, `step` y's column stride."""
    table: list[tuple[int, ...]] = []
    runs: list[tuple[int, ...]] = []
    for x, y in rows:
        for q, vectors, skip in _cuts(width, shift):
            table.append((x + q, vectors, len(runs), 1))
            runs.append((skip, min(vectors * VECTOR, width - q) - skip, y + (q + skip) * step))
    return _panels(table, runs)


def flat_panels(
    rows: int, width: int, pitch: int, y_pitch: int, step: int = 1, *, shift: bool = False
) -> Panels:
    """Panels over an image as one long row: `rows` rows of `width` columns, `pitch` apart in x, `y_pitch` in y.

    The columns between the rows are computed and dropped.
    """
    table: list[tuple[int, ...]] = []
    runs: list[tuple[int, ...]] = []
    for q, vectors, skip in _cuts((rows - 1) * pitch + width, shift):
        first = len(runs)
        row = (q + skip) // pitch
        while row < rows and row * pitch < q + vectors * VECTOR:
            lo = max(q + skip, row * pitch)
            hi = min(q + vectors * VECTOR, row * pitch + width)
            if lo < hi:
                runs.append((lo - q, hi - lo, row * y_pitch + (lo - row * pitch) * step))
            row += 1
        table.append((q, vectors, first, len(runs) - first))
    return _panels(table, runs)


def image_panels(out: Sequence[int], size: Sequence[int], y_strides: Sequence[int], *, shift: bool) -> Panels:
    """Panels over `out` (D, H, W) outputs of one channel: across rows or row by row, whichever computes less.

    size: D, H, W of the image they are read from. y_strides: floats in y from plane to plane, row and column.
    """
    depth, rows, width = out
    y_depth, y_pitch, step = y_strides
    panels = flat_panels(rows, width, size[2], y_pitch, step, shift=shift)
    if not shift:
        by_row = row_panels([(r * size[2], r * y_pitch) for r in range(rows)], width, step)
        panels = min(panels, by_row, key=lambda q: q.vectors)
    return offset_panels(panels, depth, size[1] * size[2], y_depth)


def offset_panels(panels: Panels, count: int, x: int, y: int) -> Panels:
    """`count` copies of panels, `x` apart in x and `y` in y."""
    n = np.arange(count)[:, None, None]
    table = panels.table + n * np.array([x, 0, len(panels.runs), 0])
    runs = panels.runs + n * np.array([0, 0, y])
    return Panels(table.reshape(-1, 4), runs.reshape(-1, 3))


def _cuts(columns: int, shift: bool) -> list[tuple[int, int, int]]:
    """(first column, vectors, columns already done) of each panel over `columns`."""
    cuts = [(q, 2, 0) for q in range(0, columns - PANEL + 1, PANEL)]
    q = len(cuts) * PANEL
    while q < columns:
        vectors = 2 if columns - q > VECTOR and (columns >= PANEL or not shift) else 1
        start = min(q, columns - vectors * VECTOR) if shift else q
        cuts.append((start, vectors, q - start))
        q = start + vectors * VECTOR
    return cuts


def _panels(table: list, runs: list) -> Panels:
    return Panels(np.array(table, np.int64).reshape(-1, 4), np.array(runs, np.int64).reshape(-1, 3))


@dataclass(frozen=True, slots=True)
class Product:
    """y[n, g, row, column] = act(sum_k w[n, g, row, k] * x[n, g, offsets[k] + column] + bias + residual).

    x/w/y_strides: floats from image to image and from group to group (y: image, row, column).
    residual_strides: image, row, and 1 where it has columns like y or 0 where one value serves all.
    w_lies: None where w is packed in row tiles, else its (row stride, k stride, scale), for kernel `tile_matmul`: of
    one group, y's columns side by side.
    inputs: channels that make up k, for the size of a task's working set.
    """

    x: Ref
    w: Ref
    y: Ref
    offsets: np.ndarray
    panels: Panels
    rows: int
    images: int
    groups: int
    inputs: int
    x_strides: tuple[int, int]
    w_strides: tuple[int, int]
    y_strides: tuple[int, int, int]
    bias: Ref | int = 0
    residual: Ref | int = 0
    residual_strides: tuple[int, int, int] = (0, 0, 1)
    activation: tuple[int, float, float] = (0, 0.0, 0.0)
    w_lies: tuple[int, int, float] | None = None


def packs_in_tasks(p: Product) -> bool:
    """Whether the row tiles of w may as well be packed by each task as once for all of them."""
    per_panel = _cut(p)[0]
    return per_panel == len(p.panels.table) or per_panel * PANEL >= PACK_COLUMNS


def _cut(p: Product) -> tuple[int, int, int]:
    """Panels and row tiles a task, and tasks."""
    panels, tiles, k = len(p.panels.table), -(-p.rows // tile_rows(p.rows)), len(p.offsets)
    columns = panels * PANEL
    per_panel, per_tile = cut_tasks(
        p.images * p.groups, panels, tiles, columns * p.inputs, p.rows * k, 2 * k * p.rows * columns
    )
    return per_panel, per_tile, p.images * p.groups * -(-panels // per_panel) * -(-tiles // per_tile)


def emit(b: Lowering, p: Product) -> None:
    """The kernel step of a product."""
    panels, k = len(p.panels.table), len(p.offsets)
    per_panel, per_tile, tasks = _cut(p)
    args: list[Arg] = [p.x, p.w, b.const(np.asarray(p.offsets, np.int64)), p.y, p.bias, p.residual]
    args += [b.const(p.panels.table), b.const(p.panels.runs)]
    args += [k, p.rows, p.groups, panels, per_panel, per_tile, tile_rows(p.rows)]
    args += [*p.x_strides, *p.w_strides, *p.y_strides]
    code, alpha, beta = p.activation
    args += [code, float(alpha), float(beta), *p.residual_strides]
    if p.w_lies is None:
        b.step("tile_gemm", tasks, *args)
    else:
        row, k_step, scale = p.w_lies
        in_place = k_step == 1 and scale == 1 and per_panel <= FEW_PANELS and row % CONFLICT != 0
        at_once = -(-k // -(-k // K_BLOCK))
        b.step("tile_matmul", tasks, *args, row, k_step, float(scale), at_once, row if in_place else 0)


def emit_zip(b: Lowering, p: Product, pairs: np.ndarray, odd_width: int) -> None:
    """The kernel step of pairs of products whose columns take turns in y.

    p: what they share; its w, offsets and runs are those of all of them, in the order of `pairs`.
    pairs: int64 [pairs, 7], see kernel `tile_gemm_zip`. odd_width: 0, or the width of an output row that ends in an
    even column.
    """
    panels = len(p.panels.table)
    per_panel, per_tile, tasks = _cut(p)
    runs = p.panels.runs * (1, 2, 1)
    if odd_width:
        runs[:, 1] -= (runs[:, 2] + runs[:, 1]) % odd_width == 1
    args: list[Arg] = [p.x, p.w, b.const(np.asarray(p.offsets, np.int64)), p.y, p.bias]
    args += [b.const(p.panels.table), b.const(runs), len(pairs), b.const(pairs), p.rows, p.groups, panels]
    b.step(
        "tile_gemm_zip", tasks, *args, per_panel, per_tile, tile_rows(p.rows), *p.x_strides, *p.y_strides[:2]
    )


def cut_tasks(
    products: int, columns: int, rows: int, x_floats: int, w_floats: int, flops: int
) -> tuple[int, int]:
    """Columns and rows a task of `products` products: cut where it costs the least reading, until there are enough.

    columns, rows: what one product can be cut into. x_floats: what all columns read, w_floats: what all rows read,
    flops: what one product takes.
    """
    column_blocks = min(columns, max(1, -(-x_floats // BLOCK_FLOATS)))
    row_blocks = 1
    while (tasks := products * column_blocks * row_blocks) < TASKS:
        if flops // (column_blocks * row_blocks) < 2 * TASK_FLOPS:
            break
        by_rows = w_floats * column_blocks > x_floats * row_blocks
        whole = row_blocks == rows if by_rows else column_blocks == columns
        if whole and tasks >= ENOUGH_TASKS:
            break
        if by_rows != whole and row_blocks < rows:
            row_blocks = min(rows, 2 * row_blocks)
        elif column_blocks < columns:
            column_blocks = min(columns, 2 * column_blocks)
        else:
            break
    return -(-columns // column_blocks), -(-rows // row_blocks)
