"""ImageDecoder, against pixels that were encoded without loss."""

from __future__ import annotations

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from tests.ops.harness import check, one_node
from tilewise import TilewiseError, load

COLOR = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
FORMATS = {"PNG": {}, "BMP": {}, "PPM": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def encoded(pixels: np.ndarray, name: str = "PNG", mode: str | None = None, **options) -> np.ndarray:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, name, **options)
    return np.frombuffer(out.getvalue(), np.uint8)


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 in 16-bit fixed point, rounded."""
    r, g, b = np.moveaxis(rgb.astype(np.int64), 2, 0)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16)[..., None].astype(np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name):
    x = encoded(COLOR, name, **FORMATS[name])
    check("ImageDecoder", [x], {}, oracle=lambda _: COLOR, kernel=False)
    check("ImageDecoder", [x], {"pixel_format": "BGR"}, oracle=lambda _: COLOR[..., ::-1])
    check("ImageDecoder", [x], {"pixel_format": "Grayscale"}, oracle=lambda _: luma(COLOR))


GRAY = COLOR[..., :1]
WIDE = np.arange(0, 65536, 2114, dtype=np.uint16)[:30].reshape(5, 6)
MODES = [
    (encoded(GRAY[..., 0]), np.repeat(GRAY, 3, axis=2), GRAY),
    (encoded(np.dstack([COLOR, GRAY])), COLOR, luma(COLOR)),
    (
        encoded(GRAY[..., 0] > 99),
        np.repeat((GRAY > 99) * np.uint8(255), 3, axis=2),
        (GRAY > 99) * np.uint8(255),
    ),
    (encoded(WIDE), np.repeat((WIDE >> 8).astype(np.uint8)[..., None], 3, 2), (WIDE >> 8)[..., None]),
    (encoded(COLOR[:1, :1]), COLOR[:1, :1], luma(COLOR[:1, :1])),
]


@pytest.mark.parametrize(("x", "rgb", "gray"), MODES, ids=["gray", "alpha", "bits", "uint16", "one pixel"])
def test_modes(x, rgb, gray):
    check("ImageDecoder", [x], {}, oracle=lambda _: rgb)
    check("ImageDecoder", [x], {"pixel_format": "Grayscale"}, oracle=lambda _: gray.astype(np.uint8))


@pytest.mark.parametrize("size", [0, 20, 60])
def test_an_image_that_cannot_be_decoded_is_empty(size):
    x = encoded(COLOR)[:size].copy()
    check("ImageDecoder", [x], {}, oracle=lambda _: np.zeros((0, 0, 3), np.uint8))
    check("ImageDecoder", [x], {"pixel_format": "Grayscale"}, oracle=lambda _: np.zeros((0, 0, 1), np.uint8))


def test_a_format_that_onnx_does_not_name_is_not_decoded():
    x = encoded(COLOR, "GIF")
    check("ImageDecoder", [x], {}, oracle=lambda _: np.zeros((0, 0, 3), np.uint8))


def test_without_pillow(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(TilewiseError, match=r"needs Pillow: pip install 'tilewise\[demo\]'"):
        load(one_node("ImageDecoder", [encoded(COLOR)]))


ERRORS = [
    (
        np.zeros(3, np.uint8),
        {"pixel_format": "RGBA"},
        "'pixel_format' = 'RGBA', expected one of RGB, BGR, Gray",
    ),
    (np.zeros((3, 1), np.uint8), {}, "expected the bytes of a file, of shape (n,), got uint8[3, 1]"),
]


@pytest.mark.parametrize(("x", "attrs", "message"), ERRORS)
def test_errors(x, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node("ImageDecoder", [x], attrs))
    assert message in str(raised.value)
