# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Kernels that sample float32 images at places given by other tensors."""

from libc.math cimport INFINITY, NAN, ceilf
from libc.stdint cimport int32_t, int64_t, uintptr_t

cdef extern from "vision.h" nogil:
    enum: TW_TAPS
    void tw_grid_taps(const float *grid, int64_t n, int64_t axes, const int64_t *size, int64_t reach, int64_t padding,
                      int64_t align, int32_t *place, float *weight, int32_t *inside)
    void tw_gather(float *y, const int32_t *x, int64_t n, int64_t taps, const int32_t *place, const float *weight,
                   const int32_t *inside)
    int tw_roi_axis(float at, int64_t size, int32_t *low, int32_t *high, float *weight)

cdef enum:
    COLUMNS = 1024      # samples of a bin along x that are found at once
    MOST_SAMPLES = 1 << 20  # along one axis of a region; more is no region of an image


cdef void grid_sample(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, c, p] = x[n, c] sampled at grid[n, p].

    args: y, x, grid, C, points P, block, axes r, reach, padding, align, D, H, W. x (N, C, D, H, W), leading
    axes being 1 where r < 3; grid (N, P, r), y (N, C, P). A unit is `block` points of one n and all channels.
    reach: 0 nearest, 1 linear, 2 cubic; block * (taps a point) is at most TW_TAPS. padding: 0 zeros, 1 border,
    2 reflection. A grid value that is NaN counts as far below -1.
    """
    cdef int64_t C = a[3], P = a[4], block = a[5], axes = a[6]
    cdef int64_t plane = a[10] * a[11] * a[12], blocks = (P + block - 1) // block
    cdef int32_t[TW_TAPS] place
    cdef int32_t[TW_TAPS] inside
    cdef float[TW_TAPS] weight
    cdef const float *grid
    cdef const int32_t *x
    cdef float *y
    cdef int64_t i, n, c, at, points, taps = 1
    for i in range(axes):
        taps *= max(2 * a[7], 1)
    for i in range(begin, end):
        n = i // blocks
        at = i % blocks * block
        points = min(block, P - at)
        grid = <const float *><uintptr_t>a[2] + (n * P + at) * axes
        tw_grid_taps(grid, points, axes, a + 10, a[7], a[8], a[9], place, weight, inside)
        x = <const int32_t *><uintptr_t>a[1] + n * C * plane
        y = <float *><uintptr_t>a[0] + n * C * P + at
        for c in range(C):
            tw_gather(y + c * P, x + c * plane, points, taps, place, weight, inside)


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


cdef inline float bin_sum(const Region *r, const float *x, int64_t H, int64_t W, int64_t ph, int64_t columns,
                          const int32_t *low, const int32_t *high, const float *f, bint maximum,
                          float total) noexcept nogil:
    """`total` joined with the samples of one bin in `columns` of its columns; a low of -1 is outside."""
    cdef int64_t iy, ix
    cdef int32_t h0 = 0, h1 = 0
    cdef float g = 0, v, at
    cdef const float *top
    cdef const float *bottom
    for iy in range(r.rows):
        at = r.top + ph * r.height + (iy + <float>0.5) * r.height / r.rows
        if not tw_roi_axis(at, H, &h0, &h1, &g):
            if maximum and columns:
                total = max(total, <float>0)
            continue
        top = x + h0 * W
        bottom = x + h1 * W
        for ix in range(columns):
            if low[ix] < 0:
                if maximum:
                    total = max(total, <float>0)
            elif maximum:
                v = max((1 - g) * (1 - f[ix]) * top[low[ix]], (1 - g) * f[ix] * top[high[ix]])
                v = max(v, max(g * (1 - f[ix]) * bottom[low[ix]], g * f[ix] * bottom[high[ix]]))
                total = max(total, v)
            else:
                total += ((1 - g) * (1 - f[ix]) * top[low[ix]] + (1 - g) * f[ix] * top[high[ix]]
                          + g * (1 - f[ix]) * bottom[low[ix]] + g * f[ix] * bottom[high[ix]])
    return total


cdef void roi_align(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[r, c] = bins of x[batch[r], c] under rois[r] (ONNX RoiAlign).

    args: y, x, rois, batch, N, C, H, W, oH, oW, channels a task, sampling ratio, maximum, half_pixel, scale.
    x (N, C, H, W), rois (R, 4), batch (R,) int64, y (R, C, oH, oW). Task i takes a run of channels of region
    i // ceil(C / channels). A region of another image than these N, or of no sensible size, is NaN.
    """
    cdef int64_t N = a[4], C = a[5], H = a[6], W = a[7], oH = a[8], oW = a[9], run = a[10]
    cdef int64_t runs = (C + run - 1) // run
    cdef bint maximum = a[12]
    cdef int32_t[COLUMNS] low
    cdef int32_t[COLUMNS] high
    cdef float[COLUMNS] f
    cdef Region r
    cdef const float *x
    cdef float *y
    cdef float start
    cdef int64_t i, n, c, first, channels, ph, pw, ix, at, columns, image, count
    for i in range(begin, end):
        n = i // runs
        first = i % runs * run
        channels = min(run, C - first)
        y = <float *><uintptr_t>a[0] + (n * C + first) * oH * oW
        image = (<const int64_t *><uintptr_t>a[3])[n]
        if not region(&r, <const float *><uintptr_t>a[2] + n * 4, <float>(<const double *>(a + 14))[0], a[13], oH,
                      oW, a[11]) or image < 0 or image >= N:
            for ix in range(channels * oH * oW):
                y[ix] = NAN
            continue
        x = <const float *><uintptr_t>a[1] + (image * C + first) * H * W
        count = max(r.rows * r.columns, 1)
        start = -INFINITY if maximum and r.rows * r.columns > 0 else 0
        for ix in range(channels * oH * oW):
            y[ix] = start
        for pw in range(oW):
            at = 0
            while at < r.columns:
                columns = min(<int64_t>COLUMNS, r.columns - at)
                for ix in range(columns):
                    low[ix] = -1
                    tw_roi_axis(r.left + pw * r.width + (at + ix + <float>0.5) * r.width / r.columns, W, low + ix,
                                high + ix, f + ix)
                for c in range(channels):
                    for ph in range(oH):
                        ix = (c * oH + ph) * oW + pw
                        y[ix] = bin_sum(&r, x + c * H * W, H, W, ph, columns, low, high, f, maximum, y[ix])
                at += columns
        if not maximum:
            for ix in range(channels * oH * oW):
                y[ix] /= count


KERNELS = {
    "affine_grid": <uintptr_t>&affine_grid,
    "grid_sample": <uintptr_t>&grid_sample,
    "roi_align": <uintptr_t>&roi_align,
}
