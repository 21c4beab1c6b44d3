"""Plain definitions in float64, written as loops over taps: what kernels and NumPy code are held against."""

from __future__ import annotations

import numpy as np


def conv(x, w, b=None, *, stride=1, pads=None, dilation=1, group=1):
    """Convolution of any rank as a sum over taps; stride and dilation are ints or one for each axis."""
    n = x.ndim - 2
    strides = [stride] * n if isinstance(stride, int) else list(stride)
    dilations = [dilation] * n if isinstance(dilation, int) else list(dilation)
    pads = [0] * (2 * n) if pads is None else list(pads)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    out = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(padded.shape[2:], w.shape[2:], dilations, strides, strict=True)
    ]
    y = np.zeros((x.shape[0], w.shape[0], *out))
    depth, outs = w.shape[1], w.shape[0] // group
    for g in range(group):
        rows, channels = slice(g * outs, (g + 1) * outs), slice(g * depth, (g + 1) * depth)
        for tap in np.ndindex(*w.shape[2:]):
            where = tuple(
                slice(t * d, t * d + (size - 1) * s + 1, s)
                for t, d, s, size in zip(tap, dilations, strides, out, strict=True)
            )
            weights = w[(rows, slice(None), *tap)].astype(np.float64)
            y[:, rows] += np.einsum("oc,nc...->no...", weights, padded[(slice(None), channels, *where)])
    return y if b is None else y + b.astype(np.float64).reshape(-1, *[1] * n)


def conv_transpose(x, w, b=None, *, stride=1, pads=None, dilation=1, group=1, output_padding=0):
    """Transposed convolution of any rank: every input adds its taps where they land."""
    n = x.ndim - 2
    strides = [stride] * n if isinstance(stride, int) else list(stride)
    dilations = [dilation] * n if isinstance(dilation, int) else list(dilation)
    extra = [output_padding] * n if isinstance(output_padding, int) else list(output_padding)
    pads = [0] * (2 * n) if pads is None else list(pads)
    full = [
        (size - 1) * s + (k - 1) * d + 1 + e
        for size, s, k, d, e in zip(x.shape[2:], strides, w.shape[2:], dilations, extra, strict=True)
    ]
    y = np.zeros((x.shape[0], w.shape[1] * group, *full))
    depth = x.shape[1] // group
    for place in np.ndindex(*x.shape[2:]):
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True))
            for g in range(group):
                xs = x[(slice(None), slice(g * depth, (g + 1) * depth), *place)].astype(np.float64)
                ws = w[(slice(g * depth, (g + 1) * depth), slice(None), *tap)].astype(np.float64)
                y[(slice(None), slice(g * w.shape[1], (g + 1) * w.shape[1]), *at)] += xs @ ws
    crop = tuple(slice(b, s - e) for b, s, e in zip(pads[:n], full, pads[n:], strict=True))
    y = y[(slice(None), slice(None), *crop)]
    return y if b is None else y + b.astype(np.float64).reshape(-1, *[1] * n)


def deform_conv(
    x, w, offset, b=None, mask=None, *, stride=1, pads=(0, 0, 0, 0), dilation=1, group=1, offset_group=1
):
    """Deformable convolution, one output and tap at a time."""
    n, c = x.shape[:2]
    outs, depth, kh, kw = w.shape
    oh, ow = offset.shape[2:]
    y = np.zeros((n, outs, oh, ow))
    for i, og, r, q, u, v in np.ndindex(n, offset_group, oh, ow, kh, kw):
        tap = (og * kh + u) * kw + v
        h = r * stride - pads[0] + u * dilation + float(offset[i, 2 * tap, r, q])
        t = q * stride - pads[1] + v * dilation + float(offset[i, 2 * tap + 1, r, q])
        scale = 1.0 if mask is None else float(mask[i, tap, r, q])
        for channel in range(og * c // offset_group, (og + 1) * c // offset_group):
            value = scale * _bilinear(x[i, channel], h, t)
            g = channel // depth
            rows = slice(g * outs // group, (g + 1) * outs // group)
            y[i, rows, r, q] += w[rows, channel % depth, u, v].astype(np.float64) * value
    return y if b is None else y + b.astype(np.float64).reshape(-1, 1, 1)


def _bilinear(plane, h, w):
    total = 0.0
    for i in (int(np.floor(h)), int(np.floor(h)) + 1):
        for j in (int(np.floor(w)), int(np.floor(w)) + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += max(0.0, 1 - abs(h - i)) * max(0.0, 1 - abs(w - j)) * float(plane[i, j])
    return total
