# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Normalization of float32: by batch statistics, by rows, by groups of planes, and across channels (LRN)."""

from columns cimport TW_DEVIATION, TW_MAX_WIDTH, TW_SUM, tw_reduce, tw_view
from libc.math cimport sqrt
from libc.stdint cimport int64_t, uintptr_t

cdef extern from "norm.h" nogil:
    void tw_affine(float *y, const float *x, int64_t n, float m, float a, float b)
    void tw_affine_each(float *y, const float *x, int64_t n, const float *m, const float *a, const float *b)
    void tw_normalize_each(float *y, const float *x, int64_t n, float m, float r, const float *scale,
                           const float *bias)
    void tw_batch_factors(float *a, const float *scale, const float *var, float epsilon, int64_t n)
    double tw_long_sum(const float *x, int64_t n)
    double tw_long_deviation(const float *x, int64_t n, float m)
    void tw_lrn(float *y, const float *x, int64_t C, int64_t ld, int64_t n, int64_t before, int64_t after,
                float alpha, float beta, float bias)
    void tw_normalize_channels(float *y, const float *x, int64_t C, int64_t ld, int64_t n, double epsilon,
                               const float *scale, const float *bias)

cdef extern from "activation.h" nogil:
    void tw_activate(int code, float *p, int64_t n, float alpha, float beta)

cdef enum:
    RUN = 4096              # floats written before they are activated
    SMALL_PLANE = 16        # planes below it are summed side by side


cdef inline const float *floats(int64_t address) noexcept nogil:
    return <const float *><uintptr_t>address


cdef inline double number(const int64_t *a) noexcept nogil:
    """The double whose bits stand at `a`."""
    return (<const double *>a)[0]


