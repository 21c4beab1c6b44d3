"""Transposed convolution of any rank (ONNX ConvTranspose, opset 1, 11, 22)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product as cartesian
from typing import Any

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Inputs, Op
from tilewise.ops.blocked.transposed import accepts_blocked_transposed, blocked_transposed
from tilewise.ops.conv_problem import phase_image, phase_table
from tilewise.ops.lowering import Lowering, Ref
from tilewise.ops.tiles import VECTOR, Product, emit, emit_zip, image_panels, pack_tiles
from tilewise.ops.windows import AUTO_PADS, extent


@dataclass(frozen=True, slots=True)
class Geometry:
    """Strides, dilations, pads before, and sizes of the output along the spatial axes."""

    kernel: Shape
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: Any
    out: Shape


class ConvTranspose(Op):
    """y[n, g, o, i * stride + k * dilation - pad] += sum_c x[n, g, c, i] * w[g, c, o, k], plus b[o].

    x (N, C, *S), w (C, oC / group, *K), b (oC,); y (N, oC, *oS). Any float dtype; float32 by kernels.
    """

    attributes = frozenset(
        {
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        }
    )

    @property
    def group(self) -> int:
        return int(self.attr("group", 1))

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w = ins[0], ins[1]
        if x is None or x.shape is None or w is None or w.shape is None:
            return [UNKNOWN if x is None else Fact(x.dtype)]
        if x.rank < 3 or w.rank != x.rank:
            raise self.fail(
                f"expected x (N, C, *S) and w (C, oC/group, *K) of one rank >= 3, got {x} and {w}"
            )
        if isinstance(x.shape[1], int) and isinstance(w.shape[0], int) and x.shape[1] != w.shape[0]:
            raise self.fail(f"expected as many channels in x as w.shape[0] = {w.shape[0]}, got {x}")
        if self.group < 1 or (isinstance(w.shape[0], int) and w.shape[0] % self.group):
            raise self.fail(f"expected channels divisible by group {self.group}, got w {w}")
        channels = w.shape[1] * self.group if isinstance(w.shape[1], int) else None
        bias = ins[2] if len(ins) > 2 else None
        if bias is not None and bias.known_shape and channels is not None and bias.shape != (channels,):
            raise self.fail(f"expected a bias of shape ({channels},), got {bias}")
        if not all(isinstance(k, int) for k in w.shape[2:]):
            return [Fact(x.dtype, (x.shape[0], channels, *[None] * (x.rank - 2)))]
        return [Fact(x.dtype, (x.shape[0], channels, *self.geometry(x.shape[2:], w.shape[2:]).out))]

    def geometry(self, sizes: Shape, kernel: Shape) -> Geometry:
        n = len(sizes)
        strides, dilations = self._ints("strides", n, 1), self._ints("dilations", n, 1)
        extra, pads = self._ints("output_padding", n, 0), self._ints("pads", 2 * n, 0)
        auto_pad = self.attr("auto_pad", "NOTSET") or "NOTSET"
        if auto_pad not in AUTO_PADS:
            raise self.fail(f"expected auto_pad to be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}")
        if auto_pad == "VALID":
            pads = [0] * (2 * n)
        wanted = self.attr("output_shape")
        if wanted:
            out: Shape = tuple(int(d) for d in wanted)[-n:]
        elif auto_pad.startswith("SAME"):
            out = tuple(d * s if isinstance(d, int) else None for d, s in zip(sizes, strides, strict=True))
        else:
            out = tuple(
                (d - 1) * strides[i] + extra[i] + extent(kernel[i], dilations[i]) - pads[i] - pads[n + i]
                if isinstance(d, int)
                else None
                for i, d in enumerate(sizes)
            )
        if any(isinstance(d, int) and d < 0 for d in out):
            raise self.fail(
                f"expected pads that leave an output, got pads {pads} for an output of {list(out)}"
            )
        begins: tuple[int, ...] | None = tuple(pads[:n])
        if wanted or auto_pad.startswith("SAME"):
            begins = self._begins(sizes, kernel, strides, dilations, extra, out, auto_pad == "SAME_UPPER")
        return Geometry(kernel, tuple(strides), tuple(dilations), begins, out)

    def _begins(self, sizes, kernel, strides, dilations, extra, out, upper: bool) -> tuple[int, ...] | None:
        """Pads before each axis from the wanted output."""
        begins = []
        for size, k, s, d, e, o in zip(sizes, kernel, strides, dilations, extra, out, strict=True):
            if not isinstance(size, int):
                return None
            total = max(0, (size - 1) * s + e + extent(k, d) - o)
            begins.append(total // 2 if upper else total - total // 2)
        return tuple(begins)

    def _ints(self, name: str, length: int, default: int) -> list[int]:
        given = self.attr(name) or [default] * length
        if len(given) != length or any(v < default for v in given):
            raise self.fail(f"expected {length} values of at least {default} in {name}, got {list(given)}")
        return [int(v) for v in given]

    def evaluate(self, x, w, b=None):
        y = transposed_convolve(x, w, self.geometry(x.shape[2:], w.shape[2:]), self.group)
        if b is not None:
            y += b.astype(y.dtype).reshape(-1, *[1] * (x.ndim - 2))
        return [y.astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        x, w = b.ins[0].shape, b.ins[1].shape
        if not b.is_dtype("float32") or len(x) > 5 or b.value(1) is None:
            return False
        geometry = self.geometry(x[2:], w[2:])
        fill = 5 - len(x)
        axes = [Axis(1, 1, 1, 1, 0, 1)] * fill + [
            Axis(*values)
            for values in zip(
                x[2:],
                geometry.kernel,
                geometry.strides,
                geometry.dilations,
                geometry.begins,
                geometry.out,
                strict=True,
            )
        ]
        if accepts_blocked_transposed(b, self.group):
            blocked_transposed(b, axes, self.group)
        else:
            lower_phases(self, b, axes)
        return True


def transposed_convolve(x: np.ndarray, w: np.ndarray, geometry: Geometry, group: int) -> np.ndarray:
    """Each tap's product added where it lands, in NumPy; small floats are summed in float32."""
    wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
    depth, outs = w.shape[0] // group, w.shape[1]
    x, w = x.astype(wide), w.astype(wide)
    full = [
        max((size - 1) * s + extent(k, d), b + o)
        for size, s, k, d, b, o in zip(
            x.shape[2:],
            geometry.strides,
            geometry.kernel,
            geometry.dilations,
            geometry.begins,
            geometry.out,
            strict=True,
        )
    ]
    y = np.zeros((x.shape[0], group * outs, *full), wide)
    for tap in np.ndindex(*geometry.kernel):
        where = tuple(
            slice(t * d, t * d + (size - 1) * s + 1, s)
            for t, d, s, size in zip(tap, geometry.dilations, geometry.strides, x.shape[2:], strict=True)
        )
        for g in range(group):
            xs, ws = (
                x[:, g * depth : (g + 1) * depth],
                w[(slice(g * depth, (g + 1) * depth), slice(None), *tap)],
            )
            term = np.moveaxis(np.tensordot(xs, ws, axes=([1], [0])), -1, 1)
            y[(slice(None), slice(g * outs, (g + 1) * outs), *where)] += term
    crop = tuple(slice(b, b + o) for b, o in zip(geometry.begins, geometry.out, strict=True))
    return y[(slice(None), slice(None), *crop)].copy()


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis; its outputs fall into `stride` phases, each a convolution with some of the taps."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    out: int

    def phases(self) -> list[Phase]:
        found = []
        for first in range(min(self.stride, self.out)):
            start, rest = divmod(first + self.pad, self.stride)
            taps = [k for k in range(self.kernel) if k * self.dilation % self.stride == rest]
            shifts = [start - k * self.dilation // self.stride for k in taps]
            found.append(Phase(first, -(-(self.out - first) // self.stride), taps, shifts))
        return found


@dataclass(frozen=True, slots=True)
class Phase:
    """Outputs first, first + stride, ...: output j sums taps[i] times x[j + shifts[i]]."""

    first: int
    count: int
    taps: list[int]
    shifts: list[int]


def lower_phases(op: ConvTranspose, b: Lowering, axes: list[Axis]) -> None:
    """A product for every phase of the output, all of one padded image; no scatter.

    With a last stride of 2 the two phases of a row are made together and stored side by side.
    """
    n, c = b.ins[0].shape[:2]
    phases = [axis.phases() for axis in axes]
    zipped = axes[2].stride == 2 and len(phases[2]) == 2 and b.has("tile_gemm_zip")
    if zipped:
        phases[2] = [replace(p, count=phases[2][0].count) for p in phases[2]]
    reach = [[s for p in ps for s in p.shifts] or [0] for ps in phases]
    before = [max(0, -min(r)) for r in reach]
    size = [
        max([p.count + max(p.shifts) for p in ps if p.shifts] or [1]) + pad
        for ps, pad in zip(phases, before, strict=True)
    ]
    in_place = not any(before) and all(s <= a.size for s, a in zip(size, axes, strict=True))
    in_place = in_place and min(_columns(ps, axes[2].size) for ps in cartesian(*phases)) >= VECTOR
    sizes = [a.size for a in axes]
    if in_place:
        size, image = sizes, b.input(0)
    else:
        table = phase_table(-np.array([before], np.int64), 1, sizes[2], size[2])
        image = phase_image(b, b.input(0), n * c, sizes, (1, 1, 1), size, table)
    maker = PhaseProducts(op, b, axes, image, size, before, shift=in_place)
    planes = [(d, h) for d in phases[0] for h in phases[1]]
    if not zipped:
        for plane in planes:
            for phase in phases[2]:
                emit(b, maker.product([(*plane, phase)]))
        return
    alike = all(p.count == ps[0].count for ps in phases[:2] for p in ps)
    for together in [planes] if alike else [[plane] for plane in planes]:
        triples = [(*plane, phase) for plane in together for phase in phases[2]]
        odd_width = axes[2].out if axes[2].out % 2 else 0
        emit_zip(b, maker.product(triples), maker.pairs(triples), odd_width)


Triple = tuple[Phase, Phase, Phase]


class PhaseProducts:
    """Products that make phases of the output from an image of `size`, `before` of it padding."""

    def __init__(
        self,
        op: ConvTranspose,
        b: Lowering,
        axes: list[Axis],
        image: Ref,
        size: Sequence[int],
        before: Sequence[int],
        *,
        shift: bool,
    ) -> None:
        self.b, self.image, self.size, self.before, self.shift, self.group = (
            b,
            image,
            size,
            before,
            shift,
            op.group,
        )
        self.n, self.c = b.ins[0].shape[:2]
        self.outs = [a.out for a in axes]
        self.steps = (
            axes[0].stride * self.outs[1] * self.outs[2],
            axes[1].stride * self.outs[2],
            axes[2].stride,
        )
        self.depth = self.c // op.group
        self.weights = b.value(1).reshape(op.group, self.depth, -1, *[a.kernel for a in axes])

    def offsets(self, triple: Triple) -> np.ndarray:
        """Where each k = (c, tap) of a phase lies in the image."""
        shifts = [[s + pad for s in p.shifts] for p, pad in zip(triple, self.before, strict=True)]
        taps = [(d * self.size[1] + h) * self.size[2] + w for d, h, w in cartesian(*shifts)]
        return (np.arange(self.depth)[:, None] * math.prod(self.size) + np.array(taps, np.int64)).ravel()

    def first(self, triple: Triple) -> int:
        """Where a phase begins in a plane of y."""
        return (triple[0].first * self.outs[1] + triple[1].first) * self.outs[2] + triple[2].first

    def product(self, triples: Sequence[Triple]) -> Product:
        """One phase, or what several have in common with their weights and offsets end to end."""
        outs, rows, plane = math.prod(self.outs), self.weights.shape[2], math.prod(self.size)
        make = partial(_phase_tiles, self.weights, triples)
        return Product(
            x=self.image,
            w=self.b.packed(1, f"phases {triples} of group {self.group}", make),
            y=self.b.output().at(4 * self.first(triples[0]) if len(triples) == 1 else 0),
            offsets=np.concatenate([self.offsets(t) for t in triples]),
            panels=image_panels([p.count for p in triples[0]], self.size, self.steps, shift=self.shift),
            rows=rows,
            images=self.n,
            groups=self.group,
            inputs=self.depth,
            x_strides=(self.c * plane, self.depth * plane),
            w_strides=(0, rows * len(self.offsets(triples[0]))),
            y_strides=(self.group * rows * outs, outs, self.steps[2]),
            bias=self.b.optional(2),
        )

    def pairs(self, triples: Sequence[Triple]) -> np.ndarray:
        """Where in w and offsets each of two consecutive phases begins and its k, then where they begin in y."""
        rows = self.weights.shape[2] * self.group
        table, at = [], 0
        for triple in triples:
            k = len(self.offsets(triple))
            table.append((at * rows, at, k, self.first(triple)))
            at += k
        return np.array(
            [(*e[:3], *o[:3], e[3]) for e, o in zip(table[::2], table[1::2], strict=True)], np.int64
        )


def _columns(triple: tuple[Phase, ...], pitch: int) -> int:
    return (triple[1].count - 1) * pitch + triple[2].count


def _phase_tiles(weights: np.ndarray, triples: Sequence[Triple]) -> np.ndarray:
    """[group, depth, rows, kD, kH, kW] to the tiles of each phase's taps, end to end."""
    parts = []
    for triple in triples:
        chosen = weights[:, :, :, triple[0].taps][:, :, :, :, triple[1].taps][..., triple[2].taps]
        groups, _, rows = chosen.shape[:3]
        parts.append(pack_tiles(np.moveaxis(chosen, 2, 1).reshape(groups, rows, -1)).ravel())
    return np.concatenate(parts)
