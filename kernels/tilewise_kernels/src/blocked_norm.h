/* Normalization over channels of channel-blocked images: across the lanes of a vector and from block to block. */
#ifndef TILEWISE_BLOCKED_NORM_H
#define TILEWISE_BLOCKED_NORM_H

#include "norm.h"
#include "tile.h"

#define TW_LRN_PLACES 32 /* places done at once */
#define TW_NORM_PLACES 8

/* Lanes below `count`, and 0 in the others. */
TW_INLINE tw_vec tw_first_lanes(tw_vec v, int64_t count)
{
    tw_mask lane;
    for (int l = 0; l < TW_VW; l++) lane[l] = l < count ? -1 : 0;
    return tw_select(lane, v, (tw_vec){0});
}

/* Squares of n places of a block with `count` channels, to every third vector of dst; x NULL for zeros. */
static inline void tw_lrn_squares(float *dst, const float *x, int64_t n, int64_t count)
{
    for (int64_t i = 0; i < n; i++) {
        const tw_vec v = x ? tw_first_lanes(tw_load_vec(x + i * TW_VW), count) : (tw_vec){0};
        tw_store_vec(dst + i * 3 * TW_VW, v * v);
    }
}

/* y = x / (bias + alpha * squares of `before` channels before to `after` behind)^beta for n places (at most
   TW_LRN_PLACES) of a block with `left` channels from it on; below, above: the same places of the blocks beside it, NULL
   where there is none. before and after are at most TW_VW. */
static void tw_blocked_lrn(float *y, const float *x, const float *below, const float *above, int64_t left, int64_t n,
                           int64_t before, int64_t after, float alpha, float beta, float bias)
{
    float squares[TW_LRN_PLACES * 3 * TW_VW], p[TW_LRN_PLACES * TW_VW];
    tw_lrn_squares(squares, below, n, TW_VW);
    tw_lrn_squares(squares + TW_VW, x, n, left);
    tw_lrn_squares(squares + 2 * TW_VW, above, n, left - TW_VW);
    for (int64_t i = 0; i < n; i++) {
        const float *middle = squares + (3 * i + 1) * TW_VW;
        tw_vec sum = {0};
        for (int64_t c = -before; c <= after; c++) sum += tw_load_vec(middle + c);
        tw_store_vec(p + i * TW_VW, tw_splat(bias) + tw_splat(alpha) * sum);
    }
    tw_divide_by_power(y, x, p, beta, n * TW_VW);
}

TW_INLINE double tw_lane_total(tw_vec v)
{
    double total = 0.0;
    for (int l = 0; l < TW_VW; l++) total += (double)v[l];
    return total;
}

/* sum[i] += the squared distances from mean[i], or with `plain` the values, of the first `count` lanes of n places. */
TW_INLINE void tw_norm_add(const int n, const int plain, tw_vec *sum, const float *x, const tw_vec *mean, int64_t count)
{
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        tw_vec term = tw_load_vec(x + i * TW_VW);
        if (!plain) term = (term - mean[i]) * (term - mean[i]);
        if (count < TW_VW) term = tw_first_lanes(term, count);
        sum[i] += term;
    }
}

/* n places, each normalized over its C channels, blocks `plane` floats apart; scale and bias (or NULL) by channel. */
TW_INLINE void tw_blocked_normalize(const int n, float *y, const float *x, int64_t C, int64_t plane, double epsilon,
                                    const float *scale, const float *bias)
{
    const int64_t whole = C / TW_VW, rest = C % TW_VW;
    tw_vec sum[TW_NORM_PLACES] = {{0}}, mean[TW_NORM_PLACES], rstd[TW_NORM_PLACES];
    for (int64_t k = 0; k < whole; k++) tw_norm_add(n, 1, sum, x + k * plane, mean, TW_VW);
    if (rest) tw_norm_add(n, 1, sum, x + whole * plane, mean, rest);
    for (int i = 0; i < n; i++) {
        mean[i] = tw_splat((float)(tw_lane_total(sum[i]) / (double)C));
        sum[i] = (tw_vec){0};
    }
    for (int64_t k = 0; k < whole; k++) tw_norm_add(n, 0, sum, x + k * plane, mean, TW_VW);
    if (rest) tw_norm_add(n, 0, sum, x + whole * plane, mean, rest);
    for (int i = 0; i < n; i++) rstd[i] = tw_splat((float)(1.0 / sqrt(tw_lane_total(sum[i]) / (double)C + epsilon)));
    for (int64_t k = 0; k < whole + (rest > 0); k++) {
        const tw_vec a = tw_load_vec(scale + k * TW_VW), b = bias ? tw_load_vec(bias + k * TW_VW) : (tw_vec){0};
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
            const int64_t at = k * plane + i * TW_VW;
            tw_store_vec(y + at, (tw_load_vec(x + at) - mean[i]) * rstd[i] * a + b);
        }
    }
}

static void tw_blocked_normalize_places(int64_t n, float *y, const float *x, int64_t C, int64_t plane, double epsilon,
                                        const float *scale, const float *bias)
{
    int64_t i = 0;
    for (; i + TW_NORM_PLACES <= n; i += TW_NORM_PLACES)
        tw_blocked_normalize(TW_NORM_PLACES, y + i * TW_VW, x + i * TW_VW, C, plane, epsilon, scale, bias);
    for (; i < n; i++) tw_blocked_normalize(1, y + i * TW_VW, x + i * TW_VW, C, plane, epsilon, scale, bias);
}

#endif
