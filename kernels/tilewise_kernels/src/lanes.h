/* Sums of a row of floats in many partial sums: fast without reordering what the compiler may not, and accurate. */
#ifndef TILEWISE_LANES_H
#define TILEWISE_LANES_H

#include "vmath.h"

/* Sixteen partial sums at once: narrow enough for every instruction set, wide enough to hide an addition's latency. */
typedef float tw_lanes __attribute__((vector_size(64), aligned(4), may_alias));

TW_INLINE float tw_lane_sum(tw_lanes v)
{
    float s[8];
    for (int i = 0; i < 8; i++) s[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; i++) s[i] += s[i + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

#define TW_LANES(p) (*(const tw_lanes *)(p))

#define TW_ROW_SUM(each)                                             \
    tw_lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, v;              \
    int64_t j = 0;                                                   \
    for (; j + 64 <= n; j += 64) {                                   \
        v = TW_LANES(x + j); s0 += (each);                           \
        v = TW_LANES(x + j + 16); s1 += (each);                      \
        v = TW_LANES(x + j + 32); s2 += (each);                      \
        v = TW_LANES(x + j + 48); s3 += (each);                      \
    }                                                                \
    for (; j + 16 <= n; j += 16) { v = TW_LANES(x + j); s0 += (each); }  \
    float sum = tw_lane_sum((s0 + s1) + (s2 + s3));

static float tw_row_sum(const float *x, int64_t n)
{
    TW_ROW_SUM(v)
    for (; j < n; j++) sum += x[j];
    return sum;
}

#endif
