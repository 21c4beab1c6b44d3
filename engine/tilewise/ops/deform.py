"""Deformable convolution (Dai et al. 2017; with a mask, Zhu et al. 2019; ONNX DeformConv, opset 19, 22)."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.lowering import Lowering
from tilewise.ops.tiles import PANEL, Product, contiguous_panels, emit, pack_tiles
from tilewise.ops.windows import Windows, read_windows


class DeformConv(Op):
    """Convolution whose taps are moved by offsets, sampled bilinearly (zero outside), scaled by a mask.

    x (N, C, H, W), w (oC, C / group, kH, kW), offset (N, dG * kH * kW * 2, oH, oW) as (dy, dx), b (oC,),
    mask (N, dG * kH * kW, oH, oW); y (N, oC, oH, oW).
    """

    attributes = frozenset({"dilations", "group", "kernel_shape", "offset_group", "pads", "strides"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w, offset = ins[0], ins[1], ins[2]
        if any(f is None or f.shape is None for f in (x, w)):
            return [UNKNOWN if x is None else Fact(x.dtype)]
        if x.rank != 4 or w.rank != 4:
            raise self.fail(f"expected x (N, C, H, W) and w (oC, C/group, kH, kW), got {x} and {w}")
        if x.known_shape and w.known_shape:
            self._check(x.shape, w.shape)
        windows = read_windows(self, x.shape[2:], w.shape[2:])
        groups = int(self.attr("offset_group", 1))
        if offset is not None and offset.known_shape and all(isinstance(d, int) for d in windows.out):
            taps = w.shape[2] * w.shape[3] if isinstance(w.shape[2], int) else None
            wanted = (offset.shape[0], 2 * groups * taps, *windows.out) if taps else None
            if wanted is not None and offset.shape != wanted:
                raise self.fail(f"expected offset of shape {wanted}, got {offset}")
        return [Fact(x.dtype, (x.shape[0], w.shape[0], *windows.out))]

    def _check(self, x, w) -> None:
        group, offset_group = int(self.attr("group", 1)), int(self.attr("offset_group", 1))
        if group < 1 or w[1] * group != x[1] or w[0] % group:
            raise self.fail(
                f"expected w (oC, C/{group}, ...) for C = {x[1]}, oC divisible by {group}, got {w}"
            )
        if offset_group < 1 or x[1] % offset_group:
            raise self.fail(f"expected channels {x[1]} divisible by offset_group {offset_group}")

    def evaluate(self, x, w, offset, b=None, mask=None):
        wide = np.float32 if x.dtype.itemsize < 4 else x.dtype
        windows = read_windows(self, x.shape[2:], w.shape[2:])
        columns = sample_columns(
            x.astype(wide), offset.astype(wide), mask, windows, int(self.attr("offset_group", 1))
        )
        n, group, outs = x.shape[0], int(self.attr("group", 1)), w.shape[0]
        columns = columns.reshape(n, group, -1, windows.out[0] * windows.out[1])
        y = np.matmul(w.astype(wide).reshape(group, outs // group, -1), columns).reshape(
            n, outs, *windows.out
        )
        if b is not None:
            y = y + b.astype(wide).reshape(-1, 1, 1)
        return [y.astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype("float32") or b.value(1) is None:
            return False
        (n, c, height, width), (outs, depth, kh, kw) = b.ins[0].shape, b.ins[1].shape
        windows = read_windows(self, (height, width), (kh, kw))
        group, pixels, k = c // depth, windows.out[0] * windows.out[1], depth * kh * kw
        panels = contiguous_panels(pixels, stride=c * kh * kw * PANEL)
        columns = b.temp(4 * n * len(panels.table) * c * kh * kw * PANEL)
        mask = b.input(4) if len(b.ins) > 4 and b.ins[4] is not None else 0
        b.step(
            "deform_columns",
            n * len(panels.table),
            columns,
            b.input(0),
            b.input(2),
            mask,
            c,
            height,
            width,
            *windows.out,
            kh,
            kw,
            *windows.strides,
            *windows.dilations,
            *windows.begins,
            int(self.attr("offset_group", 1)),
            PANEL,
        )
        emit(
            b,
            Product(
                x=columns,
                w=b.packed(1, "tiles", lambda: pack_tiles(b.value(1).reshape(group, outs // group, k))),
                y=b.output(),
                offsets=np.arange(k, dtype=np.int64) * PANEL,
                panels=panels,
                rows=outs // group,
                images=n,
                groups=group,
                inputs=k,
                x_strides=(len(panels.table) * c * kh * kw * PANEL, k * PANEL),
                w_strides=(0, outs // group * k),
                y_strides=(outs * pixels, pixels, 1),
                bias=b.optional(3),
            ),
        )
        return True


def sample_columns(
    x: np.ndarray, offset: np.ndarray, mask: np.ndarray | None, windows: Windows, groups: int
) -> np.ndarray:
    """The taps' samples [N, C, taps, oH, oW], in NumPy."""
    n, c, height, width = x.shape
    (kh, kw), (oh, ow) = windows.kernel, windows.out
    taps = kh * kw
    moved = offset.reshape(n, groups, taps, 2, oh, ow)
    axes = []
    for axis, (count, size) in enumerate(((kh, oh), (kw, ow))):
        grid = np.arange(size) * windows.strides[axis] - windows.begins[axis]
        tap = np.arange(count) * windows.dilations[axis]
        axes.append((tap, grid))
    rows = (axes[0][0][:, None, None, None] + axes[0][1][:, None]) + np.zeros((1, kw, 1, ow))
    cols = (axes[1][0][:, None, None] + axes[1][1]) + np.zeros((kh, 1, oh, 1))
    h = moved[:, :, :, 0] + rows.reshape(taps, oh, ow).astype(x.dtype)
    w = moved[:, :, :, 1] + cols.reshape(taps, oh, ow).astype(x.dtype)
    planes = x.reshape(n, groups, c // groups, height * width)
    sampled = bilinear(planes, h, w, height, width)
    if mask is not None:
        sampled = sampled * mask.astype(x.dtype).reshape(n, groups, 1, taps, oh, ow)
    return sampled.reshape(n, c, taps, oh, ow)


def bilinear(planes: np.ndarray, h: np.ndarray, w: np.ndarray, height: int, width: int) -> np.ndarray:
    """Samples of planes [N, G, C, H * W] at points h, w [N, G, ...], zero outside: [N, G, C, ...]."""
    n, groups, channels = planes.shape[:3]
    h0, w0 = np.floor(h), np.floor(w)
    total = np.zeros((n, groups, channels, *h.shape[2:]), planes.dtype)
    for dh in (0, 1):
        for dw in (0, 1):
            hi, wi = h0 + dh, w0 + dw
            weight = np.abs(1 - dh - (h - h0)) * np.abs(1 - dw - (w - w0))
            inside = (hi >= 0) & (hi < height) & (wi >= 0) & (wi < width) & np.isfinite(weight)
            index = np.where(inside, hi * width + wi, 0).astype(np.int64)
            flat = np.broadcast_to(index.reshape(n, groups, 1, -1), (n, groups, channels, index[0, 0].size))
            taken = np.take_along_axis(planes, flat, axis=3).reshape(total.shape)
            total += np.where(inside, weight, 0).astype(planes.dtype)[:, :, None] * taken
    return total
