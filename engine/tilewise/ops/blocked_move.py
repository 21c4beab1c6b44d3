"""Concatenations, splits and orders of channels in channel-blocked layout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tilewise.graph.facts import Shape
from tilewise.ops.base import Array
from tilewise.ops.layout import BLOCKED, VECTOR, block_count
from tilewise.ops.lowering import Lowering, Ref, chunks

GRAIN = 1 << 14
"""Floats that a task writes, about."""


def move_channels(b: Lowering, out: int, sources: Sequence[tuple[Ref, int]], chosen: np.ndarray) -> None:
    """Channel c of output `out` is that of chosen[c] = (source, its channel).

    sources: images in blocked layout with all other dims like the output's, each with its number of channels.
    """
    shape = b.outs[out].shape
    starts, pieces, lanes = _pieces(chosen)
    blocks, places = block_count(shape[1]), math.prod(shape[2:])
    grain = min(places, GRAIN // VECTOR)
    args = [value for ref, channels in sources for value in (ref, block_count(channels))]
    tables = b.const(starts), b.const(pieces), b.const(lanes)
    tasks = shape[0] * blocks * chunks(places, grain)
    b.step("blocked_channels", tasks, b.output(out, BLOCKED), *tables, blocks, places, grain, *args)


def _pieces(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every block of the result: its first piece, the pieces' sources and blocks, and the lanes taken of each."""
    starts, pieces, lanes = [0], [], []
    for first in range(0, len(chosen), VECTOR):
        part = chosen[first : first + VECTOR]
        blocks, which = np.unique(
            np.stack([part[:, 0], part[:, 1] // VECTOR], axis=1), axis=0, return_inverse=True
        )
        for i, block in enumerate(blocks):
            taken = np.flatnonzero(which.ravel() == i)
            lane = np.full(VECTOR, -1, np.int32)
            lane[taken] = part[taken, 1] % VECTOR
            pieces.append(block)
            lanes.append(lane)
        starts.append(len(pieces))
    return np.array(starts, np.int64), np.array(pieces, np.int64), np.array(lanes, np.int32)


def concat_channels(b: Lowering) -> None:
    """All inputs one after the other, whatever their numbers of channels."""
    counts = [f.shape[1] for f in b.ins]
    chosen = [(i, c) for i, count in enumerate(counts) for c in range(count)]
    sources = [(b.input(i, BLOCKED), count) for i, count in enumerate(counts)]
    move_channels(b, 0, sources, np.array(chosen, np.int64))


def view_channels(b: Lowering, image: Array, views: Sequence[Array]) -> bool:
    """Outputs that are `views` of input 0 and only choose and order its channels, each an alias where it can be.

    image: stands for input 0; not read.
    """
    chosen = [_channels(image, view) if b.wants(i) else None for i, view in enumerate(views)]
    wanted = [i for i in range(len(views)) if b.wants(i)]
    for i in wanted:
        found = chosen[i]
        if found is None or b.outs[i].shape != (image.shape[0], len(found), *image.shape[2:]):
            return False
    for i in wanted:
        _view(b, i, image.shape, chosen[i])
    return True


def _view(b: Lowering, out: int, shape: Shape, channels: np.ndarray | None) -> None:
    assert channels is not None
    first = int(channels[0])
    in_order = np.array_equal(channels, first + np.arange(len(channels)))
    if in_order and first % VECTOR == 0 and shape[0] == 1:
        b.alias(out, 0, 4 * first * math.prod(shape[2:]), BLOCKED)
        return
    chosen = np.stack([np.zeros_like(channels), channels], axis=1)
    move_channels(b, out, [(b.input(0, BLOCKED), shape[1])], chosen)


def _channels(image: Array, view: Array) -> np.ndarray | None:
    """The channels of `image` (N, C, *S) in the order in which `view` has them, None where it does more."""
    places = image.ndim - 2
    inner = view.ndim - places
    if inner < 2 or view.shape[0] != image.shape[0] or view.shape[inner:] != image.shape[2:]:
        return None
    dims = [(view.shape[0], view.strides[0], image.strides[0])]
    dims += list(zip(view.shape[inner:], view.strides[inner:], image.strides[2:], strict=True))
    plane = image.strides[1]
    offset = view.__array_interface__["data"][0] - image.__array_interface__["data"][0]
    steps = view.strides[1:inner]
    if any(size > 1 and a != b for size, a, b in dims) or any(s % plane for s in (offset, *steps)):
        return None
    index = np.full(1, offset // plane, np.int64)
    for size, step in zip(view.shape[1:inner], steps, strict=True):
        index = (index[:, None] + np.arange(size) * (step // plane)).ravel()
    return index
