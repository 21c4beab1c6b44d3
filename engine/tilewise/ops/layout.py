"""Memory layouts of a value in a plan: plain, as ONNX has it, and channel-blocked.

Blocked, a float32 value (N, C, *S) lies as [N][ceil(C / VECTOR)][*S][VECTOR], so that a vector register holds the
channels of one place. What stands in the lanes behind the last channel is unspecified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import tilewise_kernels

VECTOR = tilewise_kernels.VECTOR_FLOATS
PLAIN, BLOCKED = "plain", "blocked"


def block_count(channels: int) -> int:
    return -(-channels // VECTOR)


def blocked_floats(shape: Sequence[int]) -> int:
    """Floats of a blocked value of `shape`, the filled-up lanes included."""
    return shape[0] * block_count(shape[1]) * VECTOR * math.prod(shape[2:])


def whole_blocks(shape: Sequence[int]) -> bool:
    """True where no lanes are filled up."""
    return shape[1] % VECTOR == 0


def same_order(shape: Sequence[int]) -> bool:
    """True where a blocked value of `shape` begins with the plain one: one place an image, no gaps between images."""
    return math.prod(shape[2:]) == 1 and (shape[0] == 1 or whole_blocks(shape))


def pack_blocked(x: np.ndarray) -> np.ndarray:
    """(N, C, *S) in blocked layout, filled up with zeros."""
    n, c, *spatial = x.shape
    filled = np.zeros((n, block_count(c) * VECTOR, *spatial), np.float32)
    filled[:, :c] = x
    return np.ascontiguousarray(np.moveaxis(filled.reshape(n, -1, VECTOR, *spatial), 2, -1))


def pack_channels(values: np.ndarray) -> np.ndarray:
    """One number a channel, filled up with zeros to whole blocks."""
    return pack_blocked(values.reshape(1, -1, 1)).ravel()
