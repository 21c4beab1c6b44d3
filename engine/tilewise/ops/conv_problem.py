"""A convolution in numbers: what its implementations are chosen by and built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product as cartesian

import numpy as np

from tilewise.ops import epilogue
from tilewise.ops.base import Op
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks
from tilewise.ops.tiles import PANEL, VECTOR
from tilewise.ops.windows import read_windows


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
    def of(op: Op, group: int, b: Lowering) -> Problem:
        x, w = b.ins[0].shape, b.ins[1].shape
        windows = read_windows(op, x[2:], w[2:])

        def three(values, fill: int) -> tuple[int, int, int]:
            d, h, w = (*[fill] * (3 - len(values)), *(int(v) for v in values))
            return d, h, w

        return Problem(
            n=x[0],
            c=x[1],
            oc=w[0],
            group=group,
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
    def weights(self) -> int:
        return self.oc * (self.c // self.group) * self.taps

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


def phase_image(
    b: Lowering,
    x: Ref,
    planes: int,
    size: Sequence[int],
    stride: Sequence[int],
    out: Sequence[int],
    table: np.ndarray,
    grain: int = 16384,
) -> Ref:
    """The step that pads planes and splits them by the stride: [planes, phases, *out], with room for a panel behind.

    size, stride, out: D, H, W of x, of the stride and of one phase. table: see `phase_table`. grain: floats a task.
    """
    channel = len(table) * out[0] * out[1] * out[2]
    phased = b.temp(4 * (planes * channel + PANEL))
    each = max(1, grain // channel)
    args: list[Arg] = [planes, *size, *stride, *out, len(table), b.const(table), each]
    b.step("pad_phases", chunks(planes, each), phased, x, *args)
    return phased
