/* Whole planes of float32, reduced to one value each. */
#ifndef TILEWISE_POOL_PLANE_H
#define TILEWISE_POOL_PLANE_H

#include "lanes.h"
#include "pool.h"

static float tw_row_power_sum(const float *x, int64_t n, float p)
{
    float total = 0.0f;
    for (int64_t i = 0; i < n; i++) total += powf(fabsf(x[i]), p);
    return total;
}

/* One value of n elements. Runs are summed in float, and the runs in double, so that long planes stay accurate. */
static inline float tw_plane(int64_t op, const float *x, int64_t n, float p)
{
    if (op == TW_POOL_MAX) return tw_row_max(x, n);
    double total = 0.0;
    for (int64_t i = 0; i < n; i += TW_POOL_ROW) {
        const int64_t run = tw_min(n - i, TW_POOL_ROW);
        switch (op) {
        case TW_POOL_AVERAGE: total += tw_row_sum(x + i, run); break;
        case TW_POOL_L1: total += tw_row_abs_sum(x + i, run); break;
        case TW_POOL_L2: total += tw_row_square_sum(x + i, run); break;
        default: total += tw_row_power_sum(x + i, run, p);
        }
    }
    switch (op) {
    case TW_POOL_AVERAGE: return (float)(total / (double)n);
    case TW_POOL_L1: return (float)total;
    case TW_POOL_L2: return sqrtf((float)total);
    default: return powf((float)total, 1.0f / p);
    }
}

#endif
