# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Kernels that sample float32 images at places given by other tensors."""

from libc.math cimport INFINITY, NAN, ceilf, floorf, roundf
from libc.stdint cimport int32_t, int64_t, uintptr_t

cdef extern from "vision.h" nogil:
    ctypedef struct tw_taps:
        pass
    ctypedef struct tw_sample:
        pass
    int64_t tw_grid_taps(tw_taps *all, const float *grid, int64_t n, int64_t axes, const int64_t *size, int64_t reach,
                         int64_t padding, int align)
    void tw_gather(float *y, const int32_t *x, int64_t n, int64_t taps, const tw_taps *all)
    void tw_roi_sample(tw_sample *s, float y, float x, int64_t H, int64_t W)
    float tw_roi_sum(float total, const float *x, const tw_sample *s, int64_t n)
    float tw_roi_max(float total, const float *x, const tw_sample *s, int64_t n)
    float tw_patch_max(const float *x, int64_t W, int64_t h0, int64_t h1, int64_t w0, int64_t w1)

cdef enum:
    SAMPLES = 1024          # of a bin that are found at once
    MOST_SAMPLES = 1 << 20  # along one axis of a bin; more is no region of an image
    FAR = 1 << 24


cdef void grid_sample(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, c, p] = x[n, c] sampled at grid[n, p].

    args: y, x, grid, C, points P, block, axes r (1 to 3), reach, padding, align, the r sizes of x's spatial axes.
    x (N, C, *sizes), grid (N, P, r), y (N, C, P). Task i takes `block` points of one n and all channels. reach:
    0 nearest, 1 linear, 2 cubic; block is at most TW_POINTS, and TW_TAPS over the taps a point. padding: 0 zeros,
    1 border, 2 reflection. A grid value that is NaN counts as far below -1.
    """
    cdef int64_t C = a[3], P = a[4], block = a[5], axes = a[6], plane = 1
    cdef int64_t blocks = (P + block - 1) // block
    cdef tw_taps all
    cdef const float *grid
    cdef const int32_t *x
    cdef float *y
    cdef int64_t i, n, c, at, points, taps
    for i in range(axes):
        plane *= a[10 + i]
    for i in range(begin, end):
        n = i // blocks
        at = i % blocks * block
        points = min(block, P - at)
        grid = <const float *><uintptr_t>a[2] + (n * P + at) * axes
        taps = tw_grid_taps(&all, grid, points, axes, a + 10, a[7], a[8], a[9])
        x = <const int32_t *><uintptr_t>a[1] + n * C * plane
        y = <float *><uintptr_t>a[0] + n * C * P + at
        for c in range(C):
            tw_gather(y + c * P, x + c * plane, points, taps, &all)


cdef void affine_grid(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, d, h, w, :] = theta[n] @ (x[w], y[h], z[d], 1), the first `axes` of the coordinates being there.

    args: y, theta, rows N * D * H, rows a task, axes r, D, H, W, z, y, x. theta (N, r, r + 1).
    """
    cdef int64_t axes = a[4], D = a[5], H = a[6], W = a[7]
    cdef const float *z = <const float *><uintptr_t>a[8]
    cdef const float *y = <const float *><uintptr_t>a[9]
    cdef const float *x = <const float *><uintptr_t>a[10]
    cdef const float *t
    cdef float *out
    cdef float base, slope
    cdef int64_t i, k, w
    for i in range(begin * a[3], min(end * a[3], a[2])):
        for k in range(axes):
            out = <float *><uintptr_t>a[0] + i * W * axes + k
            t = <const float *><uintptr_t>a[1] + (i // (D * H) * axes + k) * (axes + 1)
            base = t[1] * y[i % H] + t[axes]
            if axes == 3:
                base += t[2] * z[i // H % D]
            slope = t[0]
            for w in range(W):
                out[w * axes] = slope * x[w] + base


cdef struct Region:
    float top, left, height, width      # of the region, then of a bin
    int64_t rows, columns               # samples of a bin


cdef inline int64_t samples(float size, int64_t ratio) noexcept nogil:
    """Samples along one axis of a bin, ceil(size) where no ratio is given; -1 for a bin of no image."""
    cdef float wanted = ceilf(size) if ratio <= 0 else <float>ratio
    if not wanted < MOST_SAMPLES:
        return -1
    return <int64_t>wanted if wanted > 0 else 0


cdef inline bint region(Region *r, const float *roi, float scale, bint half_pixel, int64_t oH, int64_t oW,
                        int64_t ratio) noexcept nogil:
    """The bins of one region; False where its size is not one of an image."""
    cdef float shift = 0.5 if half_pixel else 0.0
    r.left = roi[0] * scale - shift
    r.top = roi[1] * scale - shift
    r.width = roi[2] * scale - shift - r.left
    r.height = roi[3] * scale - shift - r.top
    if not half_pixel:
        r.width = max(r.width, <float>1.0)
        r.height = max(r.height, <float>1.0)
    r.width /= oW
    r.height /= oH
    r.rows = samples(r.height, ratio)
    r.columns = samples(r.width, ratio)
    return r.rows >= 0 and r.columns >= 0


cdef void roi_align(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[r, c] = bins of x[batch[r], c] under rois[r] (ONNX RoiAlign).

    args: y, x, rois, batch, N, C, H, W, oH, oW, channels a task, sampling ratio, maximum, half_pixel, scale.
    x (N, C, H, W), rois (R, 4), batch (R,) int64, y (R, C, oH, oW). Task i takes a run of channels of region
    i // ceil(C / channels). A region of another image than these N, or of no sensible size, is NaN.
    """
    cdef int64_t N = a[4], C = a[5], H = a[6], W = a[7], oH = a[8], oW = a[9], run = a[10]
    cdef int64_t runs = (C + run - 1) // run
    cdef bint maximum = a[12]
    cdef tw_sample[SAMPLES] s
    cdef Region r
    cdef const float *x
    cdef float *y
    cdef float start, v
    cdef int64_t i, j, n, c, first, channels, p, at, length, image, total
    for i in range(begin, end):
        n = i // runs
        first = i % runs * run
        channels = min(run, C - first)
        y = <float *><uintptr_t>a[0] + (n * C + first) * oH * oW
        image = (<const int64_t *><uintptr_t>a[3])[n]
        start = NAN
        total = 0
        if image >= 0 and image < N and region(&r, <const float *><uintptr_t>a[2] + n * 4,
                                               <float>(<const double *>(a + 14))[0], a[13], oH, oW, a[11]):
            total = r.rows * r.columns
            start = -INFINITY if maximum and total > 0 else 0
            x = <const float *><uintptr_t>a[1] + (image * C + first) * H * W
        for j in range(channels * oH * oW):
            y[j] = start
        for p in range(oH * oW):
            at = 0
            while at < total:
                length = min(<int64_t>SAMPLES, total - at)
                for j in range(length):
                    tw_roi_sample(
                        s + j, r.top + p // oW * r.height + ((at + j) // r.columns + <float>0.5) * r.height / r.rows,
                        r.left + p % oW * r.width + ((at + j) % r.columns + <float>0.5) * r.width / r.columns, H, W)
                at += length
                for c in range(channels):
                    v = y[c * oH * oW + p]
                    if maximum:
                        v = tw_roi_max(v, x + c * H * W, s, length)
                    else:
                        v = tw_roi_sum(v, x + c * H * W, s, length)
                    y[c * oH * oW + p] = v if maximum or at < total else v / total


cdef inline int64_t bin_edge(float edge, int64_t first, int64_t size) noexcept nogil:
    """Where a bin begins or ends, clipped to an axis of `size`."""
    return min(max(<int64_t>edge + first, <int64_t>0), size)


cdef inline int64_t corner(float at) noexcept nogil:
    """The whole element nearest to `at`, half away from zero; what is no place of an image is far away."""
    return <int64_t>roundf(min(max(at, <float>-FAR), <float>FAR)) if at == at else -FAR


cdef void roi_max_pool(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[r, c] = maximum of the bins of x[rois[r, 0], c] under rois[r, 1:] (ONNX MaxRoiPool).

    args: y, x, rois, N, C, H, W, oH, oW, scale. x (N, C, H, W), rois (R, 5), y (R, C, oH, oW); task i is region i.
    An empty bin is 0; a region of another image than these N is NaN.
    """
    cdef int64_t N = a[3], C = a[4], H = a[5], W = a[6], oH = a[7], oW = a[8]
    cdef float scale = <float>(<const double *>(a + 9))[0], step_h, step_w
    cdef const float *roi
    cdef const float *x
    cdef float *y
    cdef int64_t r, c, p, top, left, h0, h1, w0, w1
    for r in range(begin, end):
        roi = <const float *><uintptr_t>a[2] + r * 5
        y = <float *><uintptr_t>a[0] + r * C * oH * oW
        if not (roi[0] > -1 and roi[0] < N):
            for p in range(C * oH * oW):
                y[p] = NAN
            continue
        x = <const float *><uintptr_t>a[1] + <int64_t>roi[0] * C * H * W
        left = corner(roi[1] * scale)
        top = corner(roi[2] * scale)
        step_w = <float>max(corner(roi[3] * scale) - left + 1, <int64_t>1) / oW
        step_h = <float>max(corner(roi[4] * scale) - top + 1, <int64_t>1) / oH
        for p in range(oH * oW):
            h0 = bin_edge(floorf(p // oW * step_h), top, H)
            h1 = bin_edge(ceilf((p // oW + 1) * step_h), top, H)
            w0 = bin_edge(floorf(p % oW * step_w), left, W)
            w1 = bin_edge(ceilf((p % oW + 1) * step_w), left, W)
            for c in range(C):
                y[c * oH * oW + p] = tw_patch_max(x + c * H * W, W, h0, h1, w0, w1)


KERNELS = {
    "affine_grid": <uintptr_t>&affine_grid,
    "grid_sample": <uintptr_t>&grid_sample,
    "roi_align": <uintptr_t>&roi_align,
    "roi_max_pool": <uintptr_t>&roi_max_pool,
}
