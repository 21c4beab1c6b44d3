"""Sampling of images on grids."""

from __future__ import annotations

from itertools import product as cartesian

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import known
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.lowering import Lowering, chunks

REACH = {"nearest": 0, "linear": 1, "bilinear": 1, "cubic": 2, "bicubic": 2}
PADDINGS = ("zeros", "border", "reflection")

TAPS = 2048
POINTS = 512
"""Points times taps of a block, and points: TW_TAPS and TW_POINTS of `vision.h`."""

FAR = 1e9
"""Places are clamped to this many elements, and NaN to its negative."""

GRAIN = 16384
"""Elements of a task, about."""


class GridSample(Op):
    """y[n, c, *p] = x[n, c] sampled at grid[n, *p] (ONNX GridSample, opset 16, 20, 22).

    x (N, C, *S) of any type, grid (N, *P, r) of floats in [-1, 1], innermost axis first; y (N, C, *P) of x's type,
    for any number r of spatial axes. Integers are interpolated in floating point and then truncated; strings are
    sampled by the mode "nearest" alone. A place that is NaN counts as far before the first element.
    """

    attributes = frozenset({"align_corners", "mode", "padding_mode"})

    def unsupported(self) -> str | None:
        mode, padding = self.attr("mode", "linear"), self.attr("padding_mode", "zeros")
        if mode not in REACH:
            return f"attribute mode={mode!r} (known: {', '.join(REACH)})"
        if padding not in PADDINGS:
            return f"attribute padding_mode={padding!r} (known: {', '.join(PADDINGS)})"
        return None

    @property
    def reach(self) -> int:
        return REACH[self.attr("mode", "linear")]

    @property
    def padding(self) -> str:
        return self.attr("padding_mode", "zeros")

    @property
    def align(self) -> bool:
        return bool(self.attr("align_corners", 0))

    def infer(self, ins: Inputs) -> list[Fact]:
        x, grid = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        if x.dtype is not None and x.dtype.kind == "O" and self.reach:
            raise self.fail(f"expected mode 'nearest' for strings, got {self.attr('mode')!r}")
        if x.shape is None or grid.shape is None:
            return [Fact(x.dtype)]
        r = len(x.shape) - 2
        if r < 1 or len(grid.shape) != r + 2 or (isinstance(grid.shape[-1], int) and grid.shape[-1] != r):
            raise self.fail(f"expected x (N, C, *S) and grid (N, *P, {max(r, 1)}), got {x} and {grid}")
        if known((x.shape[0], grid.shape[0])) and x.shape[0] != grid.shape[0]:
            raise self.fail(f"expected x and grid of one N, got {x} and {grid}")
        N = x.shape[0] if isinstance(x.shape[0], int) else grid.shape[0]
        return [Fact(x.dtype, (N, x.shape[1], *grid.shape[1:-1]))]

    def evaluate(self, x, grid):
        N, C, *sizes = x.shape
        points = grid.reshape(N, int(np.prod(grid.shape[1:-1])), len(sizes))
        if grid.dtype not in (np.float32, np.float64):
            points = points.astype(np.float32)
        axes = [self._taps(points[..., len(sizes) - 1 - d], size) for d, size in enumerate(sizes)]
        flat = x.reshape(N, C, int(np.prod(sizes)))
        shape = (N, C, *grid.shape[1:-1])
        if self.reach == 0:
            place, _, inside = combine(axes, sizes, [0] * len(sizes))
            zero = "" if x.dtype.kind == "O" else x.dtype.type(0)
            return [np.where(inside, np.take_along_axis(flat, place, axis=2), zero).reshape(shape)]
        wide = np.complex128 if x.dtype.kind == "c" else np.float64
        y = np.zeros((N, C, points.shape[1]), wide)
        for taps in cartesian(range(2 * self.reach), repeat=len(sizes)):
            place, weight, inside = combine(axes, sizes, taps)
            y += np.where(inside, weight * np.take_along_axis(flat, place, axis=2).astype(wide), 0)
        return [y.reshape(shape).astype(x.dtype)]

    def _taps(self, g: Array, size: int) -> tuple[Array, Array, Array]:
        """Indices, weights and masks, (taps, N, P), of the elements on one axis that grid values g are made of."""
        lo, hi = (0.0, size - 1.0) if self.align else (-0.5, size - 0.5)
        x = (g + 1) / 2 * (size - 1) if self.align else ((g + 1) * size - 1) / 2
        x = np.clip(np.where(np.isnan(x), -FAR, x), -FAR, FAR).astype(g.dtype)
        if self.reach == 0:
            x = np.rint(x)
        if self.padding == "border":
            x = np.where((x < lo) | (x > hi), np.clip(x, 0, size - 1), x)
        elif self.padding == "reflection":
            x = reflect(x, lo, hi).astype(g.dtype)
        base = np.floor(x).astype(np.int64)
        offset = np.arange(max(2 * self.reach, 1)).reshape(-1, 1, 1) - (self.reach == 2)
        index = base + offset
        weight = WEIGHTS[self.reach](np.abs(offset - (x - base)))
        inside = (index >= 0) & (index < size) if self.padding == "zeros" else np.ones(index.shape, bool)
        if self.padding == "reflection":
            index = reflect(index.astype(np.float64), lo, hi).astype(np.int64)
        return np.clip(index, 0, size - 1), weight, inside

    def lower(self, b: Lowering) -> bool:
        N, C, *sizes = b.ins[0].shape
        r = len(sizes)
        if not b.is_dtype("float32") or r > 3 or np.prod(sizes) >= 2**31:
            return False
        points = int(np.prod(b.ins[1].shape[1:-1]))
        taps = max(2 * self.reach, 1) ** r
        block = min(TAPS // taps, POINTS, max(16, GRAIN // (C * taps)), points)
        b.step(
            "grid_sample",
            N * chunks(points, block),
            b.output(),
            b.input(0),
            b.input(1),
            C,
            points,
            block,
            r,
            self.reach,
            PADDINGS.index(self.padding),
            int(self.align),
            *sizes,
        )
        return True


def combine(axes, sizes, taps) -> tuple[Array, Array, Array]:
    """Places in a plane, weights and masks, (N, 1, P), of one tap on each axis."""
    shape = axes[0][0].shape[1:]
    place, weight, inside = np.zeros(shape, np.int64), np.ones(shape), np.ones(shape, bool)
    for (index, w, ins), size, tap in zip(axes, sizes, taps, strict=True):
        place = place * size + index[tap]
        weight = weight * w[tap]
        inside = inside & ins[tap]
    return place[:, None], weight[:, None], inside[:, None]


def reflect(x: Array, lo: float, hi: float) -> Array:
    """x thrown back at lo and hi until it lies between them."""
    span = hi - lo
    if span <= 0:
        return np.where((x < lo) | (x > hi), lo, x)
    over = np.where(x < lo, lo - x, x - hi).astype(np.float64)
    times = np.floor(over / span)
    rest = over - times * span
    low = (x < lo) == (times % 2 == 0)
    return np.where(over <= 0, x, np.where(low, lo + rest, hi - rest))


def cubic(distance: Array) -> Array:
    """Keys' cubic convolution with a = -0.75."""
    a, x = -0.75, distance.astype(np.float64)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, near, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a)


