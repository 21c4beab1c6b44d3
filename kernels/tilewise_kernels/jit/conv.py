"""Padded images and depthwise convolution; arguments and tasks as in src/conv.pyx."""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit

from tilewise_kernels.jit.activation import activate
from tilewise_kernels.jit.emit import (
    VECTOR,
    address_of,
    load_double,
    load_float,
    load_long,
    stack_floats,
    store_float,
    taps,
)
from tilewise_kernels.jit.gemm import SIGNATURE

plane_buffer = stack_floats(8192)
row_buffer = stack_floats(4096)


@njit(error_model="numpy")
def phase_row(target, width, source, phase, stride):
    """A row's columns [lo, hi) from first + lo * stride on, else zero; phase: address of first, lo, hi."""
    first, lo, hi = load_long(phase), load_long(phase + 8), load_long(phase + 16)
    for j in range(lo):
        store_float(target + 4 * j, np.float32(0.0))
    for j in range(lo, hi):
        store_float(target + 4 * j, load_float(source + 4 * (first + j * stride)))
    for j in range(hi, width):
        store_float(target + 4 * j, np.float32(0.0))


@njit(error_model="numpy")
def zero_row(target, width):
    for j in range(width):
        store_float(target + 4 * j, np.float32(0.0))


@cfunc(SIGNATURE, error_model="numpy")
def pad_phases(a, begin, end):
    size = a[9] * a[10] * a[11]
    for plane in range(begin * a[14], min(end * a[14], a[2])):
        x = a[1] + 4 * plane * a[3] * a[4] * a[5]
        y = a[0] + 4 * plane * a[12] * size
        for p in range(a[12]):
            phase = a[13] + 40 * p
            for d in range(a[9]):
                z = d * a[6] + load_long(phase)
                for h in range(a[10]):
                    i = h * a[7] + load_long(phase + 8)
                    if z < 0 or z >= a[3] or i < 0 or i >= a[4]:
                        zero_row(y, a[11])
                    else:
                        phase_row(y, a[11], x + 4 * (z * a[4] + i) * a[5], phase + 16, a[8])
                    y += 4 * a[11]


@cfunc(SIGNATURE, error_model="numpy")
def depthwise(a, begin, end):
    plane, rows = plane_buffer(), row_buffer()
    alpha, beta = load_double(address_of(a) + 8 * 23), load_double(address_of(a) + 8 * 24)
    pitch, width, inputs = a[19], a[10], a[5] // a[6]
    for task in range(begin, end):
        c, n = task % a[5], task // a[5]
        x = a[0] + 4 * (n * inputs + c // a[6]) * a[7] * a[8]
        y = a[2] + 4 * task * a[9] * width
        bias = np.float32(0.0) if a[3] == 0 else load_float(a[3] + 4 * c)
        oh = 0
        while oh < a[9]:
            count = min(a[17], a[9] - oh)
            for p in range(a[20]):
                for r in range(a[18]):
                    target = plane + 4 * (p * a[18] + r) * pitch
                    i = (oh + r) * a[11] + load_long(a[21] + 32 * p)
                    if i < 0 or i >= a[7]:
                        zero_row(target, pitch)
                    else:
                        phase_row(target, pitch, x + 4 * i * a[8], a[21] + 32 * p + 8, a[12])
            flat = ((count - 1) * pitch + width + VECTOR - 1) // VECTOR * VECTOR
            taps(a[15], a[1] + 4 * c * a[15], plane, a[16], rows, flat, bias)
            for r in range(count):
                for j in range(width):
                    value = load_float(rows + 4 * (r * pitch + j))
                    if a[4] != 0:
                        value += load_float(a[4] + 4 * (task * a[9] * width + (oh + r) * width + j))
                    store_float(y + 4 * ((oh + r) * width + j), value)
            if a[22] != 0:
                activate(a[22], y + 4 * oh * width, count * width, alpha, beta)
            oh += count
