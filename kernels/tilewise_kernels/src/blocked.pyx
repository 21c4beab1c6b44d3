# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Convolution in channel-blocked layout: [N][C / VW][*S][VW], the last block filled up; and the ways into it and out.

What stands in the lanes that fill up the last block is unspecified.
"""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy, memset
from tile cimport CLIP, TW_VW, lower_bound, number, tw_activate, upper_bound

cdef extern from "blocked.h" nogil:
    ctypedef struct tw_blocked:
        int64_t segs, full, channels, tail
        const int64_t *off
        const int64_t *before
        int64_t step, gap, y_block, y_step, y_gap, ahead
        float lo, hi
    void tw_blocked_tile(int n, int two, int nb, const tw_blocked *p, const float *x, const float *w,
                         const float *next, const float *bias, const float *residual, float *y)
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
    STAGE_FLOATS = 8192
    LINE = 16
    MAX_ROWS = 32
    NOTHING = -(1 << 30)


cdef void blocked_conv(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, g, block, pixel] = act(sum_s sum_c w[g, block, before[s] + c] * x[off[s] + c + pixel * step] + bias + residual).

    args: 0 x, 1 w [g][pair of blocks][k][block][VW], 2 offsets and channels before, each [segs], 3 y, 4 bias [g][block][VW] or 0,
    5 residual like y or 0, 6 tiles [.][4] (x offset, y offset, pixels, 1 for two runs of half of them), 7 groups,
    8 blocks a group, 9 tiles, 10 tiles a task, 11 pairs a task, 12-15 segs, full, channels, tail (`tw_blocked`),
    16 step, 17 gap, 18 y gap, 19 y's block stride, 20-21 x strides of n and group, 22-23 w strides of n and group,
    24 y's image stride, 25 activation, 26-27 its alpha and beta, 28 k, 29 1 where neighbouring tasks share weights, else
    they share x. Task: ((n * groups + g) * tile blocks + tb) * pair blocks + pb, or with tb and pb the other way round.
    30 floats from pixel to pixel in y, VW with an activation beyond clipping. Strides count floats.
    """
    cdef tw_blocked p
    cdef int64_t pairs = (a[8] + 1) // 2
    cdef int64_t pair_blocks = (pairs + a[11] - 1) // a[11], tile_blocks = (a[9] + a[10] - 1) // a[10]
    cdef int64_t task, pb, tb, g, n, pair, t, nb, stop, block, at, run, i
    cdef int64_t depth, count
    cdef const int64_t *tile
    cdef const float *x
    cdef const float *w
    cdef const float *next
    cdef const float *bias
    cdef const float *residual
    cdef float *y
    cdef float alpha = <float>number(a + 26), beta = <float>number(a + 27)
    p.segs = a[12]
    p.full = a[13]
    p.channels = a[14]
    p.tail = a[15]
    p.off = <const int64_t *><uintptr_t>a[2]
    p.step = a[16]
    p.gap = a[17]
    p.y_gap = a[18]
    p.y_step = a[30]
    p.y_block = a[19]
    p.lo = lower_bound(a[25], alpha)
    p.hi = upper_bound(a[25], beta)
    p.before = p.off + p.segs
    depth = a[28]
    for task in range(begin, end):
        if a[29]:
            tb = task % tile_blocks
            pb = (task // tile_blocks) % pair_blocks
        else:
            pb = task % pair_blocks
            tb = (task // pair_blocks) % tile_blocks
        g = (task // (pair_blocks * tile_blocks)) % a[7]
        n = task // (pair_blocks * tile_blocks * a[7])
        stop = min((tb + 1) * a[10], a[9])
        count = stop - tb * a[10]
        p.ahead = (2 * TW_VW + count - 1) // count
        x = <const float *><uintptr_t>a[0] + n * a[20] + g * a[21]
        for pair in range(pb * a[11], min((pb + 1) * a[11], pairs)):
            nb = min(<int64_t>2, a[8] - 2 * pair)
            block = g * a[8] + 2 * pair
            w = <const float *><uintptr_t>a[1] + n * a[22] + g * a[23] + pair * 2 * TW_VW * depth
            next = w + nb * TW_VW * depth
            bias = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + block * TW_VW
            at = n * a[24] + block * a[19]
            for t in range(tb * a[10], stop):
                tile = <const int64_t *><uintptr_t>a[6] + 4 * t
                y = <float *><uintptr_t>a[3] + at + tile[1]
                residual = NULL if a[5] == 0 else <const float *><uintptr_t>a[5] + at + tile[1]
                tw_blocked_tile(<int>tile[2], <int>tile[3], <int>nb, &p, x + tile[0], w, next, bias, residual, y)
                next += depth * p.ahead
                if a[25] > CLIP:
                    run = tile[2] // 2 if tile[3] else tile[2]
                    for i in range(nb):
                        tw_activate(<int>a[25], y + i * a[19], run * TW_VW, alpha, beta)
                        if tile[3]:
                            tw_activate(<int>a[25], y + i * a[19] + a[18], run * TW_VW, alpha, beta)


cdef void blocked_depthwise(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, c, i, j] = act(sum_{r, s} w[c, r, s] * x[n, c, i * sh + r * dh - ph, j * sw + s * dw - pw] + bias + residual).

    The rows of x that an output row reads are staged within zeros in a buffer of kh rows that stays in the first-level
    cache; without dilation each row is staged once.

    args: 0 x, 1 w [block][kh][kw][VW], 2 y, 3 bias [block][VW] or 0, 4 residual like y or 0, 5 blocks of C, 6-7 H W,
    8-9 oH oW, 10-11 kh kw, 12-13 strides, 14-15 dilations, 16-17 pads at the begin, 18 rows and 19 columns a task,
    20 activation, 21-22 its alpha and beta, 23 floats from plane to plane in y; kh * ((columns - 1) * sw + (kw - 1) * dw + 1) places fit the buffer, and
    kh MAX_ROWS. Task: ((image * blocks + block) * row blocks + rb) * column blocks + cb.
    """
    cdef float[STAGE_FLOATS + LINE] buffer
    cdef float *stage = buffer + (LINE - <uintptr_t>buffer // sizeof(float) % LINE) % LINE
    cdef const float *rows[MAX_ROWS]
    cdef int64_t[MAX_ROWS] held
    cdef int64_t row_blocks = (a[8] + a[18] - 1) // a[18], column_blocks = (a[9] + a[19] - 1) // a[19]
    cdef int64_t task, i, r, h, slot, plane, first, left, count, width, place
    cdef const float *x
    cdef const float *residual
    cdef float *y
    cdef float alpha = <float>number(a + 21), beta = <float>number(a + 22)
    cdef tw_depthwise p
    p.rows = rows
    p.step = a[13] * TW_VW
    p.tap = a[15] * TW_VW
    p.kh = a[10]
    p.kw = a[11]
    p.lo = lower_bound(a[20], alpha)
    p.hi = upper_bound(a[20], beta)
    for task in range(begin, end):
        plane = task // (row_blocks * column_blocks)
        first = task // column_blocks % row_blocks * a[18]
        left = task % column_blocks * a[19]
        count = min(a[19], a[9] - left)
        width = (count - 1) * a[13] + (a[11] - 1) * a[15] + 1
        x = <const float *><uintptr_t>a[0] + plane * a[6] * a[7] * TW_VW
        p.w = <const float *><uintptr_t>a[1] + plane % a[5] * a[10] * a[11] * TW_VW
        p.bias = NULL if a[3] == 0 else <const float *><uintptr_t>a[3] + plane % a[5] * TW_VW
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
            place = plane * a[23] + (i * a[9] + left) * TW_VW
            y = <float *><uintptr_t>a[2] + place
            residual = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + place
            tw_depthwise_row(count, &p, residual, y)
            if a[20] > CLIP:
                tw_activate(<int>a[20], y, count * TW_VW, alpha, beta)


cdef void blocked_pad(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """x [plane][D][H][W][VW] within zeros: y [plane][oD][oH][oW][VW], cut off where y ends first.

    args: 0 y, 1 x, 2-4 D H W, 5-7 oD oH oW, 8-10 pads at the begin, 11 rows a task, 12 planes. Task: rows of y.
    """
    cdef int64_t task, r, d, h, plane, width = a[7] * TW_VW
    cdef int64_t left = min(a[10], a[7]), copied = max(<int64_t>0, min(a[4], a[7] - a[10])) * TW_VW
    cdef int64_t rows = end * a[11]
    cdef float *y
    for r in range(begin * a[11], rows):
        plane = r // (a[5] * a[6])
        if plane >= a[12]:
            break
        d = r // a[6] % a[5] - a[8]
        h = r % a[6] - a[9]
        y = <float *><uintptr_t>a[0] + r * width
        if d < 0 or d >= a[2] or h < 0 or h >= a[3]:
            memset(y, 0, width * sizeof(float))
            continue
        memset(y, 0, left * TW_VW * sizeof(float))
        y += left * TW_VW
        memcpy(y, <const float *><uintptr_t>a[1] + ((plane * a[2] + d) * a[3] + h) * a[4] * TW_VW,
               copied * sizeof(float))
        memset(y + copied, 0, (width - left * TW_VW - copied) * sizeof(float))


cdef void to_blocked(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """x [N][C][pixels] as y [N][blocks][pixels][VW]; what fills up the last block is unspecified.

    args: 0 y, 1 x, 2 C, 3 pixels, 4 pixels a task. Task: (image * blocks + block) * pixel blocks + pb.
    """
    cdef int64_t blocks = (a[2] + TW_VW - 1) // TW_VW, pixel_blocks = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, q, stop, count, plane, size = a[3]
    cdef const float *x
    cdef float *y
    for task in range(begin, end):
        plane = task // pixel_blocks
        q = task % pixel_blocks * a[4]
        stop = min(q + a[4], size)
        count = min(<int64_t>TW_VW, a[2] - plane % blocks * TW_VW)
        x = <const float *><uintptr_t>a[1] + (plane // blocks * a[2] + plane % blocks * TW_VW) * size
        y = <float *><uintptr_t>a[0] + plane * size * TW_VW
        tw_turn_in(x + q, size, count, stop - q, y + q * TW_VW)


cdef void from_blocked(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y [N][C][pixels] from x [N][blocks][pixels][VW].

    args: 0 y, 1 x, 2 C, 3 pixels, 4 pixels a task. Task: (image * blocks + block) * pixel blocks + pb.
    """
    cdef int64_t blocks = (a[2] + TW_VW - 1) // TW_VW, pixel_blocks = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, q, stop, count, plane, size = a[3]
    cdef const float *x
    cdef float *y
    for task in range(begin, end):
        plane = task // pixel_blocks
        q = task % pixel_blocks * a[4]
        stop = min(q + a[4], size)
        count = min(<int64_t>TW_VW, a[2] - plane % blocks * TW_VW)
        x = <const float *><uintptr_t>a[1] + plane * size * TW_VW
        y = <float *><uintptr_t>a[0] + (plane // blocks * a[2] + plane % blocks * TW_VW) * size
        tw_turn_out(x + q * TW_VW, stop - q, count, y + q, size)


KERNELS = {
    "blocked_conv": <uintptr_t>&blocked_conv,
    "blocked_depthwise": <uintptr_t>&blocked_depthwise,
    "blocked_pad": <uintptr_t>&blocked_pad,
    "to_blocked": <uintptr_t>&to_blocked,
    "from_blocked": <uintptr_t>&from_blocked,
}
