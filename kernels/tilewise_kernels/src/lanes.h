/* Sums of a row of floats in many partial sums: fast without reordering what the compiler may not, and accurate. */
#ifndef TILEWISE_LANES_H
#define TILEWISE_LANES_H

#include "vmath.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define TW_LANES 16
#elif defined(__AVX__)
#define TW_LANES 8
#else
#define TW_LANES 4
#endif

typedef float tw_lanes __attribute__((vector_size(4 * TW_LANES), aligned(4), may_alias));

TW_INLINE float tw_lane_sum(tw_lanes v)
{
    float s[TW_LANES / 2];
#pragma GCC unroll 8
    for (int i = 0; i < TW_LANES / 2; i++)
        s[i] = v[i] + v[i + TW_LANES / 2];
#pragma GCC unroll 4
    for (int i = 0; i < TW_LANES / 4; i++)
        s[i] += s[i + TW_LANES / 4];
#if TW_LANES == 16
    return (s[0] + s[2]) + (s[1] + s[3]);
#elif TW_LANES == 8
    return s[0] + s[1];
#else
    return s[0];
#endif
}

#define TW_LANES_AT(p) (*(const tw_lanes *)(p))

/* `sum` becomes the sum over whole vectors v of x of `each`, and `j` the number of floats in them. */
#define TW_ROW_SUM(each)                                                                \
    tw_lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, v;                                 \
    int64_t j = 0;                                                                      \
    for (; j + 4 * TW_LANES <= n; j += 4 * TW_LANES) {                                  \
        v = TW_LANES_AT(x + j); s0 += (each);                                           \
        v = TW_LANES_AT(x + j + TW_LANES); s1 += (each);                                \
        v = TW_LANES_AT(x + j + 2 * TW_LANES); s2 += (each);                            \
        v = TW_LANES_AT(x + j + 3 * TW_LANES); s3 += (each);                            \
    }                                                                                   \
    for (; j + TW_LANES <= n; j += TW_LANES) { v = TW_LANES_AT(x + j); s0 += (each); }  \
    float sum = tw_lane_sum((s0 + s1) + (s2 + s3));

static float tw_row_sum(const float *x, int64_t n)
{
    TW_ROW_SUM(v)
    for (; j < n; j++) sum += x[j];
    return sum;
}

static float tw_row_square_sum(const float *x, int64_t n)
{
    TW_ROW_SUM(v * v)
    for (; j < n; j++) sum += x[j] * x[j];
    return sum;
}

typedef int32_t tw_lanes_bits __attribute__((vector_size(4 * TW_LANES)));
static inline tw_lanes tw_lanes_abs(tw_lanes v) { return (tw_lanes)((tw_lanes_bits)v & 0x7fffffff); }

static float tw_row_abs_sum(const float *x, int64_t n)
{
    TW_ROW_SUM(tw_lanes_abs(v))
    for (; j < n; j++) sum += fabsf(x[j]);
    return sum;
}

/* exp(x) for x <= 0, or NaN; see tw_exp. */
TW_INLINE tw_lanes tw_exp_lanes(tw_lanes x)
{
#if defined(__AVX512F__)
    x = (tw_lanes)_mm512_max_ps(_mm512_set1_ps(-110.0f), (__m512)x);
#else
    const tw_lanes_bits small = x < -110.0f;
    x = (tw_lanes)((small & (tw_lanes_bits)((tw_lanes){0} - 110.0f)) | (~small & (tw_lanes_bits)x));
#endif
    const tw_lanes t = x * TW_LOG2E + TW_ROUND_MAGIC;
    const tw_lanes n = t - TW_ROUND_MAGIC;
    const tw_lanes r = (x - n * TW_LN2_HI) - n * TW_LN2_LO;
    tw_lanes p = r * 1.37805939e-3f + 8.37312452e-3f;
    p = p * r + 4.16695364e-2f;
    p = p * r + 1.66664720e-1f;
    p = p * r + 4.99999851e-1f;
    p = (p * r * r + r) + 1.0f;
#if defined(__AVX512F__)
    return (tw_lanes)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    const tw_lanes_bits k = (tw_lanes_bits)t - (int32_t)tw_bits(TW_ROUND_MAGIC), half = k >> 1;
    return p * (tw_lanes)((half + 127) << 23) * (tw_lanes)((k - half + 127) << 23);
#endif
}

#endif
