"""Photos as input arrays: decoding, resizing, normalizing, layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tilewise.errors import InputError
from tilewise.graph import Fact
from tilewise.graph.facts import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

NORMALIZATIONS = {
    "unit": "0/255",
    "signed": "127.5/127.5",
    "none": "0/1",
    "imagenet": "123.675,116.28,103.53/58.395,57.12,57.375",
}
"""Named MEAN/STD pairs in units of 8-bit pixels: x = (pixel - mean) / std."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an input of rank 3 or 4 has channels, rows and columns; a free height or width is None."""

    rank: int
    channels_first: bool
    channels: int
    height: int | None
    width: int | None


def image_layout(name: str, shape: Shape | None) -> Layout:
    """NCHW, NHWC, CHW or HWC with 1 or 3 channels and a batch of 1, as the declared shape tells."""
    dims = shape[1:] if shape is not None and len(shape) == 4 else shape
    if shape is None or dims is None or len(dims) != 3:
        raise InputError(
            f"input {name!r} has shape {shape}: an image needs rank 3 or 4; feed an array instead"
        )
    if len(shape) == 4 and isinstance(shape[0], int) and shape[0] != 1:
        raise InputError(
            f"input {name!r} takes a batch of {shape[0]}: one image does not fill it; feed an array"
        )
    first = dims[0] in (1, 3) or (not isinstance(dims[0], int) and dims[2] not in (1, 3))
    channels, height, width = (dims[0], dims[1], dims[2]) if first else (dims[2], dims[0], dims[1])
    if isinstance(channels, int) and channels not in (1, 3):
        raise InputError(f"input {name!r} has shape {shape}: an image has 1 or 3 channels, first or last")
    return Layout(len(shape), first, _size(channels) or 3, _size(height), _size(width))


def load_image(path: Path) -> Image:
    """An upright picture; `InputError` where Pillow is missing or cannot read it."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise InputError(
            f'{path}: images need Pillow; install it with pip install "tilewise[demo]"'
        ) from None
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image: {error}") from None


def to_array(image: Image, name: str, fact: Fact, shape: Shape | None, normalize: str | None) -> np.ndarray:
    """The image as input `name`: resized to its H and W (bilinear), normalized, in its layout and dtype.

    normalize: MEAN/STD or a name of one; floats are scaled to 0..1 by default, integers stay 0..255.
    """
    from PIL.Image import Resampling

    layout = image_layout(name, shape)
    dtype = fact.dtype or np.dtype(np.float32)
    size = (layout.width or image.width, layout.height or image.height)
    resized = image.convert("L" if layout.channels == 1 else "RGB").resize(size, Resampling.BILINEAR)
    pixels = np.asarray(resized).reshape(size[1], size[0], layout.channels)
    if dtype.kind in "iu" and np.iinfo(dtype).max >= 255:
        if normalize is not None:
            raise InputError(f"input {name!r} is {dtype}: --normalize is for floating-point inputs")
        array = pixels.astype(dtype)
    elif dtype.kind == "f" or dtype.name == "bfloat16":
        mean, std = parse_normalization(normalize or "unit", layout.channels)
        array = ((pixels - mean) / std).astype(dtype)
    else:
        raise InputError(f"input {name!r} is {dtype}, which an image does not fit; feed an array instead")
    if layout.channels_first:
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array.reshape((1,) * (layout.rank - 3) + array.shape))


def parse_normalization(text: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation as float32 arrays, of one number or of one for each channel."""
    parts = NORMALIZATIONS.get(text, text).split("/")
    try:
        mean, std = (np.array([float(v) for v in part.split(",")], np.float32) for part in parts)
    except ValueError:
        known = ", ".join(NORMALIZATIONS)
        raise InputError(f"--normalize {text}: expected {known}, or MEAN/STD such as 127.5/127.5") from None
    for values in (mean, std):
        if len(values) not in (1, channels):
            raise InputError(
                f"--normalize {text}: {len(values)} values for an input of {channels} channel(s)"
            )
    if not (np.isfinite(mean).all() and (std > 0).all() and np.isfinite(std).all()):
        raise InputError(f"--normalize {text}: numbers must be finite and standard deviations positive")
    return mean, std


def _size(dim: int | str | None) -> int | None:
    return dim if isinstance(dim, int) else None
