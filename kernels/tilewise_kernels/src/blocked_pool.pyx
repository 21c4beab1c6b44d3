# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Pooling and channel-wise arithmetic in channel-blocked layout: [N][C / VW][*S][VW]."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport TW_VW, number, tw_activate

cdef extern from "blocked_pool.h" nogil:
    void tw_blocked_windows(int max, int64_t lo, int64_t hi, const float *x, int64_t step, int64_t row, int64_t tap,
                            int64_t kh0, int64_t kh1, int64_t kw0, int64_t kw1, float count, float *y)
    void tw_blocked_plane(int max, const float *x, int64_t pixels, float *y)
    void tw_blocked_affine(const float *x, const float *scale, const float *shift, int64_t pixels, float *y)

cdef enum:
    FIRST = 0
    STOP = 1
    COUNT = 2


cdef void blocked_pool(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Maximum or mean over windows, of the taps inside x.

    args: 0 y, 1 x, 2 planes, 3-4 H W, 5-6 oH oW, 7-8 strides, 9-10 dilations, 11-12 pads at the begin,
    13 rows a task, 14 1 for the maximum, 15 rows [oH][3] and 16 columns [oW][3] of windows (first tap inside, first
    behind, what the mean counts). Task: plane * row blocks + rb.
    """
    cdef int64_t row_blocks = (a[5] + a[13] - 1) // a[13]
    cdef int64_t task, i, j, plane, first, stop
    cdef int64_t tap = a[10] * TW_VW, row = a[9] * a[4] * TW_VW, step = a[8] * TW_VW
    cdef const int64_t *r
    cdef const int64_t *columns = <const int64_t *><uintptr_t>a[16]
    cdef const float *x
    cdef float *y
    for task in range(begin, end):
        plane = task // row_blocks
        first = task % row_blocks * a[13]
        for i in range(first, min(first + a[13], a[5])):
            r = <const int64_t *><uintptr_t>a[15] + 3 * i
            x = <const float *><uintptr_t>a[1] + ((plane * a[3] + i * a[7] - a[11]) * a[4] - a[12]) * TW_VW
            y = <float *><uintptr_t>a[0] + (plane * a[5] + i) * a[6] * TW_VW
            j = 0
            while j < a[6]:
                stop = j + 1
                while stop < a[6] and same_taps(columns + 3 * j, columns + 3 * stop):
                    stop += 1
                tw_blocked_windows(a[14] != 0, j, stop, x, step, row, tap, r[FIRST], r[STOP], columns[3 * j + FIRST],
                                   columns[3 * j + STOP], <float>(r[COUNT] * columns[3 * j + COUNT]), y)
                j = stop


cdef inline bint same_taps(const int64_t *a, const int64_t *b) noexcept nogil:
    return a[FIRST] == b[FIRST] and a[STOP] == b[STOP] and a[COUNT] == b[COUNT]


cdef void blocked_plane(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Maximum or mean of whole planes. args: 0 y, 1 x, 2 places, 3 1 for the maximum. Task: a block of an image."""
    cdef int64_t task
    for task in range(begin, end):
        tw_blocked_plane(a[3] != 0, <const float *><uintptr_t>a[1] + task * a[2] * TW_VW, a[2],
                         <float *><uintptr_t>a[0] + task * TW_VW)


cdef void blocked_affine(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = act(x * scale + shift), scale and shift by channel.

    args: 0 y, 1 x, 2 scale or 0, 3 shift or 0, 4-5 their image strides, 6 blocks of C, 7 places, 8 places a task,
    9 activation, 10-11 its alpha and beta. Task: (image * blocks + block) * place blocks + pb.
    """
    cdef int64_t parts = (a[7] + a[8] - 1) // a[8]
    cdef int64_t task, plane, n, c, q, count
    cdef const float *scale
    cdef const float *shift
    cdef float *y
    for task in range(begin, end):
        plane = task // parts
        n = plane // a[6]
        c = plane % a[6] * TW_VW
        q = task % parts * a[8]
        count = min(a[8], a[7] - q)
        scale = NULL if a[2] == 0 else <const float *><uintptr_t>a[2] + n * a[4] + c
        shift = NULL if a[3] == 0 else <const float *><uintptr_t>a[3] + n * a[5] + c
        y = <float *><uintptr_t>a[0] + (plane * a[7] + q) * TW_VW
        tw_blocked_affine(<const float *><uintptr_t>a[1] + (plane * a[7] + q) * TW_VW, scale, shift, count, y)
        if a[9] != 0:
            tw_activate(<int>a[9], y, count * TW_VW, <float>number(a + 10), <float>number(a + 11))


KERNELS = {
    "blocked_pool": <uintptr_t>&blocked_pool,
    "blocked_plane": <uintptr_t>&blocked_plane,
    "blocked_affine": <uintptr_t>&blocked_affine,
}
