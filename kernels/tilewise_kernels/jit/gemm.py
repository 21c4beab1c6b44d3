"""Matrix products on the register tile; arguments and tasks as in src/gemm.pyx."""

from __future__ import annotations

import numpy as np
from numba import cfunc, njit, types

from tilewise_kernels.jit.activation import activate
from tilewise_kernels.jit.emit import (
    TILE_ROWS,
    VECTOR,
    address_of,
    load_double,
    load_float,
    load_long,
    stack_floats,
    store_float,
    tile,
)

SIGNATURE = types.void(types.CPointer(types.int64), types.int64, types.int64)
PANEL = 2 * VECTOR
CLIP = 2
INFINITY = np.float32(np.inf)


tile_buffer = stack_floats(TILE_ROWS * PANEL)


@njit(error_model="numpy")
def bounds(code, alpha, beta):
    """What a tile clips to on behalf of an activation."""
    if code == 1:
        return np.float32(0.0), INFINITY
    if code == CLIP:
        return np.float32(alpha), np.float32(beta)
    return -INFINITY, INFINITY


@njit(error_model="numpy")
def tile_panel(a, x, w, y, bias, residual, panel, row, mr, buffer, alpha, beta):
    """Rows [row, row + mr) of one panel of `tile_gemm`, by way of a buffer of PANEL floats a row."""
    start, vectors, first, runs = (
        load_long(panel),
        load_long(panel + 8),
        load_long(panel + 16),
        load_long(panel + 24),
    )
    k, step, code = a[8], a[21], a[22]
    table = a[7] + 24 * first
    initial = 0
    if residual != 0:
        initial = buffer
        for i in range(mr):
            for j in range(PANEL):
                store_float(buffer + 4 * (i * PANEL + j), np.float32(0.0))
            for r in range(runs):
                column, count, place = (
                    load_long(table + 24 * r),
                    load_long(table + 24 * r + 8),
                    load_long(table + 24 * r + 16),
                )
                source = residual + 4 * ((row + i) * a[26] + place * a[27])
                for j in range(count):
                    value = load_float(source + 4 * j * step * a[27])
                    store_float(buffer + 4 * (i * PANEL + column + j), value)
    low, high = bounds(code, alpha, beta)
    own_bias = 0 if bias == 0 else bias + 4 * row
    tile(
        mr,
        vectors,
        k,
        w + 4 * row * k,
        x + 4 * start,
        a[2],
        buffer,
        PANEL,
        own_bias,
        initial,
        PANEL,
        low,
        high,
    )
    if code > CLIP:
        activate(code, buffer, mr * PANEL, alpha, beta)
    for i in range(mr):
        for r in range(runs):
            column, count, place = (
                load_long(table + 24 * r),
                load_long(table + 24 * r + 8),
                load_long(table + 24 * r + 16),
            )
            target = y + 4 * ((row + i) * a[20] + place)
            for j in range(count):
                store_float(target + 4 * j * step, load_float(buffer + 4 * (i * PANEL + column + j)))


@cfunc(SIGNATURE, error_model="numpy")
def tile_gemm(a, begin, end):
    buffer = tile_buffer()
    alpha, beta = load_double(address_of(a) + 8 * 23), load_double(address_of(a) + 8 * 24)
    rows, groups, panels, height = a[9], a[10], a[11], a[14]
    tiles = (rows + height - 1) // height
    row_blocks, panel_blocks = (tiles + a[13] - 1) // a[13], (panels + a[12] - 1) // a[12]
    for task in range(begin, end):
        rb, pb = task % row_blocks, task // row_blocks % panel_blocks
        g = task // (row_blocks * panel_blocks) % groups
        n = task // (row_blocks * panel_blocks * groups)
        x, w = a[0] + 4 * (n * a[15] + g * a[16]), a[1] + 4 * (n * a[17] + g * a[18])
        y = a[3] + 4 * (n * a[19] + g * rows * a[20])
        bias = 0 if a[4] == 0 else a[4] + 4 * g * rows
        residual = 0 if a[5] == 0 else a[5] + 4 * (n * a[25] + g * rows * a[26])
        for t in range(rb * a[13], min((rb + 1) * a[13], tiles)):
            mr = min(height, rows - t * height)
            for i in range(pb * a[12], min((pb + 1) * a[12], panels)):
                panel = a[6] + 32 * i
                tile_panel(a, x, w, y, bias, residual, panel, t * height, mr, buffer, alpha, beta)


@cfunc(SIGNATURE, error_model="numpy")
def pack_rows(a, begin, end):
    scale = np.float32(load_double(address_of(a) + 8 * 8))
    rows, k, height = a[2], a[3], a[4]
    tiles = (rows + height - 1) // height
    for task in range(begin, end):
        row = task % tiles * height
        mr = min(height, rows - row)
        source = a[1] + 4 * (task // tiles * a[7] + row * a[5])
        target = a[0] + 4 * (task // tiles * rows * k + row * k)
        for j in range(k):
            for i in range(mr):
                store_float(target + 4 * (j * mr + i), scale * load_float(source + 4 * (i * a[5] + j * a[6])))


@cfunc(SIGNATURE, error_model="numpy")
def pack_columns(a, begin, end):
    columns, k, width = a[2], a[3], a[4]
    panels = (columns + width - 1) // width
    for task in range(begin, end):
        column = task % panels * width
        count = min(width, columns - column)
        source = a[1] + 4 * (task // panels * a[7] + column * a[5])
        target = a[0] + 4 * task * width * k
        for i in range(k):
            for j in range(width):
                value = load_float(source + 4 * (j * a[5] + i * a[6])) if j < count else np.float32(0.0)
                store_float(target + 4 * (i * width + j), value)


@njit(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
def dot(w, x, n):
    """The dot product of n floats at two addresses."""
    total = np.float32(0.0)
    for i in range(n):
        total += load_float(w + 4 * i) * load_float(x + 4 * i)
    return total


@cfunc(SIGNATURE, error_model="numpy")
def gemv(a, begin, end):
    scale = load_double(address_of(a) + 8 * 8)
    alpha, beta = load_double(address_of(a) + 8 * 12), load_double(address_of(a) + 8 * 13)
    k, rows, code = a[6], a[5], a[11]
    first, last = begin * a[7], min(end * a[7], rows)
    for m in range(a[4]):
        for row in range(first, last):
            total = dot(a[1] + 4 * row * k, a[0] + 4 * m * k, k) * scale
            if a[3] != 0:
                total += load_float(a[3] + 4 * (m * a[9] + row * a[10]))
            store_float(a[2] + 4 * (m * rows + row), np.float32(total))
        if code != 0:
            activate(code, a[2] + 4 * (m * rows + first), last - first, alpha, beta)
