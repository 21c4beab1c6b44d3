# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Normalization over channels in channel-blocked layout: [N][C / VW][*S][VW]."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport TW_VW, number

cdef extern from "blocked_norm.h" nogil:
    enum:
        TW_LRN_PLACES
    void tw_blocked_lrn(float *y, const float *x, const float *below, const float *above, int64_t left, int64_t n,
                        int64_t before, int64_t after, float alpha, float beta, float bias)
    void tw_blocked_normalize_places(int64_t n, float *y, const float *x, int64_t C, int64_t plane, double epsilon,
                                     const float *scale, const float *bias)


cdef void blocked_lrn(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = x / (bias + alpha * sum of squares of the channels around)^beta.

    args: 0 y, 1 x, 2 C, 3 places, 4 places a task, 5 channels before, 6 channels behind (each at most VW), 7 alpha,
    8 beta, 9 bias. Task: (image * blocks + block) * place blocks + pb.
    """
    cdef int64_t blocks = (a[2] + TW_VW - 1) // TW_VW, parts = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, plane, q, stop, n, at, left, size = a[3] * TW_VW
    cdef const float *x
    for task in range(begin, end):
        plane = task // parts
        q = task % parts * a[4]
        stop = min(q + a[4], a[3])
        left = a[2] - plane % blocks * TW_VW
        while q < stop:
            n = min(<int64_t>TW_LRN_PLACES, stop - q)
            at = plane * size + q * TW_VW
            x = <const float *><uintptr_t>a[1] + at
            tw_blocked_lrn(<float *><uintptr_t>a[0] + at, x, x - size if plane % blocks > 0 else NULL,
                           x + size if left > TW_VW else NULL, left, n, a[5], a[6], <float>number(a + 7),
                           <float>number(a + 8), <float>number(a + 9))
            q += n


cdef void blocked_normalize(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Every place normalized over its channels.

    args: 0 y, 1 x, 2 C, 3 places, 4 places a task, 5 scale and 6 bias or 0 (whole blocks), 7 epsilon.
    Task: image * place blocks + pb.
    """
    cdef int64_t blocks = (a[2] + TW_VW - 1) // TW_VW, parts = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, q, at
    for task in range(begin, end):
        q = task % parts * a[4]
        at = (task // parts * blocks * a[3] + q) * TW_VW
        tw_blocked_normalize_places(min(a[4], a[3] - q), <float *><uintptr_t>a[0] + at,
                                    <const float *><uintptr_t>a[1] + at, a[2], a[3] * TW_VW, number(a + 7),
                                    <const float *><uintptr_t>a[5], <const float *><uintptr_t>a[6])


KERNELS = {
    "blocked_lrn": <uintptr_t>&blocked_lrn,
    "blocked_normalize": <uintptr_t>&blocked_normalize,
}
