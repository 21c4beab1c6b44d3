"""Pooling as loops over windows in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np


def window_count(size, kernel, stride, dilation, begin, end, ceil_mode):
    room = (size + begin + end - (kernel - 1) * dilation - 1) / stride
    out = (math.ceil(room) if ceil_mode else math.floor(room)) + 1
    return out - (ceil_mode and (out - 1) * stride >= size + begin)


def naive_pool(
    x, kind, kernel, *, strides=None, dilations=None, pads=None, ceil_mode=0, padded=False, p=2, column=False
):
    """y and flat indices; kind: "max", "mean" or "norm"; padded: means count padding; column: order."""
    n = x.ndim - 2
    strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * (2 * n)
    sizes = x.shape[2:]
    out = [
        window_count(sizes[i], kernel[i], strides[i], dilations[i], pads[i], pads[n + i], ceil_mode)
        for i in range(n)
    ]
    y = np.empty((*x.shape[:2], *out))
    index = np.empty(y.shape, np.int64)
    for at in np.ndindex(*y.shape):
        found, counted = [], 0
        for tap in itertools.product(*map(range, kernel)):
            pos = [at[2 + i] * strides[i] - pads[i] + tap[i] * dilations[i] for i in range(n)]
            counted += all(pos[i] < sizes[i] + pads[n + i] for i in range(n))
            if all(0 <= pos[i] < sizes[i] for i in range(n)):
                found.append((np.float64(x[(*at[:2], *pos)]), tuple(pos)))
        y[at], index[at] = _reduce(found, counted, kind, padded, p), -1
        if kind == "max":
            index[at] = _flat(found, y[at], sizes, column) + (at[0] * x.shape[1] + at[1]) * math.prod(sizes)
    return [y.astype(x.dtype), index] if kind == "max" else [y.astype(x.dtype)]


def _reduce(found, counted, kind, padded, p):
    numbers = np.array([v for v, _ in found])
    if kind == "max":
        return numbers.max()
    if kind == "mean":
        return numbers.sum() / (counted if padded else len(found))
    return (np.abs(numbers) ** p).sum() ** (1 / p)


def _flat(found, top, sizes, column):
    pos = next(p for v, p in found if v == top or (v != v and top != top))
    if column:
        pos, sizes = pos[::-1], sizes[::-1]
    return int(np.ravel_multi_index(pos, sizes))
