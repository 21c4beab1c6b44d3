"""Concatenations, splits and orders of channels in channel-blocked layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.graph.facts import Shape
from tilewise.ops.base import Array
from tilewise.ops.layout import BLOCKED, VECTOR, block_count
from tilewise.ops.lowering import Deferred, Lowering, Ref, chunks

GRAIN = 1 << 14
"""Floats that a task writes, about."""
MOVERS = frozenset({"ChannelShuffle", "Split", "Slice"})
"""Operators that may do no more than move channels."""

Source = tuple[Ref, int]


@dataclass(slots=True, eq=False)
class ChosenChannels(Deferred):
    """A value whose channels another operator that moves channels picks from the sources themselves.

    chosen: int64 [C, 2], for each channel its source and the channel there; a source below 0 for zeros.
    sources: images in blocked layout with their numbers of channels, otherwise of the value's shape.
    """

    sources: list[Source]
    chosen: np.ndarray


def gather_channels(
    b: Lowering, into: Ref, shape: Shape, sources: Sequence[Source], chosen: np.ndarray
) -> None:
    """The step that writes a blocked value of `shape`, its channels as in `ChosenChannels`, `into` a place."""
    starts, pieces, lanes = _pieces(chosen)
    blocks, places = block_count(shape[1]), math.prod(shape[2:])
    grain = min(places, GRAIN // VECTOR)
    args = [value for ref, channels in sources for value in (ref, block_count(channels))]
    tables = b.const(starts), b.const(pieces), b.const(lanes)
    b.step(
        "blocked_channels",
        shape[0] * blocks * chunks(places, grain),
        into,
        *tables,
        blocks,
        places,
        grain,
        *args,
    )


def move_channels(b: Lowering, out: int, sources: list[Source], chosen: np.ndarray) -> None:
    """Output `out` by `gather_channels`, left to its reader where this too only moves channels."""
    shape = b.outs[out].shape

    def whole() -> None:
        gather_channels(b, b.output(out, BLOCKED), shape, sources, chosen)

    found = b.sole_reader() if len(b.outs) == 1 else None
    if found is not None and found[0].op_type in MOVERS:
        b.leave(ChosenChannels(b, whole, _no_rows, 0, sources, chosen))
    else:
        whole()


def _no_rows(image: int, first: int, last: int, into: Ref) -> None:
    raise NotImplementedError("channels are moved of whole images")


def _source(b: Lowering, i: int) -> tuple[list[Source], np.ndarray]:
    """Where the channels of input `i` are to be had."""
    deferred = b.take_deferred(i)
    if isinstance(deferred, ChosenChannels):
        return deferred.sources, deferred.chosen
    if deferred is not None:
        deferred.whole()
    count = b.ins[i].shape[1]
    return [(b.input(i, BLOCKED), count)], np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)


def _pieces(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every block of the result: its first piece, the pieces' sources and blocks, and the lanes taken of each."""
    starts, pieces, lanes = [0], [], []
    for first in range(0, len(chosen), VECTOR):
        part = chosen[first : first + VECTOR]
        blocks, which = np.unique(
            np.stack([part[:, 0], part[:, 1] // VECTOR], axis=1), axis=0, return_inverse=True
        )
        for i, block in enumerate(blocks):
            if block[0] < 0:
                continue
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
    move_channels(
        b, 0, [(b.input(i, BLOCKED), count) for i, count in enumerate(counts)], np.array(chosen, np.int64)
    )


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
    sources, lying = _source(b, 0)
    for i in wanted:
        _view(b, i, sources, lying[chosen[i]])
    return True


def _view(b: Lowering, out: int, sources: list[Source], chosen: np.ndarray) -> None:
    """The channels of output `out`, as an alias where they lie side by side from the start of a block of one image."""
    shape = b.outs[out].shape
    source, first = (int(v) for v in chosen[0])
    run = np.stack([np.full(len(chosen), source), first + np.arange(len(chosen))], axis=1)
    if shape[0] == 1 and first % VECTOR == 0 and np.array_equal(chosen, run):
        b.bind(out, sources[source][0].at(4 * first * math.prod(shape[2:])), BLOCKED)
    else:
        move_channels(b, out, sources, chosen)


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
