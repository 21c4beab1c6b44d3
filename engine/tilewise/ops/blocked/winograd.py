"""3x3 convolution in a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, 2016)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tilewise.ops.blocked.conv import (
    accepts_blocked,
)
from tilewise.ops.blocked.product import (
    ONE_TAP,
    BlockedProduct,
    Segments,
    emit_blocked,
    flat_tiles,
    packed_bias,
)
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import BLOCKED, VECTOR, block_count
from tilewise.ops.lowering import Lowering, Ref, chunks, empty_aligned

POINTS = (0.0, 0.625, -0.625, 1.5, -1.5)
"""And infinity. With 1 and 2 in place of 0.625 and 1.5, errors are about twice as large on average, and four times at
most (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
2020, on how points are chosen)."""
WEIGHTS = np.array(
    [
        *([p**k / math.prod(p - q for q in POINTS if q != p) for k in range(3)] for p in POINTS),
        [0, 0, 1],
    ]
)
"""G of F(4, 3)."""
CHUNK_BYTES = 3 << 20
"""Transformed inputs and products that lie between two steps at a time; more where the weights, read once for every
chunk, are more."""
MIN_CHANNELS = 16
"""Below this the transforms cost more than the multiplications they save."""
INPUT_COST, OUTPUT_COST, WEIGHT_COST = 300, 240, 28
"""Cost of transforming a tile's block of channels, and of reading one more transformed weight matrix from memory, for
each weight, in multiplications of a vector."""


def accepts_winograd(p: Problem, b: Lowering) -> bool:
    shape = p.kernel == (1, 3, 3) and p.stride == (1, 1, 1) and p.size[0] == p.out[0] == 1
    return shape and p.group == 1 and not p.pad[0] and accepts_blocked(p, b)


def winograd_cost(p: Problem) -> float:
    """What the transforms and the products take, in multiplications of a vector."""
    if min(p.c, p.oc) < MIN_CHANNELS:
        return math.inf
    (down, across), blocks = residue_tiles(p), block_count(p.oc)
    tiles = p.n * down * p.dilation[1] * across * p.dilation[2]
    transforms = (INPUT_COST * block_count(p.c) + OUTPUT_COST * blocks) * tiles
    return 36 * p.c * blocks * tiles + transforms + WEIGHT_COST * VECTOR * p.c * blocks


def residue_tiles(p: Problem) -> tuple[int, int]:
    """Tiles down and across over the places of one residue of the dilation, a convolution of their own."""
    down, across = (chunks(chunks(o, d), 4) for o, d in zip(p.out[1:], p.dilation[1:], strict=True))
    return down, across


def transform_weights(w: np.ndarray) -> np.ndarray:
    """[oC, C, 3, 3] to pairs of blocks (`pack_pairs`) of G w G^T, 36 products end to end, computed in float64."""
    outs, depth = w.shape[:2]
    lanes, both = block_count(outs) * VECTOR, np.kron(WEIGHTS, WEIGHTS)
    out = empty_aligned((36, lanes * depth), np.dtype(np.float32))
    for first in range(0, outs, 2 * VECTOR):
        rows = w[first : first + 2 * VECTOR].reshape(-1, depth, 9)
        taps = np.zeros((9, depth, min(2 * VECTOR, lanes - first)))
        taps[:, :, : len(rows)] = rows.transpose(2, 1, 0)
        place = slice(first * depth, first * depth + taps[0].size)
        np.matmul(both, taps.reshape(9, -1), out=out[:, place], casting="same_kind")
    return out


def winograd_conv(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Per chunk of tile rows: 36 planes of inputs, 36 products, outputs."""
    weights = b.packed(1, "winograd 4x4", lambda: transform_weights(b.value(1)))
    x, y, bias = b.input(0, BLOCKED), b.output(0, BLOCKED), packed_bias(b)
    blocks, outs, each = block_count(p.c), block_count(p.oc), residue_tiles(p)
    across = each[1] * p.dilation[2]
    for first, rows in _chunks(p, each[0] * p.dilation[1], across):
        tiles = p.n * rows * across
        v, m = b.temp(4 * 36 * blocks * tiles * VECTOR), b.temp(4 * 36 * outs * tiles * VECTOR)
        geometry = (*p.dilation[1:], *each, first, rows, tiles)
        b.step("winograd_input", p.n * rows * blocks, v, x, blocks, *p.size[1:], *p.pad[1:], *geometry)
        emit_blocked(
            b,
            BlockedProduct(
                x=v,
                w=weights,
                y=m,
                segments=Segments.of_blocks(p.c, ONE_TAP, tiles * VECTOR),
                tiles=flat_tiles(tiles, VECTOR),
                images=36,
                groups=1,
                outs=p.oc,
                depth=p.c,
                x_floats=blocks * tiles * VECTOR,
                step=VECTOR,
                gaps=(0, 0),
                x_strides=(blocks * tiles * VECTOR, 0),
                w_strides=(p.c * outs * VECTOR, 0),
                y_strides=(outs * tiles * VECTOR, tiles * VECTOR),
            ),
        )
        tasks = p.n * rows * outs
        b.step("winograd_output", tasks, y, m, bias, residual, outs, *p.out[1:], *geometry, *p.activation)


def _chunks(p: Problem, down: int, across: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the tile rows that go together."""
    limit = max(CHUNK_BYTES, 4 * 36 * p.c * p.oc)
    each = max(1, limit // (4 * 36 * (p.c + p.oc) * p.n * across))
    each = -(-down // -(-down // each))
    for first in range(0, down, each):
        yield first, min(each, down - first)
