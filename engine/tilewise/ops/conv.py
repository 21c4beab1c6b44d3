"""Convolution of any rank, group, stride, dilation and padding (ONNX Conv, opset 1, 11, 22)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product as cartesian

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops import epilogue
from tilewise.ops.base import Inputs, Op
from tilewise.ops.depthwise import accepts_depthwise, depthwise_conv
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.tiles import (
    PANEL,
    VECTOR,
    Panels,
    Product,
    emit,
    flat_panels,
    offset_panels,
    pack_tiles,
    row_panels,
)
from tilewise.ops.windows import Windows, extent, read_windows
from tilewise.ops.winograd import accepts_winograd, winograd_conv


class Conv(Op):
    """y[n, o] = sum_{c, k} w[o, c, k] * x[n, g(o) * C/group + c, s * stride + k * dilation - pad] + b[o].

    x (N, C, *S), w (oC, C / group, *K), b (oC,); y (N, oC, *oS). Any float dtype; float32 by kernels.
    """

    attributes = frozenset({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"})

    @property
    def group(self) -> int:
        return int(self.attr("group", 1))

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w = ins[0], ins[1]
        if x is None or x.shape is None or w is None or w.shape is None:
            return [UNKNOWN if x is None else Fact(x.dtype)]
        self._check(x, w, ins[2] if len(ins) > 2 else None)
        windows = read_windows(self, x.shape[2:], w.shape[2:])
        return [Fact(x.dtype, (x.shape[0], w.shape[0], *windows.out))]

    def _check(self, x: Fact, w: Fact, bias: Fact | None) -> None:
        if x.rank < 3 or w.rank != x.rank:
            raise self.fail(
                f"expected x (N, C, *S) and w (oC, C/group, *K) of one rank >= 3, got {x} and {w}"
            )
        if w.dtype is not None and x.dtype is not None and w.dtype != x.dtype:
            raise self.fail(f"expected x and w of one dtype, got {x} and {w}")
        channels, depth, out = x.shape[1], w.shape[1], w.shape[0]
        if isinstance(channels, int) and isinstance(depth, int) and channels != depth * self.group:
            raise self.fail(f"expected x with w.shape[1] * group = {depth * self.group} channels, got {x}")
        if self.group < 1 or (isinstance(out, int) and out % self.group):
            raise self.fail(f"expected oC divisible by group {self.group}, got w {w}")
        kernel = self.attr("kernel_shape")
        if kernel and any(isinstance(d, int) and d != k for d, k in zip(w.shape[2:], kernel, strict=False)):
            raise self.fail(f"expected w with kernel_shape {list(kernel)}, got {w}")
        if bias is not None and bias.shape is not None and bias.shape != (out,) and isinstance(out, int):
            raise self.fail(f"expected a bias of shape ({out},), got {bias}")

    def evaluate(self, x, w, b=None, residual=None):
        windows = read_windows(self, x.shape[2:], w.shape[2:])
        y = convolve(x, w, windows, self.group)
        if b is not None:
            y = y + b.astype(y.dtype).reshape(-1, *[1] * (x.ndim - 2))
        if residual is not None:
            y = y + residual
        return [epilogue.apply(self, y).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype("float32") or len(b.ins[0].shape) > 5:
            return False
        problem = Problem.of(self, b)
        residual = optional(b, 3)
        implement = next(implement for accepts, implement in IMPLEMENTATIONS if accepts(problem, b))
        implement(b, problem, optional(b, 2), residual)
        if isinstance(residual, Ref):
            b.inplace(0, 3)
        return True


class FusedConv(Conv):
    """`Conv`, then an optional residual (input 3, like y) added, then an activation (see `epilogue`)."""

    domain = "tilewise"
    attributes = Conv.attributes | {"activation", "activation_alpha", "activation_beta"}


def convolve(x: np.ndarray, w: np.ndarray, windows: Windows, group: int) -> np.ndarray:
    """Convolution by im2col in NumPy; small floats are summed in float32."""
    wide = np.float32 if x.dtype.itemsize < 4 and x.dtype.kind not in "iu" else x.dtype
    n = len(windows.kernel)
    ends = tuple(
        max(0, (o - 1) * s + extent(k, d) - size - b)
        for o, s, k, d, size, b in zip(
            windows.out,
            windows.strides,
            windows.kernel,
            windows.dilations,
            windows.sizes,
            windows.begins,
            strict=True,
        )
    )
    x = np.pad(x.astype(wide), ((0, 0), (0, 0), *zip(windows.begins, ends, strict=True)))
    spans = tuple(extent(k, d) for k, d in zip(windows.kernel, windows.dilations, strict=True))
    views = sliding_window_view(x, spans, tuple(range(2, 2 + n)))
    steps = zip(windows.out, windows.strides, strict=True)
    views = views[
        :,
        :,
        *(slice(None, o * s, s) for o, s in steps),
        *(slice(None, None, d) for d in windows.dilations),
    ]
    depth, outs = w.shape[1], w.shape[0] // group
    parts = [
        np.tensordot(
            views[:, g * depth : (g + 1) * depth],
            w[g * outs : (g + 1) * outs].astype(wide),
            axes=([1, *range(2 + n, 2 + 2 * n)], list(range(1, 2 + n))),
        )
        for g in range(group)
    ]
    return np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)


@dataclass(frozen=True)
class Problem:
    """A convolution in numbers, its spatial axes filled up to (D, H, W)."""

    n: int
    c: int
    oc: int
    group: int
    size: tuple[int, int, int]
    out: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    pad: tuple[int, int, int]
    constant_w: bool
    activation: tuple[int, float, float]

    @staticmethod
    def of(op: Conv, b: Lowering) -> Problem:
        x, w = b.ins[0].shape, b.ins[1].shape
        windows = read_windows(op, x[2:], w[2:])

        def three(values, fill: int) -> tuple[int, int, int]:
            d, h, w = (*[fill] * (3 - len(values)), *(int(v) for v in values))
            return d, h, w

        return Problem(
            n=x[0],
            c=x[1],
            oc=w[0],
            group=op.group,
            size=three(x[2:], 1),
            out=three(windows.out, 1),
            kernel=three(w[2:], 1),
            stride=three(windows.strides, 1),
            dilation=three(windows.dilations, 1),
            pad=three(windows.begins, 0),
            constant_w=b.value(1) is not None,
            activation=epilogue.activation(op),
        )

    def __str__(self) -> str:
        """As in oneDNN's benchdnn: one string names the case."""
        axes = "dhw"
        parts = [f"conv n{self.n}g{self.group}c{self.c}o{self.oc}"]
        for i, axis in enumerate(axes):
            if i == 0 and self.size[0] == self.out[0] == self.kernel[0] == 1:
                continue
            parts.append(
                f"i{axis}{self.size[i]}o{axis}{self.out[i]}k{axis}{self.kernel[i]}s{axis}{self.stride[i]}"
                f"d{axis}{self.dilation[i]}p{axis}{self.pad[i]}"
            )
        return "_".join(parts)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1] * self.kernel[2]

    @property
    def in_place(self) -> bool:
        """True where every tap of every output reads inside x with unit strides: x serves as it is."""
        inside = all(
            p == 0 and s == 1 and o + (k - 1) * d <= i
            for p, s, o, k, d, i in zip(
                self.pad, self.stride, self.out, self.kernel, self.dilation, self.size, strict=True
            )
        )
        return inside and (self.out[1] - 1) * self.size[2] + self.out[2] >= VECTOR

    @cached_property
    def image(self) -> Image:
        return Image.of(self)


