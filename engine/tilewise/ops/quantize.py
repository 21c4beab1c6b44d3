"""Linear quantization and its inverse, in NumPy."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tilewise import dtypes
from tilewise.graph import Fact
from tilewise.ops.base import Array, Inputs
from tilewise.ops.cast import convert
from tilewise.ops.elementwise import FLOAT8, FLOATS, ElementWise, wide

_NARROW_INTS = frozenset({"int2", "uint2", "int4", "uint4"})
_NARROW_FLOATS = frozenset({"float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"})
_STORED = _NARROW_INTS | {"int8", "uint8", "int16", "uint16"}
QUANTIZED = _STORED | FLOAT8 | _NARROW_FLOATS
SCALES = FLOATS | {"float8_e8m0fnu"}


class Linear(ElementWise):
    """What both directions share: a scale and a zero point for the tensor, an axis or its blocks."""

    scales: ClassVar[frozenset[str]] = SCALES
    zero_points: ClassVar[frozenset[str]] = QUANTIZED

    def parameters(self, ins: Inputs) -> tuple[Fact, Fact, Fact | None]:
        """Facts of x, the scale and the zero point, checked."""
        x, scale = self.operand(ins, 0), self.operand(ins, 1, self.scales)
        if len(ins) < 3 or ins[2] is None:
            return x, scale, None
        zero = self.operand(ins, 2, self.zero_points)
        if (
            scale.known_shape
            and zero.known_shape
            and scale.shape != zero.shape
            and scale.size * zero.size > 1
        ):
            raise self.fail(f"expected a zero point of the scale's shape {scale.shape}, got {zero}")
        return x, scale, zero

    def attribute_dtype(self, name: str) -> np.dtype | None:
        """The dtype that an attribute names, None where it is 0 or left out."""
        number = int(self.attr(name, 0))
        return dtypes.from_onnx(number) if number else None

    def spread(self, values: Array, shape: tuple[int, ...]) -> Array:
        """A scale or zero point as it broadcasts against x of `shape`."""
        if values.size == 1:
            return values.reshape(())
        axis = self.axis(int(self.attr("axis", 1)), len(shape))
        block = int(self.attr("block_size", 0))
        if block:
            values = np.repeat(values, block, axis)
            values = values[(slice(None),) * axis + (slice(shape[axis]),)]
            fits = values.shape == shape
        else:
            fits = values.shape == (shape[axis],)
            values = values.reshape((-1,) + (1,) * (len(shape) - axis - 1))
        if not fits:
            raise self.fail(f"expected a scale for axis {axis} of x {shape} in blocks of {block or 1}")
        return values


class QuantizeLinear(Linear):
    """y = saturate(round(x / scale) + zero point), ties to even (ONNX QuantizeLinear, opset 28).

    y has the type of the zero point, or `output_dtype`, or uint8; the division is done in `precision`, or in the
    scale's type.
    """

    attributes = frozenset({"axis", "block_size", "output_dtype", "precision", "saturate"})
    accepts = FLOATS | {"int32"}
    scales = SCALES | {"int32"}

    def infer(self, ins: Inputs) -> list[Fact]:
        x, _, zero = self.parameters(ins)
        wanted = self.attribute_dtype("output_dtype")
        if zero is not None and wanted is not None and (zero.dtype or wanted) != wanted:
            raise self.fail(f"expected a zero point of output_dtype {wanted.name}, got {zero}")
        default = np.dtype(np.uint8) if zero is None else zero.dtype
        return [Fact(wanted or default, x.shape)]

    def evaluate(self, x, scale, zero=None):
        to = self.attribute_dtype("output_dtype") or (np.dtype(np.uint8) if zero is None else zero.dtype)
        precision = self.attribute_dtype("precision") or scale.dtype
        if precision.name not in FLOATS:
            precision = np.dtype(np.float32)
        y = x.astype(precision) / self.spread(scale, x.shape).astype(precision)
        zero = None if zero is None else self.spread(zero, x.shape)
        return [stored(wide(y), zero, to, bool(self.attr("saturate", 1)))]


def stored(y: Array, zero: Array | None, to: np.dtype, saturate: bool = True) -> Array:
    """y, in float32 or float64 and already scaled, as a quantized type: rounded, ties to even, shifted by a zero
    point that broadcasts against it, and saturated; `saturate` is for float8 types alone."""
    if to.name not in _STORED:
        return convert(y if zero is None else y + zero.astype(np.float32), to, saturate)
    from ml_dtypes import iinfo

    y = np.rint(y).astype(np.float64)
    if zero is not None:
        y = y + zero.astype(np.float64)
    return np.clip(y, int(iinfo(to).min), int(iinfo(to).max)).astype(np.int32).astype(to)


class DequantizeLinear(Linear):
    """y = (x - zero point) scale, of the scale's type or `output_dtype` (ONNX DequantizeLinear, opset 28)."""

    attributes = frozenset({"axis", "block_size", "output_dtype"})
    accepts = QUANTIZED | {"int32"}
    zero_points = accepts

    def infer(self, ins: Inputs) -> list[Fact]:
        x, scale, zero = self.parameters(ins)
        if zero is not None:
            self.common_dtype([x, zero])
        return [Fact(self.attribute_dtype("output_dtype") or scale.dtype, x.shape)]

    def evaluate(self, x, scale, zero=None):
        y = x.astype(np.float32)
        if zero is not None:
            y = y - self.spread(zero, x.shape).astype(np.float32)
        y = y * self.spread(scale, x.shape).astype(np.float32)
        return [y.astype(self.attribute_dtype("output_dtype") or scale.dtype)]


class DynamicQuantizeLinear(ElementWise):
    """y in uint8, its scale and zero point, from x's range with 0 in it (ONNX DynamicQuantizeLinear, opset 11)."""

    accepts = frozenset({"float32"})

    def infer(self, ins: Inputs) -> list[Fact]:
        byte = np.dtype(np.uint8)
        x = self.operand(ins, 0)
        return [Fact(byte, x.shape), Fact(np.dtype(np.float32), ()), Fact(byte, ())]

    def evaluate(self, x):
        low, high = np.minimum(x.min(initial=0), 0), np.maximum(x.max(initial=0), 0)
        scale = np.float32((high - low) / 255 if high > low else 1 / 255)
        zero = np.rint(np.clip(-low / scale, 0, 255))
        y = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8)
        return [y, np.asarray(scale), np.asarray(zero).astype(np.uint8)]
