"""Steps in channel-blocked layout for operators other than convolution; each emits nothing where it does not apply."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tilewise.graph.facts import Shape
from tilewise.ops.blocked.move import concat_channels
from tilewise.ops.layout import BLOCKED, VECTOR, block_count, pack_blocked, pack_channels, whole_blocks
from tilewise.ops.lowering import Lowering, Ref, chunks
from tilewise.ops.strided import Layout, copy
from tilewise.ops.windows import Windows

GRAIN = 1 << 14
"""Floats that a task reads, about."""


def blocked_dims(shape: Shape) -> Shape:
    """The dims of a value's memory in blocked layout."""
    return (shape[0], block_count(shape[1]), *shape[2:], VECTOR)


def is_blocked(b: Lowering, i: int = 0) -> bool:
    """True where input `i` lies blocked, and the outputs are float32 too."""
    return b.lies_blocked(i) and all(f is None or f.dtype == "float32" for f in b.outs)


def pool_blocked(b: Lowering, windows: Windows, maximum: bool, counts: Sequence[np.ndarray] | None) -> bool:
    """Maxima or means over windows on one or two axes; counts: along each axis, how many taps a mean counts."""
    if not is_blocked(b) or len(windows.out) > 2:
        return False
    rows, columns = (
        b.const(_inside(windows, axis, None if counts is None else counts[axis]))
        if axis >= 0
        else b.const(np.array([[0, 1, 1]], np.int64))
        for axis in (len(windows.out) - 2, len(windows.out) - 1)
    )
    h, w, oh, ow, _, _, sh, sw, dh, dw, ph, pw = (
        v
        for values, fill in (
            (windows.sizes, 1),
            (windows.out, 1),
            (windows.kernel, 1),
            (windows.strides, 1),
            (windows.dilations, 1),
            (windows.begins, 0),
        )
        for v in (*[fill] * (2 - len(values)), *values)
    )
    shape = b.ins[0].shape
    planes = shape[0] * block_count(shape[1])
    grain = max(1, min(oh, GRAIN // (ow * VECTOR * math.prod(windows.kernel))))
    sizes = (planes, h, w, oh, ow, sh, sw, dh, dw, ph, pw, grain, int(maximum), rows, columns)
    b.step("blocked_pool", planes * chunks(oh, grain), b.output(0, BLOCKED), b.input(0, BLOCKED), *sizes)
    return True


def _inside(windows: Windows, axis: int, counts: np.ndarray | None) -> np.ndarray:
    """int64 [windows, 3]: the first tap inside x, the first behind it, and what a mean counts."""
    stride, dilation = windows.strides[axis], windows.dilations[axis]
    at = np.arange(windows.out[axis]) * stride - windows.begins[axis]
    kernel, size = windows.kernel[axis], windows.sizes[axis]
    first = np.clip(-(at // dilation), 0, kernel)
    stop = np.clip(-((at - size) // dilation), first, kernel)
    return np.stack([first, stop, np.ones_like(at) if counts is None else counts], axis=1).astype(np.int64)


def planes_blocked(b: Lowering, maximum: bool) -> bool:
    """The maximum or the mean of every plane."""
    if not is_blocked(b):
        return False
    shape = b.ins[0].shape
    planes, places = shape[0] * block_count(shape[1]), math.prod(shape[2:])
    b.step("blocked_plane", planes, b.output(0, BLOCKED), b.input(0, BLOCKED), places, int(maximum))
    return True


def affine_blocked(
    b: Lowering,
    scale: Ref | int,
    shift: Ref | int,
    strides: tuple[int, int] = (0, 0),
    activation: tuple[int, float, float] = (0, 0.0, 0.0),
    x: int = 0,
) -> None:
    """act(input x * scale + shift) by channel; strides: floats from image to image in scale and shift."""
    shape = b.ins[x].shape
    blocks, places = block_count(shape[1]), math.prod(shape[2:])
    grain = min(places, max(1, GRAIN // VECTOR))
    args = (
        b.output(0, BLOCKED),
        b.input(x, BLOCKED),
        scale,
        shift,
        *strides,
        blocks,
        places,
        grain,
        *activation,
    )
    b.step("blocked_affine", shape[0] * blocks * chunks(places, grain), *args)
    b.inplace(0, x, BLOCKED)


def channel_constant(b: Lowering, values: np.ndarray) -> Ref:
    """A constant of one number a channel, as `affine_blocked` takes it."""
    return b.const(pack_channels(values))


def blocked_operands(b: Lowering, operands: Sequence[int]) -> tuple[list[Ref], list[Shape], Shape] | None:
    """Refs, dims of their memory, and those of output 0, such that operands broadcast to it in blocked layout.

    None where none of them lies so, or one cannot be brought there.
    """
    out = b.outs[0].shape
    if not (b.is_dtype("float32") and any(b.lies_blocked(i) for i in operands)):
        return None
    padded = [(1,) * (len(out) - len(b.ins[i].shape)) + b.ins[i].shape for i in operands]
    if not all(_fits_blocked(b, i, shape, out) for i, shape in zip(operands, padded, strict=True)):
        return None
    refs: list[Ref] = []
    dims: list[Shape] = []
    for i, shape in zip(operands, padded, strict=True):
        if shape[1] == out[1]:
            refs.append(_blocked_operand(b, i, shape))
            dims.append(blocked_dims(shape))
        else:
            refs.append(b.input(i))
            dims.append((*shape, 1))
    return refs, dims, blocked_dims(out)


def _fits_blocked(b: Lowering, i: int, shape: Shape, out: Shape) -> bool:
    if shape[1] == 1 != out[1]:
        return not b.lies_blocked(i)
    return shape[1] == out[1] and (len(b.ins[i].shape) == len(out) or b.value(i) is not None)


def _blocked_operand(b: Lowering, i: int, shape: Shape) -> Ref:
    if b.value(i) is None:
        return b.input(i, BLOCKED)
    return b.packed(i, f"blocked {shape}", lambda: pack_blocked(b.value(i).reshape(shape)))


def concat_blocked(b: Lowering, axis: int) -> bool:
    """Inputs one after the other along the channels, those that lie in their place already left there."""
    shapes = [f.shape for f in b.ins]
    if axis != 1 or len(shapes[0]) < 3 or not any(is_blocked(b, i) for i in range(len(shapes))):
        return False
    if not all(whole_blocks(s) for s in shapes[:-1]):
        concat_channels(b)
        return True
    out, start = _memory(b.output(0, BLOCKED), b.outs[0].shape), 0
    for i, shape in enumerate(shapes):
        part = _memory(b.input(i, BLOCKED), shape)
        stop = start + block_count(shape[1])
        target = out[:, start:stop]
        if target.ref != part.ref:
            copy(b, target, part)
        start = stop
    return True


def _memory(ref: Ref, shape: Shape) -> Layout:
    return Layout.of(ref, np.dtype(np.float32), blocked_dims(shape))
