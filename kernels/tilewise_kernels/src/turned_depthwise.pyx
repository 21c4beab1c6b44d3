# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Depthwise convolution of images in plain layout, the channels of a vector at a time: rows are turned into
channel-blocked layout and back in buffers that stay in the first-level cache."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport CLIP, TW_VW, lower_bound, number, tw_activate, upper_bound

cdef extern from "blocked.h" nogil:
    ctypedef struct tw_depthwise:
        const float **rows
        int64_t step, tap, kh, kw
        const float *w
        const float *bias
        float lo, hi
    void tw_depthwise_row(int64_t count, const tw_depthwise *p, const float *residual, float *y)
    void tw_stage_row(float *dst, const float *row, int64_t first, int64_t count, int64_t width)
    void tw_turn_in(const float *x, int64_t plane, int64_t channels, int64_t count, float *y)
    void tw_turn_out(const float *x, int64_t count, int64_t channels, float *y, int64_t plane)

cdef enum:
    STAGE_FLOATS = 12288
    TURNED_FLOATS = 8192
    LINE = 16
    MAX_ROWS = 32
    NOTHING = -(1 << 30)


cdef inline float *aligned(float *p) noexcept nogil:
    return p + (LINE - <uintptr_t>p // sizeof(float) % LINE) % LINE


cdef void turned_depthwise(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, c, i, j] = act(sum_{r, s} w[c, r, s] * x[n, c, i * sh + r - ph, j * sw + s * dw - pw] + bias), x and y plain.

    args: 0 x, 1 w [block][kh][kw][VW], 2 y, 3 bias [block][VW] or 0, 4 C, 5-6 H W, 7-8 oH oW, 9-10 kh kw, 11-12 strides,
    13 dilation of columns, 14-15 pads at the begin, 16 rows of y a task, 17 rows of x turned at a time, at most H,
    18 rows of y turned at a time, 19 activation, 20-21 its alpha and beta.
    kh * ((oW - 1) * sw + (kw - 1) * dw + 1) places fit STAGE_FLOATS; the rows of x, and of y, turned at a time fit
    TURNED_FLOATS; kh fits MAX_ROWS. Task: (image * blocks of C + block) * row blocks + rb.
    """
    cdef float[STAGE_FLOATS + LINE] stage_buffer
    cdef float[TURNED_FLOATS + LINE] in_buffer
    cdef float[TURNED_FLOATS + LINE] out_buffer
    cdef float *stage = aligned(stage_buffer)
    cdef float *ins = aligned(in_buffer)
    cdef float *outs = aligned(out_buffer)
    cdef const float *rows[MAX_ROWS]
    cdef int64_t[MAX_ROWS] held
    cdef int64_t blocks = (a[4] + TW_VW - 1) // TW_VW, row_blocks = (a[7] + a[16] - 1) // a[16]
    cdef int64_t width = (a[8] - 1) * a[12] + (a[10] - 1) * a[13] + 1
    cdef int64_t task, i, r, h, slot, block, stop, channels, turned, written
    cdef const float *x
    cdef float *y
    cdef float *row
    cdef float alpha = <float>number(a + 20), beta = <float>number(a + 21)
    cdef tw_depthwise p
    p.rows = rows
    p.step = a[12] * TW_VW
    p.tap = a[13] * TW_VW
    p.kh = a[9]
    p.kw = a[10]
    p.lo = lower_bound(a[19], alpha)
    p.hi = upper_bound(a[19], beta)
    for task in range(begin, end):
        block = task // row_blocks % blocks
        channels = min(<int64_t>TW_VW, a[4] - block * TW_VW)
        i = task // row_blocks // blocks * a[4] + block * TW_VW
        x = <const float *><uintptr_t>a[0] + i * a[5] * a[6]
        y = <float *><uintptr_t>a[2] + i * a[7] * a[8]
        p.w = <const float *><uintptr_t>a[1] + block * a[9] * a[10] * TW_VW
        p.bias = NULL if a[3] == 0 else <const float *><uintptr_t>a[3] + block * TW_VW
        for r in range(a[9]):
            held[r] = NOTHING
        turned = NOTHING
        written = task % row_blocks * a[16]
        stop = min(written + a[16], a[7])
        for i in range(written, stop):
            for r in range(a[9]):
                h = i * a[11] + r - a[14]
                slot = (h + a[14]) % a[9]
                rows[r] = stage + slot * width * TW_VW
                if held[slot] == h:
                    continue
                held[slot] = h
                row = NULL
                if 0 <= h < a[5]:
                    if h < turned or h >= turned + a[17]:
                        turned = min(h, a[5] - a[17])
                        tw_turn_in(x + turned * a[6], a[5] * a[6], channels, a[17] * a[6], ins)
                    row = ins + (h - turned) * a[6] * TW_VW
                tw_stage_row(stage + slot * width * TW_VW, row, -a[15], width, a[6])
            row = outs + (i - written) * a[8] * TW_VW
            tw_depthwise_row(a[8], &p, NULL, row)
            if a[19] > CLIP:
                tw_activate(<int>a[19], row, a[8] * TW_VW, alpha, beta)
            if i + 1 == stop or i + 1 - written == a[18]:
                tw_turn_out(outs, (i + 1 - written) * a[8], channels, y + written * a[8], a[7] * a[8])
                written = i + 1


KERNELS = {"turned_depthwise": <uintptr_t>&turned_depthwise}
