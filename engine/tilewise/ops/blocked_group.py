"""Convolution in groups narrower than a vector, in channel-blocked layout."""

from __future__ import annotations

import numpy as np

from tilewise.ops.blocked_conv import constant_bias, packed_bias
from tilewise.ops.blocked_depthwise import MAX_ROWS, stage_columns
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import BLOCKED, VECTOR, block_count
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks, empty_aligned

TASK_PLACES = 512
"""Places that a task writes, about."""


def accepts_blocked_group(p: Problem, b: Lowering) -> bool:
    """As many channels in as out in each group, and whole groups in a vector."""
    width = p.c // p.group
    if not (b.blocks and p.constant_w and constant_bias(b)):
        return False
    if p.c != p.oc or not 1 < width < VECTOR or VECTOR % width:
        return False
    one_plane = p.size[0] == p.out[0] == p.kernel[0] == 1 and not p.pad[0]
    return one_plane and p.kernel[1] <= MAX_ROWS and stage_columns(p) >= 1


def blocked_group(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Several whole groups to a vector; x is read as it lies."""
    blocks, width = block_count(p.c), p.c // p.group
    columns = -(-p.out[2] // chunks(p.out[2], stage_columns(p)))
    rows = max(1, min(p.out[1], TASK_PLACES // columns))
    weights = b.packed(1, "narrow groups", lambda: pack_narrow(b.value(1)))
    tasks = p.n * blocks * chunks(p.out[1], rows) * chunks(p.out[2], columns)
    args: list[Arg] = [b.input(0, BLOCKED), weights, b.output(0, BLOCKED), packed_bias(b), residual, blocks]
    args += [
        *p.size[1:],
        *p.out[1:],
        *p.kernel[1:],
        *p.stride[1:],
        *p.dilation[1:],
        *p.pad[1:],
        rows,
        columns,
    ]
    b.step("blocked_group", tasks, *args, width, *p.activation)


def pack_narrow(w: np.ndarray) -> np.ndarray:
    """(C, width, *K) as [block][tap][j][VECTOR]: in lane m, what channel m gives to the one j behind it in its group."""
    c, width = w.shape[:2]
    taps = w.reshape(c, width, -1).swapaxes(1, 2)
    lane = np.arange(c)
    turned = [taps[lane // width * width + (lane - j) % width, :, lane % width] for j in range(width)]
    out = empty_aligned((block_count(c), taps.shape[1], width, VECTOR), np.dtype(np.float32))
    full = np.zeros((block_count(c) * VECTOR, taps.shape[1], width), np.float32)
    full[:c] = np.stack(turned, axis=2)
    out[...] = full.reshape(-1, VECTOR, taps.shape[1], width).transpose(0, 2, 3, 1)
    return out