@dataclass(frozen=True)
class Image:
    """The image as the taps read it: planes padded and split into phases, so that all reads have unit stride.

    size: D, H, W of one phase. starts: [phases, 5], see `phase_table`. taps: where each lies, in floats from a
    channel's first phase; `channel` floats from channel to channel.
    """

    size: tuple[int, int, int]
    starts: np.ndarray
    taps: np.ndarray

    @staticmethod
    def of(p: Problem) -> Image:
        reach = [[k * d for k in range(n)] for n, d in zip(p.kernel, p.dilation, strict=True)]
        phases = list(
            cartesian(*(sorted({r % s for r in rs}) for rs, s in zip(reach, p.stride, strict=True)))
        )
        size = tuple(o + rs[-1] // s for o, rs, s in zip(p.out, reach, p.stride, strict=True))
        if p.in_place:
            size = p.size
        order = {phase: i for i, phase in enumerate(phases)}
        taps = []
        for tap in cartesian(*reach):
            phase = order[tuple(t % s for t, s in zip(tap, p.stride, strict=True))]
            d, h, w = (t // s for t, s in zip(tap, p.stride, strict=True))
            taps.append(((phase * size[0] + d) * size[1] + h) * size[2] + w)
        starts = np.array(phases, np.int64) - np.array(p.pad, np.int64)
        return Image(
            (size[0], size[1], size[2]),
            phase_table(starts, p.stride[2], p.size[2], size[2]),
            np.array(taps, np.int64),
        )

    @property
    def channel(self) -> int:
        return len(self.starts) * self.size[0] * self.size[1] * self.size[2]


def phase_table(starts: np.ndarray, stride: int, size: int, width: int) -> np.ndarray:
    """First d, h and w of each phase, and the columns [lo, hi) of its `width` that lie inside x's `size`."""
    first = starts[:, 2]
    lo = np.clip(-(first // stride), 0, width)
    hi = np.clip(-((first - size) // stride), lo, width)
    return np.column_stack([starts, lo, hi])


def pad_image(b: Lowering, p: Problem, x: Ref) -> Ref:
    """The step that makes `p.image`, or x itself where it serves as it is."""
    if p.in_place:
        return x
    image = p.image
    planes = p.n * p.c
    padded = b.temp(4 * (planes * image.channel + PANEL))
    grain = max(1, 16384 // image.channel)
    b.step(
        "pad_phases",
        chunks(planes, grain),
        padded,
        x,
        planes,
        *p.size,
        *p.stride,
        *image.size,
        len(image.starts),
        b.const(image.starts),
        grain,
    )
    return padded


def image_panels(p: Problem, step: int = 1, y_pitch: int = 0, y_depth: int = 0) -> Panels:
    """Panels over all outputs of one channel: across rows or row by row, whichever computes less.

    step, y_pitch, y_depth: floats in y from column to column, row to row and plane to plane (contiguous by default).
    """
    _, rows, width = p.out
    y_pitch = y_pitch or width
    y_depth = y_depth or rows * y_pitch
    _, height, pitch = p.image.size
    shift = p.in_place
    panels = flat_panels(rows, width, pitch, y_pitch, step, shift=shift)
    if not shift:
        by_row = row_panels([(r * pitch, r * y_pitch) for r in range(rows)], width, step)
        panels = min(panels, by_row, key=lambda q: q.vectors)
    return offset_panels(panels, p.out[0], height * pitch, y_depth)


def tap_offsets(p: Problem, depth: int) -> np.ndarray:
    """Where each k = (c, tap) of `depth` channels lies, from an image's first float."""
    return (np.arange(depth)[:, None] * p.image.channel + p.image.taps).ravel()


def packed_weights(b: Lowering, p: Problem) -> Ref:
    """w as tiles: packed once for a constant, else by a step of every run."""
    outs, k = p.oc // p.group, p.c // p.group * p.taps
    if p.constant_w:
        return b.packed(1, "tiles", lambda: pack_tiles(b.value(1).reshape(p.group, outs, k)))
    from tilewise.ops.linalg import pack_rows

    return pack_rows(b, b.input(1), p.group, outs, k, (outs * k, k, 1))


def tile_conv(b: Lowering, p: Problem, bias: Ref | int, residual: Ref | int) -> None:
    """Any convolution: the padded image, then one matrix product that reads it in place."""
    depth, outs, pixels = p.c // p.group, p.oc // p.group, p.out[0] * p.out[1] * p.out[2]
    weights = packed_weights(b, p)
    y_strides = (p.oc * pixels, pixels, 1)
    emit(
        b,
        Product(
            x=pad_image(b, p, b.input(0)),
            w=weights,
            y=b.output(),
            offsets=tap_offsets(p, depth),
            panels=image_panels(p),
            rows=outs,
            images=p.n,
            groups=p.group,
            inputs=depth,
            x_strides=(p.c * p.image.channel, depth * p.image.channel),
            w_strides=(0, outs * depth * p.taps),
            y_strides=y_strides,
            bias=bias,
            residual=residual,
            residual_strides=y_strides,
            activation=p.activation,
        ),
    )


def optional(b: Lowering, i: int) -> Ref | int:
    """Input `i`, or 0 where it is left out."""
    return b.input(i) if i < len(b.ins) and b.ins[i] is not None else 0


IMPLEMENTATIONS = (
    (accepts_depthwise, depthwise_conv),
    (accepts_winograd, winograd_conv),
    (lambda p, b: True, tile_conv),
)
"""Fastest first, the universal one last; each takes bias and residual as refs, or 0 where there is none."""
