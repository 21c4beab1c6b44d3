"""Attention in float32 by kernels: two matrix products head by head, and a softmax of all scores between them."""

from __future__ import annotations

import math

import numpy as np

from tilewise.graph.facts import Shape
from tilewise.ops.base import Array
from tilewise.ops.columns import fold_blocks, map_blocks
from tilewise.ops.elementwise import GRAIN, emit_walk
from tilewise.ops.linalg import pack_columns, pack_rows
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.reduce import MAX, NOTHING
from tilewise.ops.strided import Layout, contiguous
from tilewise.ops.tiles import PANEL, VECTOR, Panels, Product, contiguous_panels, emit

KERNELS = (
    "tile_gemm",
    "softmax",
    "tanh_float32",
    "mul_float32",
    "add_float32",
    "where_4",
    "reduce",
    "equal_float32",
)
"""Kernels without which attention is not lowered."""


class AttentionSteps:
    """The steps of one attention; layouts are float32 [batch, heads, length, size], the last axis contiguous.

    q, y: query heads. k, v: as many heads, or a divisor of them. Scores are C-contiguous, of shape `shape`.
    """

    def __init__(self, b: Lowering, q: Layout, k: Layout, v: Layout, y: Layout) -> None:
        self.b, self.q, self.k, self.v, self.y = b, q, k, v, y
        self.batch, self.q_heads, self.q_len, self.head = q.array.shape
        self.kv_heads, self.kv_len, self.v_head = v.array.shape[1:]
        self.group = self.q_heads // self.kv_heads
        self.shape: Shape = (self.batch, self.q_heads, self.q_len, self.kv_len)
        self.scores = Layout.of(b.temp(4 * math.prod(self.shape)), np.dtype(np.float32), self.shape)
        self.whole = all(x.array.strides == contiguous(x.array.shape, 4) for x in (q, k, v, y))
        """True where all batches are one run of images, and all heads of a group one run of rows."""

    @property
    def images(self) -> int:
        return self.batch * self.kv_heads if self.whole else self.kv_heads

    @property
    def rows(self) -> int:
        return self.group * self.q_len if self.whole else self.q_len

    def score(self, scale: float) -> None:
        """scores = scale q kᵀ."""
        panels = contiguous_panels(self.kv_len, stride=self.head * PANEL)
        _, image, row = _strides(self.k)
        for n in range(1 if self.whole else self.batch):
            strides = (image, 1, row)
            columns = pack_columns(self.b, self.k[n].ref, self.images, self.kv_len, self.head, strides)
            pitch = len(panels.table) * self.head * PANEL
            self._products(n, self.q, columns, panels, (PANEL, pitch), self.scores, scale)

    def apply(self) -> None:
        """y = scores v."""
        _, image, row = _strides(self.v)
        for n in range(1 if self.whole else self.batch):
            columns, panels, steps = self.v[n].ref, contiguous_panels(self.v_head), (row, image)
            if self.v_head < VECTOR:
                strides = (image, row, 1)
                columns = pack_columns(self.b, columns, self.images, self.v_head, self.kv_len, strides)
                panels = contiguous_panels(self.v_head, stride=self.kv_len * PANEL)
                steps = (PANEL, len(panels.table) * self.kv_len * PANEL)
            self._products(n, self.scores, columns, panels, steps, self.y, 1.0)

    def _products(
        self, n: int, a: Layout, x: Ref, panels: Panels, steps: tuple[int, int], y: Layout, scale: float
    ) -> None:
        """y = scale a x for batch `n` and every head of a group; steps: floats from k to k and image to image in x."""
        inner = a.array.shape[3]
        _, head, row = _strides(a)
        _, y_head, y_row = _strides(y)
        for g in range(1 if self.whole else self.group):
            strides = (self.group * head, row, 1)
            tiles = pack_rows(self.b, a[n, g].ref, self.images, self.rows, inner, strides, scale)
            emit(
                self.b,
                Product(
                    x=x,
                    w=tiles,
                    y=y[n, g].ref,
                    offsets=np.arange(inner, dtype=np.int64) * steps[0],
                    panels=panels,
                    rows=self.rows,
                    images=self.images,
                    groups=1,
                    inputs=inner,
                    x_strides=(steps[1], 0),
                    w_strides=(self.rows * inner, 0),
                    y_strides=(self.group * y_head, y_row, 1),
                ),
            )

    def cap(self, softcap: float) -> None:
        """scores = softcap tanh(scores)."""
        size = math.prod(self.shape)
        scores = self.scores.ref
        self.b.step("tanh_float32", chunks(size, GRAIN), scores, scores, size, GRAIN, 0.0, 0.0)
        self._walk("mul_float32", scores, self.shape, (scores, self.shape), self._constant([softcap]))

    def softmax(self) -> None:
        blocks = map_blocks(math.prod(self.shape[:-1]), self.kv_len, 1)
        self.b.step("softmax", blocks.tasks, self.scores.ref, self.scores.ref, *blocks.args, False)

    def add(self, bias: Ref, shape: Shape) -> None:
        """scores += bias."""
        scores = self.scores.ref
        self._walk("add_float32", scores, self.shape, (scores, self.shape), (bias, shape))

    def mask(self, mask: Ref, shape: Shape, visible: Array | None, *, logical: bool) -> tuple[Ref, Shape]:
        """The bias of a mask that the run brings (bools or floats) and of the keys that are visible by position."""
        if logical:
            operands = (mask, shape), self._constant([0.0]), self._constant([-np.inf])
            mask = self._walk("where_4", self.b.temp(4 * math.prod(shape)), shape, *operands)
        if visible is None:
            return mask, shape
        out = np.broadcast_shapes(shape, visible.shape)
        fixed = self._constant(np.where(visible, 0, -np.inf))
        return self._walk("add_float32", self.b.temp(4 * math.prod(out)), out, (mask, shape), fixed), out

    def blind_rows(self, bias: Ref, shape: Shape) -> tuple[Ref, Shape]:
        """Which rows of a bias are -inf throughout: bools of its shape with a last axis of 1."""
        rows: Shape = (*shape[:-1], 1)
        count = math.prod(rows)
        blocks = fold_blocks(count, shape[-1], 1, split=False)
        top = self.b.temp(4 * count)
        self.b.step(
            "reduce", blocks.tasks, top, bias, *blocks.args, blocks.part, MAX, NOTHING, float(shape[-1])
        )
        below = self._constant([-np.inf])
        return self._walk("equal_float32", self.b.temp(count), rows, (top, rows), below), rows

    def clear(self, blind: Ref, shape: Shape) -> None:
        """scores = 0 in blind rows."""
        scores = self.scores.ref
        zero = self._constant([0.0])
        self._walk("where_4", scores, self.shape, (blind, shape), zero, (scores, self.shape))

    def _constant(self, content) -> tuple[Ref, Shape]:
        array = np.asarray(content, np.float32)
        return self.b.const(array), array.shape

    def _walk(self, kernel: str, into: Ref, shape: Shape, *operands: tuple[Ref, Shape]) -> Ref:
        refs, shapes = zip(*operands, strict=True)
        emit_walk(self.b, kernel, refs, shapes, shape, into)
        return into


def _strides(x: Layout) -> tuple[int, int, int]:
    """Floats from batch to batch, head to head, row to row."""
    batch, head, row, _ = (s // 4 for s in x.array.strides)
    return batch, head, row
