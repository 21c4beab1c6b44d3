"""Convolution in groups that do not fill whole vectors, in channel-blocked layout."""

from __future__ import annotations

import math

import numpy as np

from tilewise.ops.blocked.conv import (
    is_pointwise,
)
from tilewise.ops.blocked.depthwise import MAX_ROWS, stage_columns
from tilewise.ops.blocked.move import gather_channels, move_channels
from tilewise.ops.blocked.product import (
    MAX_FILL,
    ONE_TAP,
    BlockedProduct,
    Segments,
    constant_bias,
    emit_blocked,
    flat_tiles,
    packed_bias,
    packed_pairs,
)
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import BLOCKED, VECTOR, block_count, pack_blocked
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks, empty_aligned

TASK_PLACES = 512
"""Places that a task writes, about."""
GROUP_COST = 1.3
"""What a multiplication takes here, in those of the plain product, which reads less for each."""


def accepts_blocked_group(p: Problem, b: Lowering) -> bool:
    """As many channels in as out in each group, and whole groups in a vector."""
    width = p.c // p.group
    if not (b.blocks and p.constant_w and constant_bias(b)):
        return False
    if p.c != p.oc or not 1 < width < VECTOR or VECTOR % width:
        return False
    one_plane = p.size[0] == p.out[0] == p.kernel[0] == 1 and not p.pad[0]
    return one_plane and p.kernel[1] <= MAX_ROWS and stage_columns(p) >= 1


def group_cost(p: Problem) -> float:
    """Multiplications of a vector, each at the price of one of the plain product."""
    return GROUP_COST * p.n * block_count(p.c) * (p.c // p.group) * p.taps * p.out[1] * p.out[2]


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
    """(C, width, *K) as [block][tap][j][VECTOR]: what channel m gives to the j-th of its group, in lane m."""
    c, width = w.shape[:2]
    taps = w.reshape(c, width, -1).swapaxes(1, 2)
    lane = np.arange(c)
    turned = [taps[lane // width * width + (lane - j) % width, :, lane % width] for j in range(width)]
    out = empty_aligned((block_count(c), taps.shape[1], width, VECTOR), np.dtype(np.float32))
    full = np.zeros((block_count(c) * VECTOR, taps.shape[1], width), np.float32)
    full[:c] = np.stack(turned, axis=2)
    out[...] = full.reshape(-1, VECTOR, taps.shape[1], width).transpose(0, 2, 3, 1)
    return out


def accepts_ragged_group(p: Problem, b: Lowering) -> bool:
    """Pointwise, in groups that lie across blocks."""
    if not (b.blocks and p.constant_w and constant_bias(b) and p.group > 1 and is_pointwise(p)):
        return False
    outs = p.oc // p.group
    return block_count(outs) * VECTOR <= MAX_FILL * outs


def ragged_group(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Groups are moved apart to whole blocks, multiplied, and moved together again."""
    depth, outs = p.c // p.group, p.oc // p.group
    places = p.out[0] * p.out[1] * p.out[2]
    plane = places * VECTOR
    x = _apart(b, b.input(0, BLOCKED), p, depth)
    y = b.output(0, BLOCKED) if outs % VECTOR == 0 else b.temp(4 * p.n * p.group * block_count(outs) * plane)
    blocks = block_count(outs) * p.group
    emit_blocked(
        b,
        BlockedProduct(
            x=x,
            w=packed_pairs(b, p.group),
            y=y,
            segments=Segments.of_blocks(depth, ONE_TAP, plane),
            tiles=flat_tiles(places, VECTOR),
            images=p.n,
            groups=p.group,
            outs=outs,
            depth=depth,
            x_floats=block_count(depth) * plane,
            step=VECTOR,
            gaps=(0, 0),
            x_strides=(block_count(depth) * p.group * plane, block_count(depth) * plane),
            w_strides=(0, depth * block_count(outs) * VECTOR),
            y_strides=(blocks * plane, plane),
            bias=b.packed(2, f"channels of {p.group} groups", lambda: _pack_bias(b.value(2), p.group))
            if b.given(2)
            else 0,
            residual=residual if isinstance(residual, int) else _apart(b, residual, p, outs),
            activation=p.activation,
        ),
    )
    if outs % VECTOR:
        lane = np.arange(p.oc)
        together = lane // outs * block_count(outs) * VECTOR + lane % outs
        move_channels(b, 0, [(y, blocks * VECTOR)], np.stack([np.zeros_like(lane), together], axis=1))


def _apart(b: Lowering, x: Ref, p: Problem, width: int) -> Ref:
    """A value of groups of `width` channels with each group brought to whole blocks."""
    if width % VECTOR == 0:
        return x
    filled = block_count(width) * VECTOR
    channel = np.arange(p.group * filled)
    taken = channel % filled < width
    chosen = np.stack([np.where(taken, 0, -1), channel // filled * width + channel % filled], axis=1)
    shape = (p.n, p.group * filled, *p.out)
    apart = b.temp(4 * math.prod(shape))
    gather_channels(b, apart, shape, [(x, p.group * width)], chosen)
    return apart


def _pack_bias(bias: np.ndarray, group: int) -> np.ndarray:
    return pack_blocked(bias.reshape(group, -1, 1)).ravel()
