# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Resizing by tables that the plan holds: int32 indices and float32 weights, each (taps, out), inside the input."""

from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from "resize.h" nogil:
    enum: TW_RESIZE_ROW
    void tw_nearest_row(char *y, const char *x, const int32_t *index, int64_t n, int64_t factor, int64_t inner,
                        int64_t size)
    void tw_blend(float *y, const float *x, float w, int64_t n, bint first)
    void tw_sample(float *y, const float *x, const int32_t *index, const float *weight, int64_t taps, int64_t n)


cdef void resize_nearest(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, h, w, :] = x[n, rows[h], columns[w], :] for elements of any kind.

    args: y, x, N * oH, rows a task, H, W, oH, oW, inner, bytes an element, rows, columns, factor.
    x (N, H, W, inner), y (N, oH, oW, inner); rows (oH,), columns (oW,), int32. factor: k > 1 where columns[w] is
    w // k and oW is k * W, else 0.
    """
    cdef int64_t H = a[4], W = a[5], oH = a[6], oW = a[7], inner = a[8], size = a[9]
    cdef const int32_t *rows = <const int32_t *><uintptr_t>a[10]
    cdef const int32_t *columns = <const int32_t *><uintptr_t>a[11]
    cdef int64_t pitch = oW * inner * size
    cdef int64_t first = begin * a[3]
    cdef int64_t i, h, source, previous = -1
    cdef char *y
    for i in range(first, min(end * a[3], a[2])):
        h = i % oH
        source = i // oH * H + rows[h]
        y = <char *><uintptr_t>a[0] + i * pitch
        if source == previous:
            memcpy(y, y - pitch, pitch)
            continue
        previous = source
        tw_nearest_row(y, <const char *><uintptr_t>a[1] + source * W * inner * size, columns, oW, a[12], inner, size)


cdef void resize_rows(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Weighted taps along the last two axes: y[n, h, w] = sum_t sum_s v[t, h] * u[s, w] * x[n, r[t, h], c[s, w]].

    args: y, x, N * oH, rows a task, H, W, oH, oW, taps of r and v, taps of c and u, r, v, c, u.
    x (N, H, W), y (N, oH, oW). W is at most TW_RESIZE_ROW, unless H and oH are 1 (r and v are not read then).
    """
    cdef int64_t H = a[4], W = a[5], oH = a[6], oW = a[7], taps = a[8]
    cdef const int32_t *r = <const int32_t *><uintptr_t>a[10]
    cdef const float *v = <const float *><uintptr_t>a[11]
    cdef const int32_t *c = <const int32_t *><uintptr_t>a[12]
    cdef const float *u = <const float *><uintptr_t>a[13]
    cdef float[TW_RESIZE_ROW] blended
    cdef const float *x
    cdef int64_t i, h, t
    for i in range(begin * a[3], min(end * a[3], a[2])):
        h = i % oH
        x = <const float *><uintptr_t>a[1] + i // oH * H * W
        if H > 1 or oH > 1:
            for t in range(taps):
                tw_blend(blended, x + r[t * oH + h] * W, v[t * oH + h], W, t == 0)
            x = blended
        tw_sample(<float *><uintptr_t>a[0] + i * oW, x, c, u, a[9], oW)


cdef void resize_axis(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Weighted taps along an axis that is not the last: y[n, h, :] = sum_t v[t, h] * x[n, r[t, h], :].

    args: y, x, units, units a task, H, oH, inner, block, taps, r, v. x (N, H, inner), y (N, oH, inner); a unit is
    `block` elements of one row of y.
    """
    cdef int64_t H = a[4], oH = a[5], inner = a[6], block = a[7], taps = a[8]
    cdef const int32_t *r = <const int32_t *><uintptr_t>a[9]
    cdef const float *v = <const float *><uintptr_t>a[10]
    cdef int64_t blocks = (inner + block - 1) // block
    cdef const float *x
    cdef float *y
    cdef int64_t i, n, h, at, t, length
    for i in range(begin * a[3], min(end * a[3], a[2])):
        at = i % blocks * block
        h = i // blocks % oH
        n = i // blocks // oH
        length = min(block, inner - at)
        x = <const float *><uintptr_t>a[1] + n * H * inner + at
        y = <float *><uintptr_t>a[0] + (n * oH + h) * inner + at
        for t in range(taps):
            tw_blend(y, x + r[t * oH + h] * inner, v[t * oH + h], length, t == 0)


KERNELS = {
    "resize_nearest": <uintptr_t>&resize_nearest,
    "resize_rows": <uintptr_t>&resize_rows,
    "resize_axis": <uintptr_t>&resize_axis,
}
