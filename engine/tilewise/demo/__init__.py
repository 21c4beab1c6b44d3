"""Data of the demo: handwritten digits and a small CNN that reads them; see README.md for their source."""

from __future__ import annotations

from importlib import resources

import numpy as np

TRAINED_ON = 1197
"""The model was trained on the images before this index; those from here on are held out."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images, (N, 1, 8, 8) float32 in 0..1, and their labels, (N,) int64."""
    with resources.files(__name__).joinpath("digits.npz").open("rb") as file, np.load(file) as data:
        return data["images"][:, None].astype(np.float32) / 16, data["labels"].astype(np.int64)


def model_bytes() -> bytes:
    """The ONNX model: `image` (N, 1, 8, 8) float32 in 0..1 to `probabilities` (N, 10)."""
    return resources.files(__name__).joinpath("digits.onnx").read_bytes()
