/* The register tile of convolutions in channel-blocked layout: x [.][pixel][c], y [block][pixel][VW].

   A tile has up to TW_MR pixels by one or two blocks of TW_VW output channels, all of it in registers; each input value
   is broadcast to the vectors of output channels, so pixels may lie at any distance (Georganas et al., "Anatomy of
   High-Performance Deep Learning Convolutions on SIMD Architectures", 2018). */
#ifndef TILEWISE_BLOCKED_H
#define TILEWISE_BLOCKED_H

#include "turn.h"

#define TW_DEPTHWISE 8 /* places that a depthwise convolution keeps in registers */

/* segs: runs of input channels that lie side by side, at off[s] from the tile's first pixel; the first `full` of them
   have `channels` channels each, the others `tail`; before[s] channels stand before them in the weights. step, y_step:
   floats from pixel to pixel in x and in y.
   gap, y_gap: floats from a tile's first run of pixels to its second. y_block: floats from block to block in y.
   ahead: floats of the weights behind these that are fetched into the cache for each input channel. */
typedef struct {
    int64_t segs, full, channels, tail;
    const int64_t *off, *before;
    int64_t step, gap, y_block, y_step, y_gap, ahead;
    float lo, hi;
} tw_blocked;

/* Pixels [0, half) lie at x and y, those from `half` on at x + gap and y + y_gap; half == n for one run alone. */
TW_INLINE void tw_blocked_body(const int n, const int half, const int nb, const tw_blocked *p, const float *x,
                               const float *w, const float *next, const float *bias, const float *residual, float *y)
{
    tw_vec acc[2][TW_MR];
    const int64_t step = p->step, gap = p->gap, ahead = p->ahead;
#pragma GCC unroll 2
    for (int b = 0; b < nb; b++) {
        const tw_vec start = bias ? tw_load_vec(bias + b * TW_VW) : (tw_vec){0};
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) acc[b][i] = start;
    }
    const float *weights = w;
    for (int64_t s = 0; s < p->segs; s++) {
        const float *first = x + p->off[s], *second = first + gap;
        w = weights + p->before[s] * nb * TW_VW;
        const int64_t count = s < p->full ? p->channels : p->tail;
        for (int64_t c = 0; c < count; c++) {
            tw_vec wv[2];
#pragma GCC unroll 2
            for (int b = 0; b < nb; b++) wv[b] = tw_load_vec(w + b * TW_VW);
            __builtin_prefetch(next, 0, 2);
            next += ahead;
#pragma GCC unroll 16
            for (int i = 0; i < n; i++) {
                const tw_vec f = tw_splat(i < half ? first[c + i * step] : second[c + (i - half) * step]);
#pragma GCC unroll 2
                for (int b = 0; b < nb; b++) acc[b][i] += wv[b] * f;
            }
            w += nb * TW_VW;
        }
    }
    const tw_vec low = tw_splat(p->lo), high = tw_splat(p->hi);
#pragma GCC unroll 2
    for (int b = 0; b < nb; b++) {
#pragma GCC unroll 16
        for (int i = 0; i < n; i++) {
            const int64_t at = b * p->y_block + (i < half ? i * p->y_step : p->y_gap + (i - half) * p->y_step);
            tw_vec v = acc[b][i];
            if (residual) v += tw_load_vec(residual + at);
            tw_store_vec(y + at, tw_clip_vec(v, low, high));
        }
    }
}

#define TW_BLOCKED_ONE(n)                                                                                \
    case 4 * (n): tw_blocked_body(n, n, 1, p, x, w, next, bias, residual, y); break;                     \
    case 4 * (n) + 1: tw_blocked_body(n, n, 2, p, x, w, next, bias, residual, y); break;
#define TW_BLOCKED_TWO(n)                                                                                \
    case 4 * (n) + 2: tw_blocked_body(n, (n) / 2, 1, p, x, w, next, bias, residual, y); break;           \
    case 4 * (n) + 3: tw_blocked_body(n, (n) / 2, 2, p, x, w, next, bias, residual, y); break;

/* n pixels (1 to TW_MR), in one run or in two of n / 2, by `nb` blocks (1 or 2). next: weights needed soon. */
static __attribute__((noinline)) void tw_blocked_tile(int n, int two, int nb, const tw_blocked *p, const float *x,
                                                      const float *w, const float *next, const float *bias,
                                                      const float *residual, float *y)
{
    switch (4 * n + 2 * two + nb - 1) {
        TW_BLOCKED_ONE(1) TW_BLOCKED_ONE(2) TW_BLOCKED_ONE(3) TW_BLOCKED_ONE(4) TW_BLOCKED_ONE(5) TW_BLOCKED_ONE(6)
        TW_BLOCKED_TWO(2) TW_BLOCKED_TWO(4) TW_BLOCKED_TWO(6)
#if TW_MR > 6
        TW_BLOCKED_ONE(7) TW_BLOCKED_ONE(8) TW_BLOCKED_ONE(9) TW_BLOCKED_ONE(10) TW_BLOCKED_ONE(11)
        TW_BLOCKED_ONE(12) TW_BLOCKED_ONE(13) TW_BLOCKED_ONE(14)
        TW_BLOCKED_TWO(8) TW_BLOCKED_TWO(10) TW_BLOCKED_TWO(12) TW_BLOCKED_TWO(14)
#endif
    }
}

