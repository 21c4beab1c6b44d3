"""Conversions between element types: Cast, CastLike, BitCast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilewise import dtypes
from tilewise.graph import Fact
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import FLOAT8, Unary, lower_map

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering

_BOOLEANS = {"true": 1.0, "false": 0.0}
_ROUND_MODES = ("up", "down", "nearest")


def convert(x: np.ndarray, to: np.dtype, saturate: bool = True, round_mode: str = "up") -> np.ndarray:
    """x in dtype `to`, by the rules of ONNX Cast (opset 25).

    saturate: values beyond a float8 type become its largest; otherwise infinity or NaN.
    round_mode: "up", "down" or "nearest", for float8_e8m0fnu, which has powers of two alone.
    """
    if x.dtype == to:
        return x
    if x.dtype == dtypes.STRING:
        x = _from_strings(x, to)
    if to == dtypes.STRING:
        return _to_strings(x)
    if to.name == "float8_e8m0fnu":
        return _to_powers_of_two(x, to, saturate, round_mode)
    if to.name in FLOAT8 and saturate:
        from ml_dtypes import finfo

        limit = float(finfo(to).max)
        return np.clip(_plain(x), -limit, limit).astype(to)
    if to.kind in "biu":
        return _plain(x).astype(to)
    return x.astype(to)


def _plain(x: np.ndarray) -> np.ndarray:
    """Types that NumPy lacks as int8 or float32, which hold them exactly; others as they are."""
    if x.dtype.kind in "biufcO":
        return x
    return x.astype(np.int8 if "int" in x.dtype.name else np.float32)


def _to_strings(x: np.ndarray) -> np.ndarray:
    """The shortest text that reads back as the same number."""
    return _plain(x).astype(np.str_).astype(object)


def _from_strings(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """Numbers as float64, or as integers where `to` is one and the text is whole."""

    def number(text: str) -> float | int:
        text = text.strip()
        if to.kind in "iu":
            try:
                return int(text)
            except ValueError:
                return int(float(text))
        return _BOOLEANS[text.lower()] if text.lower() in _BOOLEANS else float(text)

    kind = to if to.kind in "iu" else np.dtype(np.float64)
    return np.array([number(str(t)) for t in x.ravel()], kind).reshape(x.shape)


def _to_powers_of_two(x: np.ndarray, to: np.dtype, saturate: bool, round_mode: str) -> np.ndarray:
    """E8M0 bytes: the exponent plus 127, 255 for NaN."""
    mantissa, exponent = np.frexp(_plain(x).astype(np.float64))
    above = {"up": mantissa > 0.5, "down": np.zeros(x.shape, bool), "nearest": mantissa >= 0.75}[round_mode]
    code = exponent + 126 + above
    code = np.where(mantissa == 0, -1, np.where(np.isinf(mantissa), 255, code))
    code = np.clip(code, 0, 254) if saturate else np.where((code < 0) | (code > 254), 255, code)
    return np.where(np.isnan(mantissa), 255, code).astype(np.uint8).view(to)


class Conversion(Unary):
    """y is x in another type; `target` says which."""

    def target(self, ins: Inputs) -> np.dtype | None:
        """The dtype of the result, None while it is not known."""
        return dtypes.from_onnx(int(self.attr("to")))

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] if ins else None
        if x is None:
            raise self.fail("input 0 is missing")
        if x.kind != "tensor":
            raise self.fail(f"input 0: expected a tensor, got {x}")
        return [Fact(self.target(ins), x.shape)]

    def unsupported(self) -> str | None:
        if "to" in self.attributes:
            try:
                self.target([])
            except (KeyError, TypeError, ValueError):
                return f"attribute to: {self.attr('to')!r} is not a known element type"
        if self.round_mode not in _ROUND_MODES:
            return f"attribute round_mode: expected one of {', '.join(_ROUND_MODES)}, got {self.round_mode!r}"
        return None

    @property
    def round_mode(self) -> str:
        value = self.attr("round_mode", "up")
        return value.decode() if isinstance(value, bytes) else str(value)

    def converted(self, x: np.ndarray, to: np.dtype) -> list[np.ndarray]:
        return [convert(x, to, bool(self.attr("saturate", 1)), self.round_mode)]

    def lower(self, b: Lowering) -> bool:
        source, to = b.ins[0].dtype, b.outs[0].dtype
        if source == to:
            b.alias(0, 0)
            return True
        return lower_map(b, f"cast_{source.name}_{to.name}")


class Cast(Conversion):
    """y is x in the type `to` (ONNX Cast, opset 28)."""

    attributes = frozenset({"round_mode", "saturate", "to"})

    def evaluate(self, x):
        to = self.target([])
        assert to is not None
        return self.converted(x, to)


class CastLike(Conversion):
    """y is x in the type of a second tensor, whose content is not read (ONNX CastLike, opset 25)."""

    attributes = frozenset({"round_mode", "saturate"})

    def target(self, ins: Inputs) -> np.dtype | None:
        if len(ins) < 2 or ins[1] is None:
            raise self.fail("input 1 (target_type) is missing")
        return ins[1].dtype

    def evaluate(self, x, like):
        return self.converted(x, like.dtype)


class BitCast(Conversion):
    """y has the bits of x, element by element, in a type of the same width (ONNX BitCast, opset 26)."""

    attributes = frozenset({"to"})

    def infer(self, ins: Inputs) -> list[Fact]:
        (y,) = super().infer(ins)
        source = ins[0].dtype
        if source is not None and _bits(source) != _bits(y.dtype):
            raise self.fail(f"expected a type as wide as {source.name}, got {y.dtype.name}")
        return [y]

    def evaluate(self, x):
        return [x.view(self.target([]))]

    def lower(self, b: Lowering) -> bool:
        b.alias(0, 0)
        return True


def _bits(dtype: np.dtype) -> int:
    """Bits of an element; those of less than a byte are stored in one, and strings have none."""
    if dtype.hasobject:
        return 0
    digits = "".join(c for c in dtype.name.split("_")[0] if c.isdigit())
    return min(int(digits or 8), 8 * dtype.itemsize)
