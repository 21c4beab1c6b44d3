/* Sums of a row of floats in many partial sums: fast without reordering what the compiler may not, and accurate. */
#ifndef TILEWISE_LANES_H
#define TILEWISE_LANES_H

#include "vmath.h"

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

#endif
