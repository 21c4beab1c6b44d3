"""Convolution of any rank, group, stride, dilation and padding (ONNX Conv, opset 1, 11, 22)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops import epilogue
from tilewise.ops.base import Inputs, Op
from tilewise.ops.blocked.conv import (
    accepts_blocked,
    blocked_conv,
    blocked_cost,
)
from tilewise.ops.blocked.depthwise import accepts_blocked_depthwise, blocked_depthwise
from tilewise.ops.blocked.group import (
    accepts_blocked_group,
    accepts_ragged_group,
    blocked_group,
    group_cost,
    ragged_group,
)
from tilewise.ops.blocked.winograd import accepts_winograd, winograd_conv, winograd_cost
from tilewise.ops.choice import Implementation, choose
from tilewise.ops.conv_problem import Problem
from tilewise.ops.conv_product import accepts_product, product_conv
from tilewise.ops.conv_tiles import tile_conv, tile_cost
from tilewise.ops.depthwise import accepts_depthwise, depthwise_conv
from tilewise.ops.layout import BLOCKED, PLAIN
from tilewise.ops.lowering import Choice, Lowering
from tilewise.ops.turned_depthwise import accepts_turned_depthwise, turned_depthwise
from tilewise.ops.windows import Windows, extent, read_windows


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
        problem = Problem.of(self, self.group, b)
        chosen = choose(IMPLEMENTATIONS, problem, b)
        b.choice = Choice(str(problem), chosen.name)
        chosen.lower(b, problem, b.optional(3, chosen.layout))
        if b.given(3):
            b.inplace(0, 3, chosen.layout)
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


IMPLEMENTATIONS = (
    Implementation("product", PLAIN, accepts_product, product_conv),
    Implementation("blocked_depthwise", BLOCKED, accepts_blocked_depthwise, blocked_depthwise),
    Implementation("blocked_group", BLOCKED, accepts_blocked_group, blocked_group, group_cost),
    Implementation("winograd", BLOCKED, accepts_winograd, winograd_conv, winograd_cost),
    Implementation("blocked", BLOCKED, accepts_blocked, blocked_conv, blocked_cost),
    Implementation("ragged_group", BLOCKED, accepts_ragged_group, ragged_group),
    Implementation("turned_depthwise", PLAIN, accepts_turned_depthwise, turned_depthwise),
    Implementation("depthwise", PLAIN, accepts_depthwise, depthwise_conv),
    Implementation("tile", PLAIN, lambda p, b: True, tile_conv, tile_cost),
)
"""Fastest first, the universal one last; `TILEWISE_IMPL` forces some by name."""