cdef void batch_norm(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias by channel, then an activation; y may be x.

    args: 0 y, 1 x [N, C, inner], 2 scale, 3 bias, 4 mean, 5 var (C each), 6 epsilon, 7 N, 8 C, 9 inner,
    10 channels a task (at most 1024), 11-13 activation, alpha, beta.
    """
    cdef float factor[TW_MAX_WIDTH]
    cdef int64_t inner = a[9], blocks = (a[8] + a[10] - 1) // a[10]
    cdef int64_t task, c, first, channels, j, n
    cdef int code = <int>a[11]
    cdef float alpha = <float>number(a + 12), beta = <float>number(a + 13)
    cdef const float *x
    cdef const float *bias
    cdef const float *mean
    cdef float *y
    for task in range(begin, end):
        first = task % blocks * a[10]
        channels = min(a[10], a[8] - first)
        bias = floats(a[3]) + first
        mean = floats(a[4]) + first
        tw_batch_factors(factor, floats(a[2]) + first, floats(a[5]) + first, <float>number(a + 6), channels)
        n = (task // blocks * a[8] + first) * inner
        y = <float *><uintptr_t>a[0] + n
        x = floats(a[1]) + n
        if inner == 1:
            tw_affine_each(y, x, channels, mean, factor, bias)
            tw_activate(code, y, channels, alpha, beta)
            continue
        for c in range(channels):
            j = 0
            while j < inner:
                n = min(<int64_t>RUN, inner - j)
                tw_affine(y + c * inner + j, x + c * inner + j, n, mean[c], factor[c], bias[c])
                tw_activate(code, y + c * inner + j, n, alpha, beta)
                j += RUN


cdef inline void plane_stats(float *mean, float *var, const float *x, int64_t N, int64_t pitch,
                             int64_t inner) noexcept nogil:
    """Moments of one channel: N runs of `inner` floats, `pitch` floats apart."""
    cdef int64_t n
    cdef double total = 0
    for n in range(N):
        total += tw_long_sum(x + n * pitch, inner)
    mean[0] = <float>(total / (N * inner))
    total = 0
    for n in range(N):
        total += tw_long_deviation(x + n * pitch, inner, mean[0])
    var[0] = <float>(total / (N * inner))


cdef inline void average_groups(float *out, const float *sums, int64_t groups, int64_t size,
                                int64_t count) noexcept nogil:
    """out[g] = the sum of `size` consecutive sums, divided by `count`."""
    cdef int64_t g, i
    cdef float total
    for g in range(groups):
        total = 0
        for i in range(size):
            total += sums[g * size + i]
        out[g] = total / count


cdef inline void narrow_stats(float *mean, float *var, const float *x, int64_t N, int64_t pitch, int64_t channels,
                              int64_t inner) noexcept nogil:
    """Moments of a few adjacent channels whose runs are short."""
    cdef float sums[TW_MAX_WIDTH]
    cdef float middle[TW_MAX_WIDTH]
    cdef int64_t j, w = channels * inner
    cdef tw_view v
    v.rows, v.ld, v.w, v.tail, v.period = N, pitch, w, 0, w
    tw_reduce(TW_SUM, sums, x, NULL, &v)
    average_groups(mean, sums, channels, inner, N * inner)
    for j in range(w):
        middle[j] = mean[j // inner]
    tw_reduce(TW_DEVIATION, sums, x, middle, &v)
    average_groups(var, sums, channels, inner, N * inner)


cdef void batch_stats(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Mean and population variance of every channel; var is stored as (sqrt(var) + root epsilon)^2.

    args: 0 mean, 1 var (C each), 2 x [N, C, inner], 3 N, 4 C, 5 inner, 6 channels a task (times `inner` at most 1024
    where inner < 16), 7 root epsilon.
    """
    cdef int64_t inner = a[5], pitch = a[4] * a[5]
    cdef float *mean = <float *><uintptr_t>a[0]
    cdef float *var = <float *><uintptr_t>a[1]
    cdef const float *x = floats(a[2])
    cdef int64_t task, c, first, last
    cdef double root, extra = number(a + 7)
    for task in range(begin, end):
        first = task * a[6]
        last = min(first + a[6], a[4])
        if inner < SMALL_PLANE:
            narrow_stats(mean + first, var + first, x + first * inner, a[3], pitch, last - first, inner)
        else:
            for c in range(first, last):
                plane_stats(mean + c, var + c, x + c * inner, a[3], pitch, inner)
        if extra > 0:
            for c in range(first, last):
                root = sqrt(var[c]) + extra
                var[c] = <float>(root * root)


cdef void running_average(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = old * momentum + new * (1 - momentum). One task. args: 0 y, 1 old, 2 new, 3 momentum, 4 n."""
    cdef float *y = <float *><uintptr_t>a[0]
    cdef const float *old = floats(a[1])
    cdef const float *new = floats(a[2])
    cdef float keep = <float>number(a + 3), take = 1 - keep
    cdef int64_t i
    for i in range(a[4]):
        y[i] = old[i] * keep + new[i] * take


cdef void normalize_rows(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias along rows, scale and bias one number a column; y may be x.

    args: 0 y, 1 x [rows, n], 2 scale, 3 bias (or 0), 4 mean, 5 rstd (where to store them, or 0), 6 rows, 7 n,
    8 epsilon, 9 centered (0: the mean counts as 0, as in RMS normalization), 10 rows a task.
    """
    cdef int64_t r, n = a[7]
    cdef float mean = 0, rstd
    cdef const float *x
    for r in range(begin * a[10], min(end * a[10], a[6])):
        x = floats(a[1]) + r * n
        if a[9]:
            mean = <float>(tw_long_sum(x, n) / n)
        rstd = <float>(1 / sqrt(tw_long_deviation(x, n, mean) / n + number(a + 8)))
        tw_normalize_each(<float *><uintptr_t>a[0] + r * n, x, n, mean, rstd, floats(a[2]), floats(a[3]))
        if a[4]:
            (<float *><uintptr_t>a[4])[r] = mean
        if a[5]:
            (<float *><uintptr_t>a[5])[r] = rstd


cdef void normalize_planes(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y = (x - mean) / sqrt(var + epsilon) * scale[c] + bias[c] along rows of `planes` planes each; y may be x.

    Plane p, counted through all rows, belongs to c = p % C // share.
    args: 0 y, 1 x [rows, planes, inner], 2 scale, 3 bias (both or neither 0), 4 rows, 5 planes, 6 inner, 7 C, 8 share,
    9 epsilon, 10 whether epsilon is added to the root instead, 11 rows a task.
    """
    cdef int64_t r, p, c, inner = a[6], n = a[5] * a[6]
    cdef float mean, scale = 1, bias = 0
    cdef double var, epsilon = number(a + 9), rstd
    cdef const float *x
    cdef float *y
    for r in range(begin * a[11], min(end * a[11], a[4])):
        x = floats(a[1]) + r * n
        y = <float *><uintptr_t>a[0] + r * n
        mean = <float>(tw_long_sum(x, n) / n)
        var = tw_long_deviation(x, n, mean) / n
        rstd = 1 / (sqrt(var) + epsilon) if a[10] else 1 / sqrt(var + epsilon)
        for p in range(a[5]):
            if a[2]:
                c = (r * a[5] + p) % a[7] // a[8]
                scale = floats(a[2])[c]
                bias = floats(a[3])[c]
            tw_affine(y + p * inner, x + p * inner, inner, mean, <float>rstd * scale, bias)


cdef void lrn(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Local response normalization. A task is `width` columns (at most 1024) of all channels of one image.

    args: 0 y, 1 x [N, C, inner], 2 C, 3 inner, 4 width, 5 channels before, 6 channels after, 7 alpha (divided by the
    window's size), 8 beta, 9 bias.
    """
    cdef int64_t inner = a[3], tiles = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, column, at
    for task in range(begin, end):
        column = task % tiles * a[4]
        at = task // tiles * a[2] * inner + column
        tw_lrn(<float *><uintptr_t>a[0] + at, floats(a[1]) + at, a[2], inner, min(a[4], inner - column), a[5], a[6],
               <float>number(a + 7), <float>number(a + 8), <float>number(a + 9))


cdef void normalize_channels(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Each column of an image normalized over its channels. A task is `width` columns (at most 256) of one image.

    args: 0 y, 1 x [N, C, inner], 2 C, 3 inner, 4 width, 5 scale [C], 6 bias [C] or 0, 7 epsilon; y may be x.
    """
    cdef int64_t inner = a[3], tiles = (a[3] + a[4] - 1) // a[4]
    cdef int64_t task, column, at
    for task in range(begin, end):
        column = task % tiles * a[4]
        at = task // tiles * a[2] * inner + column
        tw_normalize_channels(<float *><uintptr_t>a[0] + at, floats(a[1]) + at, a[2], inner,
                              min(a[4], inner - column), number(a + 7), floats(a[5]), floats(a[6]))


KERNELS = {
    "batch_norm": <uintptr_t>&batch_norm,
    "batch_stats": <uintptr_t>&batch_stats,
    "lrn": <uintptr_t>&lrn,
    "normalize_channels": <uintptr_t>&normalize_channels,
    "normalize_planes": <uintptr_t>&normalize_planes,
    "normalize_rows": <uintptr_t>&normalize_rows,
    "running_average": <uintptr_t>&running_average,
}
