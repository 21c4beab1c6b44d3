/* Windows two or three wide at stride 1 or 2 over plain rows: joined down and across in registers. */
#ifndef TILEWISE_POOL_FEW_H
#define TILEWISE_POOL_FEW_H

#include "pool.h"
#include "tile.h"

enum { TW_FEW_ROWS = 16 }; /* rows of a window, at most */

#if TW_VW == 16
#define TW_ODD (tw_mask){1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31}
#elif TW_VW == 8
#define TW_ODD (tw_mask){1, 3, 5, 7, 9, 11, 13, 15}
#else
#define TW_ODD (tw_mask){1, 3, 5, 7}
#endif

/* The rows of x under one row of windows. */
typedef struct {
    const float *row[TW_FEW_ROWS];
    int64_t count;
} tw_few;

TW_INLINE tw_vec tw_few_join(const int max, tw_vec a, tw_vec b)
{
    if (max) return tw_nanmax_vec(a, b);
    return a + b;
}

/* A vector of columns from `at` on, joined down the rows. */
TW_INLINE tw_vec tw_few_down(const int max, const tw_few *f, int64_t at)
{
    tw_vec v = tw_load_vec(f->row[0] + at);
    for (int64_t r = 1; r < f->count; r++) v = tw_few_join(max, v, tw_load_vec(f->row[r] + at));
    return v;
}

/* A vector of taps in columns `at`, at + stride, ..., those outside [0, W) taken for padding. */
TW_INLINE tw_vec tw_few_clip(const int max, const int stride, tw_vec v, int64_t at, int64_t W)
{
    const tw_mask column = (stride == 2 ? TW_EVEN : TW_EVEN >> 1) + (int32_t)at;
    const tw_mask inside = (column >= (tw_mask){0}) & (column < (tw_mask){0} + (int32_t)W);
    return tw_select(inside, v, tw_splat(max ? -INFINITY : 0.0f));
}

/* A vector of windows, the first one from column `at` on; clipped where some reach beyond [0, W). */
TW_INLINE tw_vec tw_few_windows(const int max, const int width, const int stride, const int clipped, const tw_few *f,
                                int64_t at, int64_t W)
{
    tw_vec tap[3];
#pragma GCC unroll 3
    for (int t = 0; t < width; t += stride) {
        tap[t] = tw_few_down(max, f, at + t);
        if (stride == 2) {
            const tw_vec rest = tw_few_down(max, f, at + t + TW_VW);
            if (t + 1 < width) tap[t + 1] = __builtin_shuffle(tap[t], rest, TW_ODD);
            tap[t] = __builtin_shuffle(tap[t], rest, TW_EVEN);
        }
    }
    if (clipped) {
#pragma GCC unroll 3
        for (int t = 0; t < width; t++) tap[t] = tw_few_clip(max, stride, tap[t], at + t, W);
    }
    tw_vec v = tw_few_join(max, tap[0], tap[1]);
    if (width == 3) v = tw_few_join(max, v, tap[2]);
    return v;
}

/* The rows under row (od, oh) of a plane's windows. */
static inline void tw_few_rows(const tw_windows *g, const float *x, int64_t od, int64_t oh, tw_few *f)
{
    f->count = 0;
    for (int64_t kd = 0; kd < g->kernel[0]; kd++) {
        const int64_t d = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        for (int64_t kh = 0; kh < g->kernel[1] && d >= 0 && d < g->in[0]; kh++) {
            const int64_t h = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            if (h >= 0 && h < g->in[1]) f->row[f->count++] = x + (d * g->in[1] + h) * g->in[2];
        }
    }
}

/* Windows [from, to) of a row one by one, clipped to it. */
static inline void tw_few_clipped(int max, const tw_windows *g, const tw_few *f, int64_t from, int64_t to, float *y,
                                  float count, const float *counts)
{
    for (int64_t j = from; j < to; j++) {
        const int64_t at = j * g->stride[2] - g->pad[2];
        const int64_t lo = tw_max(0, at), hi = tw_min(g->in[2], at + g->kernel[2]);
        float v = max ? -INFINITY : 0.0f;
        for (int64_t r = 0; r < f->count; r++)
            for (int64_t i = lo; i < hi; i++) v = max ? tw_nanmax(f->row[r][i], v) : v + f->row[r][i];
        y[j] = max ? v : v / (count * counts[j]);
    }
}

/* One row of windows; x may be read in [begin, end), y written up to `last`: what is written too far comes later. */
TW_INLINE void tw_few_row(const int max, const int width, const int stride, const tw_windows *g, const tw_few *f,
                          const float *begin, const float *end, float *y, const float *last, float count,
                          const float *counts)
{
    const int64_t n = g->out[2], pad = g->pad[2], reach = (stride + 1) * TW_VW + width, room = g->in[2] + pad - width;
    const int64_t left = tw_min(n, (pad + stride - 1) / stride);
    const int64_t right = tw_max(left, room < 0 ? 0 : tw_min(n, room / stride + 1));
    for (int64_t j = 0; j < n; j += TW_VW) {
        const int64_t at = j * stride - pad, to = tw_min(n, j + TW_VW);
        if (f->count == 0 || f->row[0] + at < begin || f->row[f->count - 1] + at + reach > end) {
            tw_few_clipped(max, g, f, j, to, y, count, counts);
            continue;
        }
        tw_vec v;
        if (j < left || right < to) v = tw_few_windows(max, width, stride, 1, f, at, g->in[2]);
        else v = tw_few_windows(max, width, stride, 0, f, at, g->in[2]);
        if (!max) v /= count * tw_load_vec(counts + j);
        if (y + j + TW_VW <= last) tw_store_vec(y + j, v);
        else for (int64_t i = j; i < to; i++) y[i] = v[i - j];
    }
}

TW_INLINE void tw_few_units(const int max, const int width, const int stride, const tw_windows *g, int64_t begin,
                            int64_t end)
{
    const int64_t oD = g->out[0], oH = g->out[1], oW = g->out[2], size = g->in[0] * g->in[1] * g->in[2];
    const int64_t last = tw_min(end * g->grain, g->units);
    int64_t row = begin * g->grain, oh = row % oH, od = row / oH % oD, plane = row / (oH * oD);
    const float *counts = g->counts, *wide = counts ? counts + oD + oH : NULL;
    tw_few f;
    for (; row < last; row++) {
        tw_few_rows(g, g->x + plane * size, od, oh, &f);
        tw_few_row(max, width, stride, g, &f, g->x, g->x + g->planes * size, g->y + row * oW, g->y + last * oW,
                   counts ? counts[od] * counts[oD + oh] : 1.0f, wide);
        if (++oh == oH) {
            oh = 0;
            if (++od == oD) {
                od = 0;
                plane++;
            }
        }
    }
}

static inline void tw_pool_few(const tw_windows *g, int64_t begin, int64_t end)
{
    const int width = (int)g->kernel[2], stride = (int)g->stride[2];
    if (g->op == TW_POOL_MAX) {
        if (width == 2 && stride == 1) tw_few_units(1, 2, 1, g, begin, end);
        else if (width == 2) tw_few_units(1, 2, 2, g, begin, end);
        else if (stride == 1) tw_few_units(1, 3, 1, g, begin, end);
        else tw_few_units(1, 3, 2, g, begin, end);
    } else {
        if (width == 2 && stride == 1) tw_few_units(0, 2, 1, g, begin, end);
        else if (width == 2) tw_few_units(0, 2, 2, g, begin, end);
        else if (stride == 1) tw_few_units(0, 3, 1, g, begin, end);
        else tw_few_units(0, 3, 2, g, begin, end);
    }
}

#endif
