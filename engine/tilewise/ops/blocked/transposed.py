"""Transposed convolution in channel-blocked layout: each phase of the output a product of its own, no scatter."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product as cartesian
from typing import TYPE_CHECKING

import numpy as np

from tilewise.ops.blocked.conv import (
    ROW_FLOATS,
)
from tilewise.ops.blocked.product import (
    MAX_FILL,
    BlockedProduct,
    Segments,
    Taps,
    constant_bias,
    emit_blocked,
    pack_pairs,
    packed_bias,
)
from tilewise.ops.layout import BLOCKED, VECTOR, block_count
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.tiles import TILE_ROWS

if TYPE_CHECKING:
    from tilewise.ops.transposed import Axis, Phase

Triple = tuple["Phase", ...]


def accepts_blocked_transposed(b: Lowering, group: int) -> bool:
    """As `accepts_blocked` for convolutions, where x lies blocked."""
    depth, outs = b.ins[1].shape[0] // group, b.ins[1].shape[1]
    if not (b.lies_blocked(0) and constant_bias(b)):
        return False
    if group > 1:
        return outs % VECTOR == 0 and depth % VECTOR == 0
    return block_count(outs) * VECTOR <= MAX_FILL * outs


def blocked_transposed(b: Lowering, axes: Sequence[Axis], group: int) -> None:
    """One product for each phase along D, H and W, all of one image with zeros around it where need be."""
    n, c = b.ins[0].shape[:2]
    outs, depth = b.ins[1].shape[1], c // group
    phases = [axis.phases() for axis in axes]
    reach = [[s for p in ps for s in p.shifts] or [0] for ps in phases]
    before = [max(0, -min(r)) for r in reach]
    size = [
        max([a.size, *(p.count + max(p.shifts) for p in ps if p.shifts)]) + pad
        for a, ps, pad in zip(axes, phases, before, strict=True)
    ]
    image = _image(b, axes, size, before, n * block_count(c))
    plane = size[0] * size[1] * size[2] * VECTOR
    places = axes[0].out * axes[1].out * axes[2].out
    weights = b.value(1).reshape(group, depth, outs, *[a.kernel for a in axes])
    for triple in cartesian(*phases):
        shifts = [[s + pad for s in p.shifts] for p, pad in zip(triple, before, strict=True)]
        taps = np.array([(d * size[1] + h) * size[2] + w for d, h, w in cartesian(*shifts)], np.int64)
        segments = Segments.of_blocks(depth, Taps(taps, np.arange(len(taps)), len(taps)), plane)
        x_group = block_count(depth) * plane
        emit_blocked(
            b,
            BlockedProduct(
                x=image,
                w=b.packed(
                    1, f"pairs of phase {triple} of group {group}", partial(_pack_phase, weights, triple)
                ),
                y=b.output(0, BLOCKED),
                segments=segments,
                tiles=_tiles(triple, axes, size),
                images=n,
                groups=group,
                outs=outs,
                depth=depth * len(taps),
                x_floats=x_group,
                step=VECTOR,
                gaps=(0, 0),
                x_strides=(x_group * group, x_group),
                w_strides=(0, depth * len(taps) * block_count(outs) * VECTOR),
                y_strides=(block_count(outs) * group * places * VECTOR, places * VECTOR),
                bias=packed_bias(b),
                y_step=axes[2].stride * VECTOR,
            ),
        )


def _image(b: Lowering, axes: Sequence[Axis], size: Sequence[int], before: Sequence[int], planes: int) -> Ref:
    """x with `before` zeros before it and as many behind as make it `size`."""
    x, given = b.input(0, BLOCKED), [a.size for a in axes]
    if list(size) == given:
        return x
    row, rows = size[2] * VECTOR, planes * size[0] * size[1]
    padded, grain = b.temp(4 * rows * row), max(1, ROW_FLOATS // row)
    b.step("blocked_pad", chunks(rows, grain), padded, x, *given, *size, *before, grain, planes)
    return padded


def _tiles(triple: Triple, axes: Sequence[Axis], size: Sequence[int]) -> np.ndarray:
    """Tiles over the outputs of a phase, row by row: see `BlockedProduct`."""
    depth, height, width = (p.count for p in triple)
    count = chunks(width, TILE_ROWS)
    cuts = np.arange(count + 1) * width // count
    d, h, q = (
        a.ravel() for a in np.meshgrid(np.arange(depth), np.arange(height), np.arange(count), indexing="ij")
    )
    at = ((d * size[1] + h) * size[2] + cuts[q]) * VECTOR
    z, y, x = (p.first + v * a.stride for p, v, a in zip(triple, (d, h, cuts[q]), axes, strict=True))
    to = ((z * axes[1].out + y) * axes[2].out + x) * VECTOR
    return np.stack([at, to, cuts[q + 1] - cuts[q], np.zeros_like(at)], axis=1)


def _pack_phase(weights: np.ndarray, triple: Triple) -> np.ndarray:
    """(group, depth, outs, kD, kH, kW) to the packed weights of one phase's taps."""
    chosen = weights[:, :, :, triple[0].taps][:, :, :, :, triple[1].taps][..., triple[2].taps]
    group, depth, outs = chosen.shape[:3]
    return pack_pairs(chosen.swapaxes(1, 2).reshape(group * outs, depth, -1), group)
