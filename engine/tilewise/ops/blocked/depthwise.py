"""Depthwise convolution in channel-blocked layout: a vector holds the channels of one place."""

from __future__ import annotations

import numpy as np

from tilewise.ops.blocked.product import (
    MAX_FILL,
    constant_bias,
    packed_bias,
)
from tilewise.ops.blocked.strips import reader_is_pointwise, strips
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import BLOCKED, VECTOR, block_count, blocked_floats
from tilewise.ops.lowering import Arg, Deferred, Lowering, Ref, aligned, chunks

TASK_PLACES = 1024
"""Places that a task writes, about."""
STAGE_FLOATS, MAX_ROWS = 8192, 32
"""Floats and rows of the buffer of a task, as in `blocked.pyx`."""


def accepts_blocked_depthwise(p: Problem, b: Lowering) -> bool:
    if not (b.blocks and p.constant_w and constant_bias(b)):
        return False
    one_plane = p.size[0] == p.out[0] == p.kernel[0] == 1 and not p.pad[0]
    if not one_plane or p.kernel[1] > MAX_ROWS or stage_columns(p) < 1:
        return False
    return p.c == p.oc == p.group and block_count(p.c) * VECTOR <= MAX_FILL * p.c


def stage_columns(p: Problem) -> int:
    """Output columns whose staged rows fit the buffer of a task; below 1 where not even one does."""
    places = STAGE_FLOATS // VECTOR // p.kernel[1]
    return (places - (p.kernel[2] - 1) * p.dilation[2] - 1) // p.stride[2] + 1


def blocked_depthwise(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """One input channel a group: taps over vectors of channels, x read as it lies.

    After a deferred 1x1 convolution, or before another one, it works strip by strip.
    """
    before = b.take_deferred(0)
    if residual or not reader_is_pointwise(b):
        _by_strips(b, p, residual, before)
        return

    def rows(image: int, first: int, last: int, into: Ref) -> None:
        _rows(b, p, before, (image, first, last), (into, 0), compact=True)

    if before is None:
        b.input(0, BLOCKED)
    read = 0 if before is None else before.row_floats * p.stride[1]
    written = blocked_floats((1, p.oc, 1, p.out[2]))
    b.defer(lambda: _by_strips(b, p, 0, before), rows, read + written)


def _by_strips(b: Lowering, p: Problem, residual: Ref | int, before: Deferred | None) -> None:
    """All of y, in strips where x is made on the way."""
    cuts = [] if before is None else strips(p.n, p.out[1], before.row_floats * p.stride[1])
    y = b.output(0, BLOCKED)
    if before is not None and len(cuts) > 1:
        for cut in cuts:
            _rows(b, p, before, cut, (y, residual))
        return
    if before is not None:
        before.lowering.steps = b.steps
        before.whole()
    _step(b, p, (b.input(0, BLOCKED), p.size[1], p.pad[1]), (y, residual), p.n, p.out[1], p.out[1])


def _rows(
    b: Lowering,
    p: Problem,
    before: Deferred | None,
    strip: tuple[int, int, int],
    y: tuple[Ref, Ref | int],
    *,
    compact: bool = False,
) -> None:
    """Rows [first, last) of an image of y; compact: y holds these alone."""
    image, first, last = strip
    top = first * p.stride[1] - p.pad[1]
    low = min(max(top, 0), p.size[1] - 1)
    high = max(
        low + 1,
        min(p.size[1], top + (last - 1 - first) * p.stride[1] + (p.kernel[1] - 1) * p.dilation[1] + 1),
    )
    if before is None:
        x = b.input(0, BLOCKED).at(4 * image * blocked_floats((1, p.c, *p.size)))
        rows, pad = p.size[1], -top
    else:
        rows, pad = high - low, low - top
        x = b.temp(4 * blocked_floats((1, p.c, rows, p.size[2])))
        before.lowering.steps = b.steps
        before.rows(image, low, high, x)
    if compact:
        _step(b, p, (x, rows, pad), y, 1, last - first, last - first)
        return
    place = 4 * (image * blocked_floats((1, p.oc, *p.out)) + first * p.out[2] * VECTOR)
    residual = y[1].at(place) if isinstance(y[1], Ref) else 0
    _step(b, p, (x, rows, pad), (y[0].at(place), residual), 1, last - first, p.out[1])


def _step(
    b: Lowering,
    p: Problem,
    x: tuple[Ref, int, int],
    y: tuple[Ref, Ref | int],
    images: int,
    rows: int,
    height: int,
) -> None:
    """The kernel step for `rows` rows of planes of `height` rows of y; x: where it lies, its rows and its pad above."""
    blocks = block_count(p.c)
    columns = -(-p.out[2] // chunks(p.out[2], stage_columns(p)))
    grain = max(1, min(rows, TASK_PLACES // columns))
    weights = b.packed(1, "depthwise", lambda: pack_taps(b.value(1)))
    tasks = images * blocks * chunks(rows, grain) * chunks(p.out[2], columns)
    args: list[Arg] = [x[0], weights, y[0], packed_bias(b), y[1], blocks, x[1], p.size[2], rows, p.out[2]]
    args += [*p.kernel[1:], *p.stride[1:], *p.dilation[1:], x[2], p.pad[2], grain, columns, *p.activation]
    b.step("blocked_depthwise", tasks, *args, height * p.out[2] * VECTOR)


def pack_taps(w: np.ndarray) -> np.ndarray:
    """(C, 1, kH, kW) as [block][kH][kW][VECTOR]."""
    c = w.shape[0]
    full = np.zeros((block_count(c) * VECTOR, w[0].size), np.float32)
    full[:c] = w.reshape(c, -1)
    return aligned(full.reshape(-1, VECTOR, w[0].size).swapaxes(1, 2))
