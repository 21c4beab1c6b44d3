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

#define TW_COUNT (TW_EVEN >> 1)

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

/* The same, those outside [0, W) taken for padding. x may be read in [begin, end). */
TW_INLINE tw_vec tw_few_columns(const int max, const tw_few *f, int64_t at, int64_t W, const float *begin,
                                const float *end)
{
    const float identity = max ? -INFINITY : 0.0f;
    if (f->count == 0 || at >= W) return tw_splat(identity);
    if (f->row[0] + at < begin || f->row[f->count - 1] + at + TW_VW > end) {
        float part[TW_VW];
        for (int64_t j = 0; j < TW_VW; j++) {
            part[j] = identity;
            for (int64_t r = 0; r < f->count && at + j >= 0 && at + j < W; r++)
                part[j] = max ? tw_nanmax(f->row[r][at + j], part[j]) : part[j] + f->row[r][at + j];
        }
        return tw_load_vec(part);
    }
    const tw_vec v = tw_few_down(max, f, at);
    if (at >= 0 && at + TW_VW <= W) return v;
    const tw_mask column = TW_COUNT + (int32_t)at;
    return tw_select((column >= (tw_mask){0}) & (column < (tw_mask){0} + (int32_t)W), v, tw_splat(identity));
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

/* What a vector of windows takes from one tap: first, then second, and as third the first one of the next window. */
typedef struct {
    tw_vec first, second;
} tw_few_taps;

TW_INLINE tw_few_taps tw_few_load(const int max, const int stride, const tw_few *f, int64_t at, int64_t W,
                                  const float *begin, const float *end)
{
    const tw_vec a = tw_few_columns(max, f, at, W, begin, end);
    if (stride == 1) return (tw_few_taps){a, a};
    const tw_vec b = tw_few_columns(max, f, at + TW_VW, W, begin, end);
    return (tw_few_taps){__builtin_shuffle(a, b, TW_EVEN), __builtin_shuffle(a, b, TW_ODD)};
}

/* One row of windows, for an average times `shares`; x may be read in [begin, end), y written up to `last`: what is written too far comes later. Each
   column is joined down once. */
TW_INLINE void tw_few_row(const int max, const int width, const int stride, const tw_windows *g, const tw_few *f,
                          const float *begin, const float *end, float *y, const float *last, const float *shares)
{
    const int64_t n = g->out[2], W = g->in[2], step = stride * TW_VW;
    const int ahead = stride == 1 ? width - 1 : width - 2; /* windows whose first taps belong to one of this vector */
    int64_t at = -g->pad[2];
    tw_few_taps now = tw_few_load(max, stride, f, at, W, begin, end);
    for (int64_t j = 0; j < n; j += TW_VW, at += step) {
        tw_few_taps next = now;
        if (n - j > TW_VW - ahead) next = tw_few_load(max, stride, f, at + step, W, begin, end);
        const tw_vec shifted = __builtin_shuffle(now.first, next.first, TW_COUNT + 1);
        tw_vec v = tw_few_join(max, now.first, stride == 1 ? shifted : now.second);
        if (width == 3)
            v = tw_few_join(max, v, stride == 1 ? __builtin_shuffle(now.first, next.first, TW_COUNT + 2) : shifted);
        if (!max) v *= tw_load_vec(shares + j);
        if (y + j + TW_VW <= last) tw_store_vec(y + j, v);
        else for (int64_t i = j; i < n; i++) y[i] = v[i - j];
        now = next;
    }
}

TW_INLINE void tw_few_units(const int max, const int width, const int stride, const tw_windows *g, int64_t begin,
                            int64_t end)
{
    const int64_t oD = g->out[0], oH = g->out[1], oW = g->out[2], size = g->in[0] * g->in[1] * g->in[2];
    const int64_t last = tw_min(end * g->grain, g->units);
    int64_t row = begin * g->grain, oh = row % oH, od = row / oH % oD, plane = row / (oH * oD);
    const float *counts = g->counts, *wide = counts ? counts + oD + oH : NULL;
    float shares[TW_POOL_ROW + TW_POOL_RUN], counted = -1.0f;
    tw_few f;
    for (; row < last; row++) {
        tw_few_rows(g, g->x + plane * size, od, oh, &f);
        if (!max && counts[od] * counts[oD + oh] != counted) {
            counted = counts[od] * counts[oD + oh];
            TW_EACH(oW) shares[j] = 1.0f / (counted * wide[j]);
        }
        tw_few_row(max, width, stride, g, &f, g->x, g->x + g->planes * size, g->y + row * oW, g->y + last * oW, shares);
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
