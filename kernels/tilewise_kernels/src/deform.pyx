# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Deformable convolution of float32 images, sampled channels-last into the register tile."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset

cdef extern from "deform.h" nogil:
    enum:
        TW_VW
    ctypedef struct tw_deform:
        pass
    void tw_deform_run(const tw_deform *g, int64_t task)
    void tw_pixels(float *y, const float *x, int64_t plane, int64_t begin, int64_t end, int64_t segments, int64_t size)


cdef void pixels(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Images with each pixel's channels side by side: y [N][plane + 1][pitch], the last pixel of an image zeros.

    Channels are cut into segments, each filled up with zeros to whole vectors; pitch is their sum.
    args: 0 y, 1 x [N, segments * size, plane], 2 plane, 3 segments, 4 size, 5 pixels a task. Task: image * runs + run.
    """
    cdef int64_t plane = a[2], pitch = a[3] * ((a[4] + TW_VW - 1) // TW_VW) * TW_VW
    cdef int64_t runs = (plane + a[5] - 1) // a[5]
    cdef int64_t task, n, first
    cdef float *y
    for task in range(begin, end):
        n = task // runs
        first = task % runs * a[5]
        y = <float *><uintptr_t>a[0] + n * (plane + 1) * pitch
        tw_pixels(y, <const float *><uintptr_t>a[1] + n * a[3] * a[4] * plane, plane, first, min(first + a[5], plane),
                  a[3], a[4])
        if first + a[5] >= plane:
            memset(y + plane * pitch, 0, pitch * sizeof(float))


cdef void deform(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, g, o, p] = bias[g, o] + sum over taps and channels of w times x sampled at the tap's place moved by offset.

    args: 0 y, 1 x (as `pixels` makes it), 2 w, 3 offset [N, dG * taps * 2, oH, oW], 4 mask [N, dG * taps, oH, oW] or 0,
    5 bias or 0, 6 sums, 7 N, 8 groups, 9 output channels a group, 10 the same in whole vectors, 11 blocks of channels a
    group, 12 a segment, 13 dG, 14 segments an offset group, 15-16 H W, 17-18 oH oW, 19-20 kernel, 21-22 strides,
    23-24 dilations, 25-26 pads (top, left), 27 pixels a task. w and sums: see tw_deform. Task: image * runs + run.
    """
    cdef int64_t task
    for task in range(begin, end):
        tw_deform_run(<const tw_deform *>a, task)


KERNELS = {
    "deform": <uintptr_t>&deform,
    "pixels": <uintptr_t>&pixels,
}
