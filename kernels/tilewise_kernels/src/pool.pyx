# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Pooling kernels of float32. Padding never counts, except in the numbers of taps that an average is given.

`op` is 0 for the maximum (NaN wins), 1 for the average, 2, 3 and 4 for the L1, L2 and Lp norm.
"""

from libc.stdint cimport int64_t, uintptr_t

cdef extern from "pool.h" nogil:
    ctypedef struct tw_windows:
        pass
    void tw_pool_rows(const tw_windows *g, int64_t begin, int64_t end)
    void tw_pool_planes(const tw_windows *g, int64_t begin, int64_t end)
    void tw_pool_argmax(const tw_windows *g, int64_t *index, const int64_t *axis, int64_t begin, int64_t end)

cdef extern from "pool_few.h" nogil:
    void tw_pool_few(const tw_windows *g, int64_t begin, int64_t end)

cdef extern from "pool_plane.h" nogil:
    float tw_plane(int64_t op, const float *x, int64_t n, float p)


cdef void pool_rows(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Windows over 1 to 3 axes, output row by output row.

    args: y, x, planes, rows, grain, op, p, counts, then input, output, kernel, stride, dilation and leading pad,
    three each (depth, height, width). Rows are those of all planes; task i computes `grain` of them. counts: for
    an average, float32 numbers of taps along the output's depth, height, and width with TW_POOL_RUN more; else 0. The
    dilated kernel's width is at most TW_POOL_ROW.
    """
    tw_pool_rows(<const tw_windows *>a, begin, end)


cdef void pool_few(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Maxima and averages of windows 2 or 3 wide with a last stride of 1 or 2 and no dilation along it.

    args: as for pool_rows. A window has at most TW_FEW_ROWS rows, the output of an average at most TW_POOL_ROW columns.
    """
    tw_pool_few(<const tw_windows *>a, begin, end)


cdef void pool_planes(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Windows over small planes. args: as for pool_rows, depths being 1 and `rows` the number of planes.

    The rows that windows touch, each as wide as the input and the greater of its paddings, and one padding more
    have at most TW_POOL_ROW elements.
    """
    tw_pool_planes(<const tw_windows *>a, begin, end)


cdef void pool_argmax(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Maximum and the int64 index of its first place (-1 where a window holds padding alone).

    args: as for pool_rows, then indices, and what one step along the input's depth, height and width adds to an
    index.
    """
    tw_pool_argmax(<const tw_windows *>a, <int64_t *><uintptr_t>a[26], a + 27, begin, end)


cdef void pool_global(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """One value a plane. args: y, x, planes, elements a plane, planes a task, op, p."""
    cdef float *y = <float *><uintptr_t>a[0]
    cdef const float *x = <const float *><uintptr_t>a[1]
    cdef int64_t i
    for i in range(begin * a[4], min(end * a[4], a[2])):
        y[i] = tw_plane(a[5], x + i * a[3], a[3], <float>(<const double *>(a + 6))[0])


KERNELS = {
    "pool_rows": <uintptr_t>&pool_rows,
    "pool_few": <uintptr_t>&pool_few,
    "pool_planes": <uintptr_t>&pool_planes,
    "pool_argmax": <uintptr_t>&pool_argmax,
    "pool_global": <uintptr_t>&pool_global,
}
