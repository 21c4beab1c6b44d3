# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Convolution in groups narrower than a vector, in channel-blocked layout: [N][C / VW][*S][VW]."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport TW_VW, number, tw_activate

cdef extern from "blocked_group.h" nogil:
    void tw_stage_row(float *dst, const float *row, int64_t first, int64_t count, int64_t width)
    void tw_group_row(int64_t width, int64_t count, const float **rows, int64_t kh, int64_t kw, int64_t step,
                      int64_t tap, const float *w, const float *bias, const float *residual, float *y)

cdef enum:
    STAGE_FLOATS = 8192
    LINE = 16
    MAX_ROWS = 32
    NOTHING = -(1 << 30)


cdef void blocked_group(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, c, i, j] = act(sum w[c, d, r, s] * x[n, c // width * width + d, i * sh + r * dh - ph, j * sw + s * dw - pw]
    + bias + residual), the sum over d in [0, width), r and s.

    The rows of x that an output row reads are staged within zeros in a buffer of kh rows that stays in the first-level
    cache; without dilation each row is staged once.

    args: 0 x, 1 w [block][kh][kw][width][VW] (see `blocked_group.h`), 2 y, 3 bias [block][VW] or 0, 4 residual like y
    or 0, 5 blocks of C, 6-7 H W, 8-9 oH oW, 10-11 kh kw, 12-13 strides, 14-15 dilations, 16-17 pads at the begin,
    18 rows and 19 columns a task, 20 width, 21 activation, 22-23 its alpha and beta;
    kh * ((columns - 1) * sw + (kw - 1) * dw + 1) places fit the buffer, and kh MAX_ROWS.
    Task: ((image * blocks + block) * row blocks + rb) * column blocks + cb.
    """
    cdef float[STAGE_FLOATS + LINE] buffer
    cdef float *stage = buffer + (LINE - <uintptr_t>buffer // sizeof(float) % LINE) % LINE
    cdef const float *rows[MAX_ROWS]
    cdef int64_t[MAX_ROWS] held
    cdef int64_t row_blocks = (a[8] + a[18] - 1) // a[18], column_blocks = (a[9] + a[19] - 1) // a[19]
    cdef int64_t task, i, r, h, slot, plane, first, left, count, width, place
    cdef const float *x
    cdef const float *w
    cdef const float *bias
    cdef const float *residual
    cdef float *y
    for task in range(begin, end):
        plane = task // (row_blocks * column_blocks)
        first = task // column_blocks % row_blocks * a[18]
        left = task % column_blocks * a[19]
        count = min(a[19], a[9] - left)
        width = (count - 1) * a[13] + (a[11] - 1) * a[15] + 1
        x = <const float *><uintptr_t>a[0] + plane * a[6] * a[7] * TW_VW
        w = <const float *><uintptr_t>a[1] + plane % a[5] * a[10] * a[11] * a[20] * TW_VW
        bias = NULL if a[3] == 0 else <const float *><uintptr_t>a[3] + plane % a[5] * TW_VW
        for r in range(a[10]):
            held[r] = NOTHING
        for i in range(first, min(first + a[18], a[8])):
            for r in range(a[10]):
                h = i * a[12] + r * a[14] - a[16]
                slot = (h + a[16]) % a[10] if a[14] == 1 else r
                rows[r] = stage + slot * width * TW_VW
                if held[slot] != h:
                    held[slot] = h
                    tw_stage_row(stage + slot * width * TW_VW, NULL if h < 0 or h >= a[6] else x + h * a[7] * TW_VW,
                                 left * a[13] - a[17], width, a[7])
            place = ((plane * a[8] + i) * a[9] + left) * TW_VW
            y = <float *><uintptr_t>a[2] + place
            residual = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + place
            tw_group_row(a[20], count, rows, a[10], a[11], a[13] * TW_VW, a[15] * TW_VW, w, bias, residual, y)
            if a[21] != 0:
                tw_activate(<int>a[21], y, count * TW_VW, <float>number(a + 22), <float>number(a + 23))


KERNELS = {"blocked_group": <uintptr_t>&blocked_group}
