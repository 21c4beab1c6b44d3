"""Convolution in channel-blocked layout: nothing is moved between one and the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as cartesian

import numpy as np

from tilewise.ops.blocked.product import (
    MAX_FILL,
    ONE_TAP,
    BlockedProduct,
    Segments,
    Taps,
    constant_bias,
    emit_blocked,
    flat_tiles,
    pack_pairs,
    packed_bias,
    packed_pairs,
)
from tilewise.ops.blocked.strips import reader_is_depthwise, strips
from tilewise.ops.conv_problem import Problem, phase_image, phase_table
from tilewise.ops.layout import BLOCKED, VECTOR, block_count, blocked_floats
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.tiles import TILE_ROWS

REGION_GAIN = 0.8
"""Share of the cost, at most, that is left when taps in the padding are left out, for this to be done."""
SHORT_ROW = 6
"""Places below which a row takes no less time."""
ROW_FLOATS = 16384
"""Floats that a task of padding writes, about."""


def accepts_blocked(p: Problem, b: Lowering) -> bool:
    if not (b.blocks and p.constant_w and constant_bias(b)):
        return False
    outs, depth = p.oc // p.group, p.c // p.group
    if p.group > 1:
        return outs % VECTOR == 0 and depth % VECTOR == 0
    return block_count(outs) * VECTOR <= MAX_FILL * outs


def blocked_cost(p: Problem) -> float:
    """Multiplications of a vector that the direct sum takes, taps in the padding left out where this is done."""
    depth, places = p.c // p.group * p.taps, p.out[0] * p.out[1] * p.out[2]
    return depth * p.group * block_count(p.oc // p.group) * p.n * places * _live_share(p)


@dataclass(frozen=True, slots=True)
class Region:
    """Outputs [start, stop) along each axis that all read the taps [first, last) along it."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    taps: tuple[tuple[int, int], ...]

    @property
    def out(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def cost(self) -> int:
        """Outputs times taps, short rows counted as longer ones, which take as long."""
        depth, height, width = self.out
        return depth * height * max(width, SHORT_ROW) * math.prod(b - a for a, b in self.taps)


def live_regions(p: Problem) -> list[Region]:
    """The outputs by the taps that read inside x; all others would add zeros."""
    axes = []
    for i in range(3):
        at = np.arange(p.out[i]) * p.stride[i] - p.pad[i]
        first = np.clip(-(at // p.dilation[i]), 0, p.kernel[i])
        last = np.clip(-((at - p.size[i]) // p.dilation[i]), first, p.kernel[i])
        cuts = np.flatnonzero(np.diff(first) | np.diff(last)) + 1
        starts, stops = [0, *cuts.tolist()], [*cuts.tolist(), p.out[i]]
        axes.append([(a, b, int(first[a]), int(last[a])) for a, b in zip(starts, stops, strict=True)])
    regions = []
    for axis in cartesian(*axes):
        start, stop, lo, hi = zip(*axis, strict=True)
        regions.append(Region(start, stop, tuple(zip(lo, hi, strict=True))))
    return regions


def _everything(p: Problem) -> Region:
    return Region((0, 0, 0), p.out, tuple((0, k) for k in p.kernel))


def _live_share(p: Problem) -> float:
    """Share of the cost that is left without the taps in the padding; 1 where that is not worth it."""
    share = sum(r.cost for r in live_regions(p)) / _everything(p).cost
    return share if share <= REGION_GAIN else 1.0


@dataclass(frozen=True, slots=True)
class Image:
    """The image that the taps of a convolution read: where it lies, D, H, W of a plane, floats from place to
    place, and how far its start lies before that of x."""

    ref: Ref
    size: tuple[int, int, int]
    unit: int
    begin: tuple[int, int, int]

    @property
    def plane(self) -> int:
        return self.size[0] * self.size[1] * self.size[2] * self.unit


def row_tiles(
    r: Region, p: Problem, size: Sequence[int], unit: int, begin: Sequence[int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Tiles over the outputs of a region row by row, short rows two by two; and the gaps between these two.

    size: D, H, W of the image, `unit` floats a place. begin: how far its start lies before that of x.
    """
    depth, height, width = r.out
    count = chunks(width, TILE_ROWS)
    cuts = np.arange(count + 1) * width // count
    two = width <= TILE_ROWS // 2 and height > 1
    tops = np.arange(0, height, 2 if two else 1)
    d, h, q = (a.ravel() for a in np.meshgrid(np.arange(depth), tops, np.arange(count), indexing="ij"))
    double = np.where(two & (h + 1 < height), 1, 0)
    places = (cuts[q + 1] - cuts[q]) * (1 + double)
    z, y, x = (v + first for v, first in zip((d, h, cuts[q]), r.start, strict=True))
    to = ((z * p.out[1] + y) * p.out[2] + x) * VECTOR
    z, y, x = (
        v * s + lo * by - pad + more
        for v, s, (lo, _), by, pad, more in zip(
            (z, y, x), p.stride, r.taps, p.dilation, p.pad, begin, strict=True
        )
    )
    at = ((z * size[1] + y) * size[2] + x) * unit
    return np.stack([at, to, places, double], axis=1), (p.stride[1] * size[2] * unit, p.out[2] * VECTOR)


def blocked_conv(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Any convolution with enough channels."""
    if not (is_pointwise(p) and pointwise_by_strips(b, p, residual)):
        blocked_conv_whole(b, p, residual)


def blocked_conv_whole(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """All of a convolution at once.

    x is read as it lies, after zeros have been put around it where need be; or without them, region by region, where
    many taps lie in the padding.
    """
    depth, outs, blocks = p.c // p.group, p.oc // p.group, block_count(p.oc)
    plain = p.c < VECTOR and p.group == 1 and not b.lies_blocked(0)
    if plain or _live_share(p) == 1:
        regions = [_everything(p)]
        image = _plain_image(b, p) if plain else _blocked_image(b, p)
    else:
        regions = live_regions(p)
        image = Image(b.input(0, BLOCKED), p.size, VECTOR, (0, 0, 0))
    weights = _packed_by_tap(b) if plain else packed_pairs(b, p.group)
    x_group = image.plane * (depth if plain else block_count(depth))
    places = p.out[0] * p.out[1] * p.out[2]
    for region in regions:
        taps = Taps.of(p, region.taps, image.size)
        if plain:
            segments = Segments.of_planes(depth, taps, image.plane, p.kernel[2] if p.dilation[2] == 1 else 1)
        else:
            segments = Segments.of_blocks(depth, taps, image.plane)
        if is_pointwise(p):
            tiles, gaps = flat_tiles(places, image.unit), (0, 0)
        else:
            tiles, gaps = row_tiles(region, p, image.size, image.unit, image.begin)
        emit_blocked(
            b,
            BlockedProduct(
                x=image.ref,
                w=weights,
                y=b.output(0, BLOCKED),
                segments=segments,
                tiles=tiles,
                images=p.n,
                groups=p.group,
                outs=outs,
                depth=depth * p.taps,
                x_floats=x_group,
                step=p.stride[2] * image.unit,
                gaps=gaps,
                x_strides=(x_group * p.group, x_group),
                w_strides=(0, depth * p.taps * block_count(outs) * VECTOR),
                y_strides=(blocks * places * VECTOR, places * VECTOR),
                bias=packed_bias(b),
                residual=residual,
                activation=p.activation,
            ),
        )


def is_pointwise(p: Problem) -> bool:
    """True where every output reads the one place of x that it stands for."""
    return p.taps == 1 and p.stride == (1, 1, 1) and p.size == p.out and not any(p.pad)


def pointwise_by_strips(b: Lowering, p: Problem, residual: Ref | int) -> bool:
    """Left to a depthwise convolution behind it, or after one before it, strip by strip; False where there is none."""
    if p.group > 1 or p.size[0] > 1 or not b.lies_blocked(0):
        return False
    if (deferred := b.take_deferred(0)) is not None:
        cuts = strips(p.n, p.out[1], deferred.row_floats)
        if len(cuts) == 1:
            deferred.whole()
            return False
        y = b.output(0, BLOCKED)
        for image, first, last in cuts:
            strip = b.temp(4 * blocked_floats((1, p.c, last - first, p.size[2])))
            deferred.rows(image, first, last, strip)
            _pointwise_rows(b, p, (strip, last - first), (y, residual), (image, first, last))
        return True
    if residual or not reader_is_depthwise(b):
        return False
    x = b.input(0, BLOCKED)

    def rows(image: int, first: int, last: int, into: Ref) -> None:
        at = x.at(4 * (image * blocked_floats((1, p.c, *p.size)) + first * p.size[2] * VECTOR))
        _pointwise_rows(b, p, (at, p.size[1]), (into, 0), (0, 0, last - first), last - first)

    b.defer(lambda: blocked_conv_whole(b, p, 0), rows, blocked_floats((1, p.oc, 1, p.out[2])))
    return True


def _pointwise_rows(
    b: Lowering,
    p: Problem,
    x: tuple[Ref, int],
    y: tuple[Ref, Ref | int],
    strip: tuple[int, int, int],
    height: int = 0,
) -> None:
    """Rows [first, last) of an image, from as many at x, which has planes of so many rows.

    y: where y and the residual lie, planes of `height` rows (all by default). strip: image, first, last.
    """
    width, blocks = p.size[2], block_count(p.oc)
    image, first, last = strip
    plane = (height or p.out[1]) * width * VECTOR
    place = 4 * (image * blocks * plane + first * width * VECTOR)
    emit_blocked(
        b,
        BlockedProduct(
            x=x[0],
            w=packed_pairs(b, 1),
            y=y[0].at(place),
            segments=Segments.of_blocks(p.c, ONE_TAP, x[1] * width * VECTOR),
            tiles=flat_tiles((last - first) * width, VECTOR),
            images=1,
            groups=1,
            outs=p.oc,
            depth=p.c,
            x_floats=0,
            step=VECTOR,
            gaps=(0, 0),
            x_strides=(0, 0),
            w_strides=(0, 0),
            y_strides=(0, plane),
            bias=packed_bias(b),
            residual=y[1].at(place) if isinstance(y[1], Ref) else 0,
            activation=p.activation,
        ),
    )


def _packed_by_tap(b: Lowering) -> Ref:
    """The weights (oC, C, *K) packed as (oC, C * taps, 1): every tap of every channel a channel of its own."""
    return b.packed(1, "pairs by tap", lambda: pack_pairs(b.value(1).reshape(b.ins[1].shape[0], -1, 1), 1))


def _padded(p: Problem) -> tuple[int, int, int]:
    """D, H, W that the taps of all outputs span."""
    d, h, w = (
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(p.out, p.stride, p.kernel, p.dilation, strict=True)
    )
    return d, h, w


def _fits(p: Problem, size: Sequence[int]) -> bool:
    """True where no tap reads outside x."""
    return not any(p.pad) and all(a <= b for a, b in zip(size, p.size, strict=True))


def _plain_image(b: Lowering, p: Problem) -> Image:
    size = _padded(p)
    if _fits(p, size):
        return Image(b.input(0), p.size, 1, (0, 0, 0))
    table = phase_table(-np.array([p.pad]), 1, p.size[2], size[2])
    return Image(phase_image(b, b.input(0), p.n * p.c, p.size, (1, 1, 1), size, table), size, 1, p.pad)


def _blocked_image(b: Lowering, p: Problem) -> Image:
    size, x = _padded(p), b.input(0, BLOCKED)
    if _fits(p, size):
        return Image(x, p.size, VECTOR, (0, 0, 0))
    planes = p.n * block_count(p.c)
    row = size[2] * VECTOR
    padded = b.temp(4 * planes * size[0] * size[1] * row)
    rows, grain = planes * size[0] * size[1], max(1, ROW_FLOATS // row)
    b.step("blocked_pad", chunks(rows, grain), padded, x, *p.size, *size, *p.pad, grain, planes)
    return Image(padded, size, VECTOR, p.pad)
