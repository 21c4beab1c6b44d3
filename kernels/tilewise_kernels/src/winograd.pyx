# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Winograd's F(4x4, 3x3): tiles of 6x6 inputs to 36 planes and 36 planes back to tiles of 4x4 outputs.

Between the two, each plane is a matrix product of its own, made by `tile_gemm`.
"""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport TW_VW, number, tw_activate, tw_copy_row

cdef extern from "winograd.h" nogil:
    void tw_wino_input(const float *x, const int64_t *at, float *v, int64_t plane)
    void tw_wino_output(const float *m, int64_t plane, float bias, float *rows)

cdef enum:
    MAX_VW = 16


cdef void winograd_input(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """v[36][c][image * columns + q] from phases of the image in which a tile's elements have unit stride over q.

    args: 0 v, 1 phases [image][c][.], 2 element offsets [36], 3 C, 4 columns an image (a multiple of the vector),
    5 floats of a channel's phases, 6 columns in all, 7 channels a task. Task: image * channel blocks + block.
    """
    cdef int64_t blocks = (a[3] + a[7] - 1) // a[7]
    cdef int64_t plane = a[3] * a[6]
    cdef int64_t task, c, n, q
    cdef const float *x
    cdef float *v
    for task in range(begin, end):
        n = task // blocks
        c = task % blocks * a[7]
        while c < min(a[3], (task % blocks + 1) * a[7]):
            x = <const float *><uintptr_t>a[1] + (n * a[3] + c) * a[5]
            v = <float *><uintptr_t>a[0] + c * a[6] + n * a[4]
            q = 0
            while q < a[4]:
                tw_wino_input(x + q, <const int64_t *><uintptr_t>a[2], v + q, plane)
                q += TW_VW
            c += 1


cdef void visit_runs(const int64_t *a, int64_t q, float *rows, const float *residual, float *y) noexcept nogil:
    """Between four rows of outputs of the tiles from q on and their places in a channel: with a residual it is added to
    the rows, without one the rows are copied to y. `a` holds the arguments of `winograd_output`."""
    cdef int64_t tile = q, stop = min(q + TW_VW, a[8] * a[9]), i, j, count, length, r, k, place
    cdef float *row
    while tile < stop:
        i = a[7] + tile // a[9]
        j = tile % a[9]
        count = min(stop - tile, a[9] - j)
        length = min(4 * count, a[6] - 4 * j)
        for r in range(min(<int64_t>4, a[5] - 4 * i)):
            row = rows + r * 4 * TW_VW + 4 * (tile - q)
            place = (4 * i + r) * a[6] + 4 * j
            if residual == NULL:
                tw_copy_row(y + place, row, length, 1, False)
            else:
                for k in range(length):
                    row[k] += residual[place + k]
        tile += count


cdef void winograd_output(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[image, oc, 4 i + r, 4 j + s] of the tile rows [first, first + rows) from m[36][oc][image * columns + q].

    args: 0 y, 1 m, 2 bias or 0, 3 residual like y or 0, 4 oC, 5-6 oH oW, 7 first tile row, 8 tile rows,
    9 tiles a row, 10 columns an image, 11 columns in all, 12 channels a task, 13 activation, 14-15 its alpha, beta.
    Task: image * channel blocks + block.
    """
    cdef float[16 * MAX_VW] rows
    cdef int64_t blocks = (a[4] + a[12] - 1) // a[12], plane = a[4] * a[11]
    cdef int64_t task, c, n, q, place
    cdef float alpha = <float>number(a + 14), beta = <float>number(a + 15), bias
    cdef const float *m
    for task in range(begin, end):
        n = task // blocks
        for c in range(task % blocks * a[12], min(a[4], (task % blocks + 1) * a[12])):
            m = <const float *><uintptr_t>a[1] + c * a[11] + n * a[10]
            place = (n * a[4] + c) * a[5] * a[6]
            bias = 0 if a[2] == 0 else (<const float *><uintptr_t>a[2])[c]
            q = 0
            while q < a[8] * a[9]:
                tw_wino_output(m + q, plane, bias, rows)
                if a[3] != 0:
                    visit_runs(a, q, rows, <const float *><uintptr_t>a[3] + place, NULL)
                if a[13] != 0:
                    tw_activate(<int>a[13], rows, 16 * TW_VW, alpha, beta)
                visit_runs(a, q, rows, NULL, <float *><uintptr_t>a[0] + place)
                q += TW_VW


KERNELS = {"winograd_input": <uintptr_t>&winograd_input, "winograd_output": <uintptr_t>&winograd_output}
