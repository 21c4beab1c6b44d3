# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Winograd's F(4x4, 3x3) in channel-blocked layout: tiles of 6x6 inputs to 36 planes, 36 planes back to 4x4 outputs.

Between the two, each plane is a product of its own, made by `blocked_conv`.
"""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport CLIP, TW_VW, lower_bound, number, tw_activate, upper_bound

cdef extern from "winograd.h" nogil:
    void tw_wino_input_inside(const float *x, int64_t row, int64_t step, float *v, int64_t plane)
    void tw_wino_input_border(const float *x, int64_t row, int64_t step, int r0, int r1, int s0, int s1, float *v,
                              int64_t plane)
    void tw_wino_output(const float *m, int64_t plane, const float *bias, const float *residual, float lo, float hi,
                        int rows, int columns, float *y, int64_t row, int64_t step)


cdef inline int64_t first_place(int64_t tile, int64_t each, int64_t dilation) noexcept nogil:
    """The first output of a tile along an axis: with a dilation, each residue has `each` tiles of its own."""
    return tile // each + 4 * dilation * (tile % each)


cdef inline int inside(int64_t count, int64_t room, int64_t dilation) noexcept nogil:
    """How many of `count` places, `dilation` apart, lie below `room`."""
    return <int>max(<int64_t>0, min(count, (room + dilation - 1) // dilation))


cdef void winograd_input(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """v[36][block][tile][VW] from x [image][block][H][W][VW].

    args: 0 v, 1 x, 2 blocks of C, 3-4 H W, 5-6 pads at the begin, 7-8 dilations, 9-10 tiles of a residue down and across,
    11 first tile row, 12 tile rows, 13 tiles in all (images * rows * tiles a row).
    Task: (image * rows + row) * blocks + block.
    """
    cdef int64_t across = a[8] * a[10], plane = a[2] * a[13] * TW_VW, row = a[4] * TW_VW
    cdef int64_t task, block, n, i, j, top, left
    cdef int r0, r1, s0, s1
    cdef const float *x
    cdef const float *at
    cdef float *v
    for task in range(begin, end):
        block = task % a[2]
        i = task // a[2]
        n = i // a[12]
        x = <const float *><uintptr_t>a[1] + (n * a[2] + block) * a[3] * row
        v = <float *><uintptr_t>a[0] + (block * a[13] + i * across) * TW_VW
        top = first_place(a[11] + i % a[12], a[9], a[7]) - a[5]
        r0 = inside(6, -top, a[7])
        r1 = inside(6, a[3] - top, a[7])
        for j in range(across):
            left = first_place(j, a[10], a[8]) - a[6]
            s0 = inside(6, -left, a[8])
            s1 = inside(6, a[4] - left, a[8])
            at = x + top * row + left * TW_VW
            if r0 == 0 and r1 == 6 and s0 == 0 and s1 == 6:
                tw_wino_input_inside(at, a[7] * row, a[8] * TW_VW, v, plane)
            else:
                tw_wino_input_border(at, a[7] * row, a[8] * TW_VW, r0, r1, s0, s1, v, plane)
            v += TW_VW


cdef void winograd_output(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[image, block, i + r * dh, j + s * dw] = act(outputs + bias + residual) from m[36][block][tile][VW].

    args: 0 y, 1 m, 2 bias [block][VW] or 0, 3 residual like y or 0, 4 blocks of oC, 5-6 oH oW, 7-8 dilations,
    9-10 tiles of a residue down and across, 11 first tile row, 12 tile rows, 13 tiles in all, 14 activation,
    15-16 its alpha and beta. Task: (image * rows + row) * blocks + block.
    """
    cdef int64_t across = a[8] * a[10], plane = a[4] * a[13] * TW_VW, row = a[6] * TW_VW
    cdef int64_t task, block, i, j, n, top, left, place, r
    cdef int rows
    cdef float alpha = <float>number(a + 15), beta = <float>number(a + 16)
    cdef float lo = lower_bound(a[14], alpha), hi = upper_bound(a[14], beta)
    cdef const float *m
    cdef const float *bias
    cdef const float *residual
    cdef float *y
    for task in range(begin, end):
        block = task % a[4]
        i = task // a[4]
        n = i // a[12]
        top = first_place(a[11] + i % a[12], a[9], a[7])
        rows = inside(4, a[5] - top, a[7])
        m = <const float *><uintptr_t>a[1] + (block * a[13] + i * across) * TW_VW
        bias = NULL if a[2] == 0 else <const float *><uintptr_t>a[2] + block * TW_VW
        place = ((n * a[4] + block) * a[5] + top) * row
        y = <float *><uintptr_t>a[0] + place
        residual = NULL if a[3] == 0 else <const float *><uintptr_t>a[3] + place
        for j in range(across):
            left = first_place(j, a[10], a[8])
            tw_wino_output(m + j * TW_VW, plane, bias, NULL if residual == NULL else residual + left * TW_VW, lo, hi,
                           rows, inside(4, a[6] - left, a[8]), y + left * TW_VW, a[7] * row, a[8] * TW_VW)
        if a[14] > CLIP:
            for r in range(rows):
                tw_activate(<int>a[14], y + r * a[7] * row, row, alpha, beta)


KERNELS = {"winograd_input": <uintptr_t>&winograd_input, "winograd_output": <uintptr_t>&winograd_output}