/* What the places of a row of a depthwise convolution have in common. rows: of x, one for each tap down; step, tap: floats
   from place to place and from tap to tap. bias may be NULL; y is clipped to lo..hi. */
typedef struct {
    const float *const *rows;
    int64_t step, tap, kh, kw;
    const float *w, *bias;
    float lo, hi;
} tw_depthwise;

/* n neighbouring places of y from place `at / step` on, one block of channels each: y[i] = bias + residual[i] + sum over
   r, s of w[r][s] * rows[r][at + i * step + s * tap]. k, stride: those of a square
   window without dilation where they are known, else 0. */
TW_INLINE void tw_depthwise_body(const int n, const int k, const int stride, const tw_depthwise *p, int64_t at,
                                 const float *residual, float *y)
{
    tw_vec acc[TW_DEPTHWISE];
    const int64_t kh = k ? k : p->kh, kw = k ? k : p->kw;
    const int64_t step = stride ? stride * TW_VW : p->step, tap = stride ? TW_VW : p->tap;
    const float *w = p->w;
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) acc[i] = p->bias ? tw_load_vec(p->bias) : (tw_vec){0};
#pragma GCC unroll 5
    for (int64_t r = 0; r < kh; r++) {
        const float *x = p->rows[r] + at;
#pragma GCC unroll 7
        for (int64_t s = 0; s < kw; s++) {
            const tw_vec f = tw_load_vec(w);
#pragma GCC unroll 8
            for (int i = 0; i < n; i++) acc[i] += f * tw_load_vec(x + i * step);
            x += tap;
            w += TW_VW;
        }
    }
    const tw_vec low = tw_splat(p->lo), high = tw_splat(p->hi);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        if (residual) acc[i] += tw_load_vec(residual + i * TW_VW);
        tw_store_vec(y + i * TW_VW, tw_clip_vec(acc[i], low, high));
    }
}

#define TW_DEPTHWISE_CASE(n) \
    case n: tw_depthwise_body(n, k, stride, p, i * p->step, r, y + i * TW_VW); break;

/* `count` places of a row, cut evenly. */
TW_INLINE void tw_depthwise_places(const int k, const int stride, int64_t count, const tw_depthwise *p, const float *residual, float *y)
{
    const int64_t runs = (count + TW_DEPTHWISE - 1) / TW_DEPTHWISE;
    int64_t i = 0;
    for (int64_t run = 1; run <= runs; run++) {
        const int64_t stop = run * count / runs;
        const float *r = residual ? residual + i * TW_VW : 0;
        switch (stop - i) {
            TW_DEPTHWISE_CASE(1) TW_DEPTHWISE_CASE(2) TW_DEPTHWISE_CASE(3) TW_DEPTHWISE_CASE(4)
            TW_DEPTHWISE_CASE(5) TW_DEPTHWISE_CASE(6) TW_DEPTHWISE_CASE(7) TW_DEPTHWISE_CASE(8)
        }
        i = stop;
    }
}

#define TW_DEPTHWISE_ROW(name, k, stride)                                                                    \
    static __attribute__((noinline)) void tw_depthwise_##name(int64_t count, const tw_depthwise *p,          \
                                                              const float *residual, float *y)               \
    {                                                                                                        \
        tw_depthwise_places(k, stride, count, p, residual, y);                                               \
    }

TW_DEPTHWISE_ROW(3_1, 3, 1)
TW_DEPTHWISE_ROW(3_2, 3, 2)
TW_DEPTHWISE_ROW(3_any, 3, 0)
TW_DEPTHWISE_ROW(5_1, 5, 1)
TW_DEPTHWISE_ROW(5_2, 5, 2)
TW_DEPTHWISE_ROW(7_1, 7, 1)
TW_DEPTHWISE_ROW(7_2, 7, 2)
TW_DEPTHWISE_ROW(any, 0, 0)

static inline void tw_depthwise_row(int64_t count, const tw_depthwise *p, const float *residual, float *y)
{
    const int64_t stride = p->tap == TW_VW && p->step <= 2 * TW_VW ? p->step / TW_VW : 0;
    switch (p->kh == p->kw ? 4 * p->kh + stride : 0) {
        case 12: tw_depthwise_3_any(count, p, residual, y); break;
        case 13: tw_depthwise_3_1(count, p, residual, y); break;
        case 14: tw_depthwise_3_2(count, p, residual, y); break;
        case 21: tw_depthwise_5_1(count, p, residual, y); break;
        case 22: tw_depthwise_5_2(count, p, residual, y); break;
        case 29: tw_depthwise_7_1(count, p, residual, y); break;
        case 30: tw_depthwise_7_2(count, p, residual, y); break;
        default: tw_depthwise_any(count, p, residual, y);
    }
}

/* Places [first, first + count) of a row of `width` places into dst, zeros outside; row NULL for a row of zeros. */
static inline void tw_stage_row(float *dst, const float *row, int64_t first, int64_t count, int64_t width)
{
    const int64_t lo = row ? (first < 0 ? (-first < count ? -first : count) : 0) : count;
    const int64_t hi = width - first < lo ? lo : (width - first < count ? width - first : count);
    int64_t i = 0;
    for (; i < lo; i++) tw_store_vec(dst + i * TW_VW, (tw_vec){0});
    for (; i < hi; i++) tw_store_vec(dst + i * TW_VW, tw_load_vec(row + (first + i) * TW_VW));
    for (; i < count; i++) tw_store_vec(dst + i * TW_VW, (tw_vec){0});
}

#endif
