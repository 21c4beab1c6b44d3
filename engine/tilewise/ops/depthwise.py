"""Depthwise convolution: one input channel a group, so taps over planes and no matrix product."""

from __future__ import annotations

import numpy as np

from tilewise.ops.conv_problem import Problem
from tilewise.ops.lowering import Lowering, Ref
from tilewise.ops.tiles import VECTOR

PLANE_FLOATS = 8192
ROW_FLOATS = 4096
"""Floats that a task has for its padded rows and for its output rows."""


def is_depthwise(p: Problem) -> bool:
    """True for one input channel a group in two spatial axes."""
    return p.c == p.group and p.size[0] == p.out[0] == p.kernel[0] == 1 and not p.pad[0]


def accepts_depthwise(p: Problem, b: Lowering) -> bool:
    if not is_depthwise(p):
        return False
    return depthwise_rows(p) >= 1 and p.image.size[2] <= ROW_FLOATS - VECTOR


def depthwise_rows(p: Problem) -> int:
    """Output rows that a task's buffers hold at a time; below 1 where not even one fits."""
    pitch, halo = p.image.size[2], p.image.size[1] - p.out[1]
    per_phase = (PLANE_FLOATS - 5 * VECTOR) // (len(p.image.starts) * pitch)
    return min(per_phase - halo, (ROW_FLOATS - VECTOR) // pitch, p.out[1])


def depthwise_conv(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Blocks of rows padded and split by the stride into a small buffer, then taps of unit stride."""
    rows = depthwise_rows(p)
    pitch, halo = p.image.size[2], p.image.size[1] - p.out[1]
    phase = (rows + halo) * pitch
    image_plane = p.image.size[1] * pitch
    taps = p.image.taps // image_plane * phase + p.image.taps % image_plane
    b.step(
        "depthwise",
        p.n * p.oc,
        b.input(0),
        b.input(1),
        b.output(),
        b.optional(2),
        residual,
        p.oc,
        p.oc // p.group,
        *p.size[1:],
        *p.out[1:],
        *p.stride[1:],
        *p.pad[1:],
        p.taps,
        b.const(taps),
        rows,
        rows + halo,
        pitch,
        len(p.image.starts),
        b.const(np.ascontiguousarray(p.image.starts[:, 1:])),
        *p.activation,
    )
