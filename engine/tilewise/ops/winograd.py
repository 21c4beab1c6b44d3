"""3x3 convolution in a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, 2016)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tilewise.ops.conv_problem import Problem, phase_image, phase_table
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.tiles import VECTOR, Product, contiguous_panels, emit, pack_tiles

WEIGHTS = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of F(4, 3) for the points 0, 1, -1, 2, -2 and infinity."""
CHUNK_BYTES = 3 << 20
"""Transformed inputs and products that lie between two steps at a time; more where the weights, read once for every
chunk, are more."""
MIN_CHANNELS = 32
"""Below this the transforms cost more than the multiplications they save."""


def accepts_winograd(p: Problem, b: Lowering) -> bool:
    shape = p.kernel == (1, 3, 3) and p.stride == p.dilation == (1, 1, 1) and p.size[0] == p.out[0] == 1
    if not shape or p.group != 1 or not p.constant_w or p.pad[0] or not b.has("winograd_input"):
        return False
    if min(p.c, p.oc) < MIN_CHANNELS:
        return False
    tiles = -(-p.out[1] // 4) * -(-p.out[2] // 4)
    direct = 9 * -(-p.out[1] * p.out[2] // VECTOR)
    return 36 * -(-tiles // VECTOR) * 3 <= 2 * direct


def transform_weights(w: np.ndarray) -> np.ndarray:
    """[oC, C, 3, 3] to the tiles of G w G^T, 36 products one after the other."""
    planes = np.einsum("ri,ocij,sj->rsoc", WEIGHTS, w.astype(np.float64), WEIGHTS, optimize=True)
    return pack_tiles(planes.reshape(36, w.shape[0], w.shape[1]).astype(np.float32))


def winograd_conv(b: Lowering, p: Problem, bias: Ref | int, residual: Ref | int) -> None:
    """Per chunk of tile rows: phases of the image, 36 planes of inputs, 36 products, outputs."""
    weights = b.packed(1, "winograd 4x4", lambda: transform_weights(b.value(1)))
    x, y = b.input(0), b.output()
    across = -(-p.out[2] // 4)
    for first, rows in _chunks(p, across):
        columns = -(-rows * across // VECTOR) * VECTOR
        total = p.n * columns
        v, m = b.temp(4 * 36 * p.c * total), b.temp(4 * 36 * p.oc * total)
        _input(b, p, x, v, first, rows, across, columns)
        emit(
            b,
            Product(
                x=v,
                w=weights,
                y=m,
                offsets=np.arange(p.c, dtype=np.int64) * total,
                panels=contiguous_panels(total),
                rows=p.oc,
                images=36,
                groups=1,
                inputs=p.c,
                x_strides=(p.c * total, 0),
                w_strides=(p.oc * p.c, 0),
                y_strides=(p.oc * total, total, 1),
            ),
        )
        grain = max(1, 32 // -(-columns // VECTOR))
        tasks = p.n * chunks(p.oc, grain)
        sizes = (p.oc, *p.out[1:], first, rows, across, columns, total, grain)
        b.step("winograd_output", tasks, y, m, bias, residual, *sizes, *p.activation)


def _chunks(p: Problem, across: int) -> Iterator[tuple[int, int]]:
    """(first, count) of the tile rows that go together."""
    down = -(-p.out[1] // 4)
    limit = max(CHUNK_BYTES, 4 * 36 * p.c * p.oc)
    each = max(1, limit // (4 * 36 * (p.c + p.oc) * p.n * across))
    each = -(-down // -(-down // each))
    for first in range(0, down, each):
        yield first, min(each, down - first)


def _input(b: Lowering, p: Problem, x: Ref, v: Ref, first: int, rows: int, across: int, columns: int) -> None:
    """The steps from the image to `v`: phase (r, s) holds every fourth row from r and every fourth column from s."""
    corner = np.array([0, 4 * first - p.pad[1], -p.pad[2]])
    phases = np.array([(0, r, s) for r in range(4) for s in range(6)]) + corner
    plane = (rows + 1) * across
    table = phase_table(phases, 4, p.size[2], across)
    phased = phase_image(b, x, p.n * p.c, p.size, (1, 4, 4), (1, rows + 1, across), table, grain=8192)
    at = [((r % 4) * 6 + s) * plane + r // 4 * across for r in range(6) for s in range(6)]
    grain = max(1, 32 // -(-columns // VECTOR))
    offsets = b.const(np.array(at, np.int64))
    tasks = p.n * chunks(p.c, grain)
    b.step("winograd_input", tasks, v, phased, offsets, p.c, columns, 24 * plane, p.n * columns, grain)
