"""Decoding of images."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Array, Inputs, Op

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


class ImageDecoder(Op):
    """The pixels (H, W, C) of an encoded image, uint8 (ONNX ImageDecoder, opset 20).

    Input: the file's bytes, uint8 (n,). Output: (0, 0, C) where it cannot be decoded. Needs Pillow.
    """

    attributes = frozenset({"pixel_format"})

    def unsupported(self) -> str | None:
        if self._format() not in _CHANNELS:
            return f"attribute 'pixel_format' = {self._format()!r}, expected one of {', '.join(_CHANNELS)}"
        if importlib.util.find_spec("PIL") is None:
            return "decoding images needs Pillow: pip install 'tilewise[demo]'"
        return None

    def _format(self) -> str:
        return self.attr("pixel_format", "RGB")

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.rank not in (None, 1):
            raise self.fail(f"expected the bytes of a file, of shape (n,), got {x}")
        return [Fact(np.dtype(np.uint8), (None, None, _CHANNELS[self._format()]))]

    def evaluate(self, encoded):
        from PIL import Image

        channels = _CHANNELS[self._format()]
        try:
            with Image.open(io.BytesIO(encoded.tobytes()), formats=_FORMATS) as image:
                pixels = _pixels(image, "L" if channels == 1 else "RGB")
        except Exception:  # ONNX: an empty matrix if it cannot be decoded for any reason
            return [np.zeros((0, 0, channels), np.uint8)]
        return [pixels[..., ::-1] if self._format() == "BGR" else pixels]


def _pixels(image: Image, mode: str) -> Array:
    """(H, W, C) uint8; of samples of 16 bits, the upper 8."""
    if image.mode.startswith("I"):
        gray = np.right_shift(np.asarray(image), 8).astype(np.uint8)
        return np.repeat(gray[..., None], len(mode), axis=2)
    pixels = np.array(image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], len(mode))
