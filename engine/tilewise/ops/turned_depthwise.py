"""Depthwise convolution of images in plain layout that works on vectors of channels, as in blocked layout."""

from __future__ import annotations

from tilewise.ops.blocked.depthwise import MAX_ROWS, pack_taps
from tilewise.ops.blocked.product import (
    MAX_FILL,
    constant_bias,
    packed_bias,
)
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import VECTOR, block_count
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks

STAGE_FLOATS, TURNED_FLOATS = 12288, 8192
"""Floats of the buffers of a task, as in `turned_depthwise.pyx`."""
TURNED_PLACES = 128
"""Places that are turned at a time, about: as many as stay in the first-level cache beside the others."""
TASKS = 8
"""Tasks to aim for by cutting planes, whose rows in common are then turned more than once."""


def accepts_turned_depthwise(p: Problem, b: Lowering) -> bool:
    """One channel in and out a group, one plane, rows not dilated, and few enough columns for the buffers."""
    if not (b.blocks and p.constant_w and constant_bias(b)) or b.given(3):
        return False
    one_plane = p.size[0] == p.out[0] == p.kernel[0] == 1 and not p.pad[0]
    if not one_plane or p.dilation[1] > 1 or p.kernel[1] > MAX_ROWS:
        return False
    width = (p.out[2] - 1) * p.stride[2] + (p.kernel[2] - 1) * p.dilation[2] + 1
    fits = p.kernel[1] * width * VECTOR <= STAGE_FLOATS and max(p.size[2], p.out[2]) * VECTOR <= TURNED_FLOATS
    return fits and p.c == p.oc == p.group and block_count(p.c) * VECTOR <= MAX_FILL * p.c


def turned_depthwise(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Each row of x is turned and staged once a task, each row of y turned once."""
    planes = p.n * block_count(p.c)
    rows = chunks(p.out[1], min(p.out[1], chunks(TASKS, planes)))
    weights = b.packed(1, "depthwise", lambda: pack_taps(b.value(1)))
    args: list[Arg] = [b.input(0), weights, b.output(), packed_bias(b), p.c, *p.size[1:], *p.out[1:]]
    args += [*p.kernel[1:], *p.stride[1:], p.dilation[2], *p.pad[1:], rows]
    args += [_rows_at_a_time(p.size), _rows_at_a_time(p.out)]
    b.step("turned_depthwise", planes * chunks(p.out[1], rows), *args, *p.activation)


def _rows_at_a_time(size: tuple[int, int, int]) -> int:
    return min(size[1], max(1, TURNED_PLACES // size[2]))
