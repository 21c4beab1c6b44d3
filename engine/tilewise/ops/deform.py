"""Deformable convolution (Dai et al. 2017; with a mask, Zhu et al. 2019; ONNX DeformConv, opset 19, 22)."""

from __future__ import annotations

import math

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.lowering import Lowering, Ref, aligned
from tilewise.ops.tiles import PANEL, TASKS, TILE_ROWS, VECTOR
from tilewise.ops.windows import Windows, read_windows

DEFORM_TILES = 4
"""Register tiles that kernel `deform` works on together: TW_DEFORM_TILES of `deform.h`."""
PIXEL_FLOATS = 1 << 15
"""Floats that a task of kernel `pixels` writes, about."""


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
        if not b.is_dtype("float32") or b.value(1) is None or not b.has("deform"):
            return False
        if np.prod(b.ins[0].shape[2:]) >= 2**31:
            return False
        Deformation(self, b).emit(b)
        return True


class Deformation:
    """The arguments of kernel `deform` for one node.

    Channels are cut into segments, each of one group and one offset group, and these into blocks of a vector.
    """

    def __init__(self, op: DeformConv, b: Lowering) -> None:
        (self.n, self.c, *self.sizes), (outs, self.depth, *_) = b.ins[0].shape, b.ins[1].shape
        self.windows = read_windows(op, self.sizes, b.ins[1].shape[2:])
        self.offset_groups = int(op.attr("offset_group", 1))
        self.groups = self.c // self.depth
        self.outs = outs // self.groups
        self.width = -(-self.outs // VECTOR) * VECTOR
        self.segment = math.gcd(self.depth, self.c // self.offset_groups)
        self.segment_blocks = -(-self.segment // VECTOR)
        self.blocks = self.depth // self.segment * self.segment_blocks
        self.pitch = self.groups * self.blocks * VECTOR

    def emit(self, b: Lowering) -> None:
        windows, tile = self.windows, DEFORM_TILES * TILE_ROWS
        pixels = windows.out[0] * windows.out[1]
        runs = max(1, min(-(-TASKS // self.n), pixels // (2 * tile)))
        per_task = -(-pixels // (runs * tile)) * tile
        tasks = self.n * -(-pixels // per_task)
        weights = b.packed(1, f"deform {self.segment} of {self.groups} groups", lambda: self.pack(b.value(1)))
        args = (
            self.n,
            self.groups,
            self.outs,
            self.width,
            self.blocks,
            self.segment_blocks,
            self.offset_groups,
        )
        b.step(
            "deform",
            tasks,
            b.output(),
            self.pixels(b),
            weights,
            b.input(2),
            b.optional(4),
            b.optional(3),
            b.temp(4 * tasks * tile * self.width),
            *args,
            self.c // self.offset_groups // self.segment,
            *self.sizes,
            *windows.out,
            *windows.kernel,
            *windows.strides,
            *windows.dilations,
            *windows.begins,
            per_task,
        )

    def pixels(self, b: Lowering) -> Ref:
        """The step that lays each pixel's channels side by side."""
        plane = self.sizes[0] * self.sizes[1]
        y = b.temp(4 * self.n * (plane + 1) * self.pitch)
        per_task = max(VECTOR, -(-PIXEL_FLOATS // self.pitch) // VECTOR * VECTOR)
        segments = self.c // self.segment
        b.step(
            "pixels", self.n * -(-plane // per_task), y, b.input(0), plane, segments, self.segment, per_task
        )
        return y

    def pack(self, w: np.ndarray) -> np.ndarray:
        """w (oC, C / group, kH, kW) as [group][panel of two vectors, or one at last][tap, block, lane][outs]."""
        lanes, taps = self.segment_blocks * VECTOR, w.shape[2] * w.shape[3]
        segments = self.depth // self.segment
        full = np.zeros((self.groups, taps, segments, lanes, self.width), np.float32)
        given = w.reshape(self.groups, self.outs, segments, self.segment, taps)
        full[:, :, :, : self.segment, : self.outs] = given.transpose(0, 4, 2, 3, 1)
        rows = full.reshape(self.groups, -1, self.width)
        panels = [rows[:, :, o : o + PANEL].reshape(self.groups, -1) for o in range(0, self.width, PANEL)]
        return aligned(np.concatenate(panels, axis=1))


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
