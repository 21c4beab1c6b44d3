# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""What a convolution needs beside the matrix product: padded images, depthwise taps."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport (
    TW_VW, number, tw_activate, tw_copy_row, tw_taps, tw_zero_row,
)

cdef enum:
    PLANE_FLOATS = 8192     # a depthwise task's padded rows
    ROW_FLOATS = 4096       # and its output rows


cdef inline void phase_row(float *dst, int64_t width, const float *src, const int64_t *phase, int64_t stride,
                           bint read_loose, bint write_loose) noexcept nogil:
    """dst[j] = src[first + j * stride] for j in [lo, hi), else zero; phase: first, lo, hi.

    Loose sides may be touched up to a vector beyond the end of the row.
    """
    cdef int64_t lo = phase[1], hi = phase[2]
    tw_zero_row(dst, lo, write_loose)
    tw_copy_row(dst + lo, src + phase[0] + lo * stride, hi - lo, stride, read_loose and write_loose)
    tw_zero_row(dst + hi, width - hi, write_loose)


cdef void pad_phases(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Planes with their padding, split by the stride: a strided convolution then reads unit-stride rows.

    y[plane, p, d, h, w] = x[plane, d*sd + fd[p], h*sh + fh[p], w*sw + fw[p]], zero outside x.
    args: 0 y, 1 x, 2 planes, 3-5 D H W of x, 6-8 strides, 9-11 D H W of y, 12 phases,
    13 [phases][5]: first d, first h, first w and the columns [lo, hi) that lie in x, 14 planes a task.
    """
    cdef int64_t plane, p, d, h, z, i, last = min(end * a[14], a[2])
    cdef int64_t out = a[9] * a[10] * a[11]
    cdef const int64_t *start = <const int64_t *><uintptr_t>a[13]
    cdef const float *x
    cdef float *y
    cdef float *stop = <float *><uintptr_t>a[0] + last * a[12] * out
    cdef bint write_loose
    for plane in range(begin * a[14], last):
        x = <const float *><uintptr_t>a[1] + plane * a[3] * a[4] * a[5]
        y = <float *><uintptr_t>a[0] + plane * a[12] * out
        for p in range(a[12]):
            for d in range(a[9]):
                z = d * a[6] + start[5 * p]
                for h in range(a[10]):
                    i = h * a[7] + start[5 * p + 1]
                    write_loose = y + a[11] + TW_VW <= stop
                    if z < 0 or z >= a[3] or i < 0 or i >= a[4]:
                        tw_zero_row(y, a[11], write_loose)
                    else:
                        phase_row(y, a[11], x + (z * a[4] + i) * a[5], start + 5 * p + 2, a[8], False, write_loose)
                    y += a[11]


cdef void depthwise(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """2-D depthwise convolution: y[n, c] = act(sum_t w[c, t] * x[n, c // multiplier] + bias[c] + residual).

    A task is one output plane. Blocks of its rows are padded and split by the stride into a small buffer, in which all
    taps are unit-stride reads.
    args: 0 x, 1 w [C][taps], 2 y, 3 bias or 0, 4 residual or 0, 5 C of y, 6 multiplier, 7-8 H W of x, 9-10 oH oW,
    11-12 strides, 13-14 pads (top, left), 15 taps, 16 tap offsets [taps] in the buffer, 17 output rows a block,
    18-19 rows and pitch of one phase in the buffer, 20 phases,
    21 [phases][4]: first h, first w and the columns [lo, hi) that lie in x,
    22 activation, 23-24 its alpha and beta.
    """
    cdef float[PLANE_FLOATS] plane
    cdef float[ROW_FLOATS] rows
    cdef const int64_t *off = <const int64_t *><uintptr_t>a[16]
    cdef const int64_t *start = <const int64_t *><uintptr_t>a[21]
    cdef const float *x
    cdef const float *residual
    cdef float *y
    cdef float *dst
    cdef float bias, alpha = <float>number(a + 23), beta = <float>number(a + 24)
    cdef int64_t task, c, n, oh, count, p, r, i, j, flat, pitch = a[19], inputs = a[5] // a[6]
    cdef const float *stop
    cdef bint loose
    for task in range(begin, end):
        c = task % a[5]
        n = task // a[5]
        x = <const float *><uintptr_t>a[0] + (n * inputs + c // a[6]) * a[7] * a[8]
        stop = <const float *><uintptr_t>a[0] + (n + 1) * inputs * a[7] * a[8]
        y = <float *><uintptr_t>a[2] + task * a[9] * a[10]
        residual = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + task * a[9] * a[10]
        bias = 0 if a[3] == 0 else (<const float *><uintptr_t>a[3])[c]
        oh = 0
        while oh < a[9]:
            count = min(a[17], a[9] - oh)
            for p in range(a[20]):
                dst = plane + p * a[18] * pitch
                for r in range(a[18]):
                    i = (oh + r) * a[11] + start[4 * p]
                    if i < 0 or i >= a[7]:
                        tw_zero_row(dst, pitch, True)
                    else:
                        loose = x + (i + 1) * a[8] + TW_VW <= stop
                        phase_row(dst, pitch, x + i * a[8], start + 4 * p + 1, a[12], loose, True)
                    dst += pitch
            flat = ((count - 1) * pitch + a[10] + TW_VW - 1) // TW_VW * TW_VW
            tw_taps(a[15], <const float *><uintptr_t>a[1] + c * a[15], plane, off, rows, flat, bias)
            for r in range(count):
                dst = rows + r * pitch
                if residual != NULL:
                    for j in range(a[10]):
                        dst[j] += residual[(oh + r) * a[10] + j]
                loose = residual == NULL and (oh + r) * a[10] + TW_VW <= a[9] * a[10]
                tw_copy_row(y + (oh + r) * a[10], dst, a[10], 1, loose)
            if a[22] != 0:
                tw_activate(<int>a[22], y + oh * a[10], count * a[10], alpha, beta)
            oh += count


KERNELS = {
    "pad_phases": <uintptr_t>&pad_phases,
    "depthwise": <uintptr_t>&depthwise,
}