WEIGHTS = (np.ones_like, lambda distance: 1 - distance, cubic)
"""By reach: what an element at some distance counts."""


class AffineGrid(Op):
    """grid[n, *p] = theta[n] @ (place of p in [-1, 1], 1) (ONNX AffineGrid, opset 20).

    theta (N, r, r + 1) of floats, size (N, C, *S) int64 with r = 2 or 3 axes S; grid (N, *S, r), the innermost
    axis first. With align_corners -1 and 1 are the centres of the outer elements, else their outer edges.
    """

    attributes = frozenset({"align_corners"})

    def infer(self, ins: Inputs) -> list[Fact]:
        theta, size = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        given = values(size)
        r = None if given is None else len(given) - 2
        if r is None and theta.shape is not None and isinstance(theta.shape[1], int):
            r = theta.shape[1]
        if r is None:
            return [Fact(theta.dtype)]
        if theta.shape is not None and not fits(theta.shape, r):
            raise self.fail(f"expected theta (N, {r}, {r + 1}) with r = 2 or 3, got {theta}")
        N = theta.shape[0] if theta.shape is not None else None
        if given is not None and isinstance(N, int) and given[0] != N:
            raise self.fail(f"expected theta and size of one N, got {theta} and size {given}")
        return [Fact(theta.dtype, (N, *(given[2:] if given is not None else [None] * r), r))]

    def evaluate(self, theta, size):
        sizes = [int(s) for s in size[2:]]
        if not fits(theta.shape, len(sizes)) or len(theta) != size[0]:
            raise self.fail(f"expected theta of shape (N, r, r + 1) for size {size}, got {theta.shape}")
        places = [self._places(s) for s in sizes]
        mesh = np.meshgrid(*places, indexing="ij")[::-1]
        points = np.stack([*mesh, np.ones(sizes)], axis=-1).reshape(-1, len(sizes) + 1)
        grid = points @ theta.astype(np.float64).transpose(0, 2, 1)
        return [grid.reshape(len(theta), *sizes, len(sizes)).astype(theta.dtype)]

    def _places(self, size: int) -> Array:
        """The places of `size` elements in [-1, 1]; 0 for a lone one."""
        if self.attr("align_corners", 0):
            return np.linspace(-1, 1, size) if size > 1 else np.zeros(size)
        return (2 * np.arange(size) + 1) / max(size, 1) - 1

    def lower(self, b: Lowering) -> bool:
        size = b.value(1)
        if b.ins[0].dtype != "float32" or size is None:
            return False
        sizes = [int(s) for s in size[2:]]
        r = len(sizes)
        D, H, W = [1] * (3 - r) + sizes
        tables = [b.const(self._places(s).astype(np.float32)) for s in (D, H, W)]
        rows = b.ins[0].shape[0] * D * H
        grain = max(1, GRAIN // (W * r))
        b.step("affine_grid", chunks(rows, grain), b.output(), b.input(0), rows, grain, r, D, H, W, *tables)
        return True


def fits(shape, r: int) -> bool:
    """True for the shape of an affine matrix of r = 2 or 3 axes."""
    if r not in (2, 3) or len(shape) != 3:
        return False
    return all(not isinstance(d, int) or d == want for d, want in zip(shape[1:], (r, r + 1), strict=True))
