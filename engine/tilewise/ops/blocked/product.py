"""Products in channel-blocked layout, which convolutions are made of: the arguments of kernel `blocked_conv`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import VECTOR, block_count, pack_channels
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks, empty_aligned
from tilewise.ops.tiles import TILE_ROWS, cut_tasks

MAX_FILL = 1.5
"""Output channels with the filled-up lanes over those without, at most."""


def constant_bias(b: Lowering) -> bool:
    return not b.given(2) or b.value(2) is not None


def packed_bias(b: Lowering) -> Ref | int:
    """The bias filled up to whole blocks, or 0."""
    return b.packed(2, "channels", lambda: pack_channels(b.value(2))) if b.given(2) else 0


def pack_pairs(w: np.ndarray, group: int) -> np.ndarray:
    """w (oC, C / group, *K) as [g][pair of blocks][block of C][tap][c][block][VECTOR], a last odd block alone."""
    outs, depth, taps = w.shape[0] // group, w.shape[1], int(np.prod(w.shape[2:]))
    k, whole, lanes = depth * taps, depth // VECTOR * VECTOR, block_count(outs) * VECTOR
    w = w.reshape(group, outs, depth, taps)
    out = empty_aligned((group, lanes * k), np.dtype(np.float32))
    for first in range(0, outs, 2 * VECTOR):
        rows, width = w[:, first : first + 2 * VECTOR], min(2 * VECTOR, lanes - first)
        count = rows.shape[1]
        pair = out[:, first * k : (first + width) * k].reshape(group, k, width)
        blocks, tail, fill = (
            pair[:, : whole * taps, :count],
            pair[:, whole * taps :, :count],
            pair[:, :, count:],
        )
        rows = rows.transpose(0, 3, 2, 1)
        by_block = rows[:, :, :whole].reshape(group, taps, whole // VECTOR, VECTOR, count)
        blocks.reshape(group, whole // VECTOR, taps, VECTOR, count)[...] = by_block.swapaxes(1, 2)
        tail.reshape(group, taps, depth - whole, count)[...] = rows[:, :, whole:]
        fill[...] = 0
    return out


def packed_pairs(b: Lowering, group: int) -> Ref:
    """The weights as `pack_pairs` has them; the name says the groups, for another node may share the weights alone."""
    return b.packed(1, f"pairs of {group} groups", lambda: pack_pairs(b.value(1), group))


@dataclass(frozen=True, slots=True)
class Segments:
    """The runs of neighbouring channels that make up a sum.

    offsets: where each lies, in floats from the first tap of an output's place. before: how many channels stand before
    it in the weights. full: how many have `channels` channels; the others have `tail`.
    """

    offsets: np.ndarray
    before: np.ndarray
    full: int
    channels: int
    tail: int

    @staticmethod
    def of_blocks(depth: int, taps: Taps, plane: int) -> Segments:
        """Over the blocks of `depth` channels, `plane` floats apart."""
        blocks, tail = block_count(depth), depth % VECTOR
        offsets = np.arange(blocks)[:, None] * plane + taps.places * VECTOR
        size = np.full(blocks, VECTOR)
        size[depth // VECTOR :] = tail
        before = (np.arange(blocks) * VECTOR * taps.all)[:, None] + taps.order * size[:, None]
        return Segments(offsets.ravel(), before.ravel(), depth // VECTOR * len(taps.order), VECTOR, tail)

    @staticmethod
    def of_planes(depth: int, taps: Taps, plane: int, run: int) -> Segments:
        """Over `depth` channels in plain layout, `plane` floats apart, every `run` taps side by side."""
        offsets = np.arange(depth)[:, None] * plane + taps.places[::run]
        before = np.arange(depth)[:, None] * taps.all + taps.order[::run]
        return Segments(offsets.ravel(), before.ravel(), offsets.size, run, 0)


@dataclass(frozen=True, slots=True)
class Taps:
    """Taps of a window: how many places each lies from the first, where each stands among `all`."""

    places: np.ndarray
    order: np.ndarray
    all: int

    @staticmethod
    def of(p: Problem, ranges: Sequence[tuple[int, int]], size: Sequence[int]) -> Taps:
        """Those with indices in `ranges` along each axis, over an image of `size`."""
        d, h, w = np.meshgrid(*(np.arange(lo, hi) for lo, hi in ranges), indexing="ij")
        order = ((d * p.kernel[1] + h) * p.kernel[2] + w).ravel()
        d, h, w = ((k - lo) * by for k, (lo, _), by in zip((d, h, w), ranges, p.dilation, strict=True))
        return Taps(((d * size[1] + h) * size[2] + w).ravel(), order, p.taps)


ONE_TAP = Taps(np.zeros(1, np.int64), np.zeros(1, np.int64), 1)


@dataclass(frozen=True, slots=True)
class BlockedProduct:
    """y[n, g, block, place] = act(sum over segments of w * x + bias + residual), see kernel `blocked_conv`.

    tiles: int64 [., 4]: x offset, y offset, places, and 1 where these are two runs. depth: channels times taps in w.
    x_floats: floats of x that all
    tiles read in one image and group. x/w_strides: image, group. y_strides: image, block.
    y_step: floats from place to place in y; other than VECTOR only without an activation beyond clipping.
    """

    x: Ref
    w: Ref
    y: Ref
    segments: Segments
    tiles: np.ndarray
    images: int
    groups: int
    outs: int
    depth: int
    x_floats: int
    step: int
    gaps: tuple[int, int]
    x_strides: tuple[int, int]
    w_strides: tuple[int, int]
    y_strides: tuple[int, int]
    bias: Ref | int = 0
    residual: Ref | int = 0
    activation: tuple[int, float, float] = (0, 0.0, 0.0)
    y_step: int = VECTOR


def emit_blocked(b: Lowering, p: BlockedProduct) -> None:
    """The kernel step of a product in blocked layout."""
    s, blocks = p.segments, block_count(p.outs)
    pairs, count = chunks(blocks, 2), len(p.tiles)
    w_floats = (s.full * s.channels + (len(s.offsets) - s.full) * s.tail) * blocks * VECTOR
    flops = 2 * w_floats * int(p.tiles[:, 2].sum())
    per_tile, per_pair = cut_tasks(p.images * p.groups, count, pairs, p.x_floats, w_floats, flops)
    tasks = p.images * p.groups * chunks(count, per_tile) * chunks(pairs, per_pair)
    args: list[Arg] = [
        p.x,
        p.w,
        b.const(np.concatenate([s.offsets, s.before])),
        p.y,
        p.bias,
        p.residual,
        b.const(p.tiles),
        p.groups,
        blocks,
    ]
    args += [count, per_tile, per_pair, len(s.offsets), s.full, s.channels, s.tail, p.step, *p.gaps]
    args += [p.y_strides[1], *p.x_strides, *p.w_strides, p.y_strides[0], *p.activation, p.depth]
    args += [int(w_floats > p.x_floats), p.y_step]
    b.step("blocked_conv", tasks, *args)


def flat_tiles(places: int, unit: int) -> np.ndarray:
    """Tiles over places that lie side by side in x and in y."""
    count = chunks(places, TILE_ROWS)
    cuts = np.arange(count + 1) * places // count
    return np.stack([cuts[:-1] * unit, cuts[:-1] * VECTOR, np.diff(cuts), np.zeros_like(cuts[1:])], axis=1)
