/* Pooling of channel-blocked images: the vector lanes are channels, so windows need no shuffles. */
#ifndef TILEWISE_BLOCKED_POOL_H
#define TILEWISE_BLOCKED_POOL_H

#include <math.h>

#include "tile.h"

TW_INLINE tw_vec tw_join_vec(const int max, tw_vec a, tw_vec b)
{
    if (max) return tw_nanmax_vec(a, b);
    return a + b;
}

/* n neighbouring outputs over the taps [kh0, kh1) x [kw0, kw1): the maximum, or the sum over `count`.
   step, row, tap: floats in x from output to output, and from tap to tap down and across. */
TW_INLINE void tw_blocked_window(const int n, const int max, const float *x, int64_t step, int64_t row, int64_t tap,
                                 int64_t kh0, int64_t kh1, int64_t kw0, int64_t kw1, float count, float *y)
{
    tw_vec acc[4];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) acc[i] = tw_splat(max ? -INFINITY : 0.0f);
    for (int64_t r = kh0; r < kh1; r++)
        for (int64_t s = kw0; s < kw1; s++) {
            const float *p = x + r * row + s * tap;
#pragma GCC unroll 4
            for (int i = 0; i < n; i++) acc[i] = tw_join_vec(max, acc[i], tw_load_vec(p + i * step));
        }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        if (!max) acc[i] /= count;
        tw_store_vec(y + i * TW_VW, acc[i]);
    }
}

/* Outputs [lo, hi) of a row, all with the same taps inside x. */
static inline void tw_blocked_windows(int max, int64_t lo, int64_t hi, const float *x, int64_t step, int64_t row,
                                      int64_t tap, int64_t kh0, int64_t kh1, int64_t kw0, int64_t kw1, float count,
                                      float *y)
{
    int64_t i = lo;
#define TW_WINDOW(n, max) \
    tw_blocked_window(n, max, x + i * step, step, row, tap, kh0, kh1, kw0, kw1, count, y + i * TW_VW)
    if (max) {
        for (; i + 4 <= hi; i += 4) TW_WINDOW(4, 1);
        for (; i < hi; i++) TW_WINDOW(1, 1);
    } else {
        for (; i + 4 <= hi; i += 4) TW_WINDOW(4, 0);
        for (; i < hi; i++) TW_WINDOW(1, 0);
    }
#undef TW_WINDOW
}

/* The maximum or the mean of `pixels` places of one block of channels. */
static inline void tw_blocked_plane(int max, const float *x, int64_t pixels, float *y)
{
    const tw_vec start = tw_splat(max ? -INFINITY : 0.0f);
    tw_vec acc[8] = {start, start, start, start, start, start, start, start};
    int64_t i = 0;
    for (; i + 8 <= pixels; i += 8)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) acc[j] = tw_join_vec(max, acc[j], tw_load_vec(x + (i + j) * TW_VW));
    for (; i < pixels; i++) acc[0] = tw_join_vec(max, acc[0], tw_load_vec(x + i * TW_VW));
    for (int j = 1; j < 8; j++) acc[0] = tw_join_vec(max, acc[0], acc[j]);
    if (!max) acc[0] /= (float)pixels;
    tw_store_vec(y, acc[0]);
}

/* y = x * scale + shift over `pixels` places of one block of channels; scale and shift may be NULL. */
static inline void tw_blocked_affine(const float *x, const float *scale, const float *shift, int64_t pixels, float *y)
{
    const tw_vec a = scale ? tw_load_vec(scale) : tw_splat(1.0f), b = shift ? tw_load_vec(shift) : (tw_vec){0};
    if (!shift)
        for (int64_t i = 0; i < pixels; i++) tw_store_vec(y + i * TW_VW, tw_load_vec(x + i * TW_VW) * a);
    else
        for (int64_t i = 0; i < pixels; i++) tw_store_vec(y + i * TW_VW, tw_load_vec(x + i * TW_VW) * a + b);
}

#endif
