/* Sampling of float32 images at arbitrary places. */
#ifndef TILEWISE_VISION_H
#define TILEWISE_VISION_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TW_TAPS = 4096 }; /* points times taps of a block */
enum { TW_ZEROS = 0, TW_BORDER = 1, TW_REFLECTION = 2 };
enum { TW_FAR = 1000000000 }; /* places are clamped to this, and NaN to its negative */

/* Taps along one axis: how many (1, 2 or 4), their indices and weights; inside is -1, or 0 for a tap that is 0. */
typedef struct {
    int64_t count;
    int32_t index[4], inside[4];
    float weight[4];
} tw_axis;

/* x thrown back at lo and hi until it lies between them. */
static inline double tw_reflect(double x, double lo, double hi)
{
    const double range = hi - lo, over = x < lo ? lo - x : x - hi;
    if (over <= 0.0) return x;
    if (range <= 0.0) return lo;
    const double times = floor(over / range), rest = over - times * range;
    const int back = (x < lo) == (fmod(times, 2.0) == 0.0);
    return back ? lo + rest : hi - rest;
}

/* A place in elements from one in [-1, 1]; products are rounded to float before anything is added. */
static inline float tw_denormalize(float g, int64_t size, int64_t align)
{
    const float t = align ? (g + 1.0f) * 0.5f * (float)(size - 1)
                          : ((float)((double)(g + 1.0f) * (double)size) - 1.0f) * 0.5f;
    return !(t > -TW_FAR) ? -TW_FAR : t < TW_FAR ? t : TW_FAR;
}

static inline float tw_cubic(float x, int far_tap)
{
    const float a = -0.75f;
    return far_tap ? ((a * x - 5.0f * a) * x + 8.0f * a) * x - 4.0f * a : ((a + 2.0f) * x - (a + 3.0f)) * x * x + 1.0f;
}

/* The taps of grid value g on an axis of `size` elements; reach is 0 for nearest, 1 for linear, 2 for cubic. */
static inline void tw_grid_axis(tw_axis *t, float g, int64_t size, int64_t reach, int64_t padding, int64_t align)
{
    const double lo = align ? 0.0 : -0.5, hi = align ? (double)size - 1.0 : (double)size - 0.5;
    float x = tw_denormalize(g, size, align);
    if (reach == 0) x = rintf(x);
    if (x < lo || x > hi) {
        if (padding == TW_BORDER) x = x < 0.0f ? 0.0f : (float)(size - 1);
        if (padding == TW_REFLECTION) x = (float)tw_reflect(x, lo, hi);
    }
    const float base = floorf(x), f = x - base;
    t->count = reach == 0 ? 1 : 2 * reach;
    for (int64_t k = 0; k < t->count; k++) {
        const int64_t offset = k - (reach == 2);
        int64_t i = (int64_t)base + offset;
        if (padding == TW_REFLECTION) i = (int64_t)tw_reflect((double)i, lo, hi);
        t->inside[k] = padding == TW_ZEROS && (i < 0 || i >= size) ? 0 : -1;
        t->index[k] = (int32_t)(i < 0 ? 0 : i >= size ? size - 1 : i);
        const float distance = fabsf((float)offset - f);
        t->weight[k] = reach == 0 ? 1.0f : reach == 1 ? 1.0f - distance : tw_cubic(distance, k == 0 || k == 3);
    }
}

/* The taps of n points: tables (taps, n) of places in a plane, weights, and masks of taps inside. */
static inline void tw_grid_taps(const float *grid, int64_t n, int64_t axes, const int64_t *size, int64_t reach,
                                int64_t padding, int64_t align, int32_t *place, float *weight, int32_t *inside)
{
    tw_axis t[3];
    for (int64_t p = 0; p < n; p++, grid += axes) {
        for (int64_t d = 0; d < 3; d++) {
            t[d].count = 1;
            t[d].index[0] = 0;
            t[d].inside[0] = -1;
            t[d].weight[0] = 1.0f;
            if (d >= 3 - axes) tw_grid_axis(&t[d], grid[2 - d], size[d], reach, padding, align);
        }
        int64_t at = p;
        for (int64_t i = 0; i < t[0].count; i++)
            for (int64_t j = 0; j < t[1].count; j++)
                for (int64_t k = 0; k < t[2].count; k++, at += n) {
                    place[at] = (t[0].index[i] * (int32_t)size[1] + t[1].index[j]) * (int32_t)size[2] + t[2].index[k];
                    weight[at] = t[0].weight[i] * t[1].weight[j] * t[2].weight[k];
                    inside[at] = t[0].inside[i] & t[1].inside[j] & t[2].inside[k];
                }
    }
}

/* y[p] = sum over taps of weight * x[place], or 0 for a tap outside. */
static inline void tw_gather(float *restrict y, const int32_t *restrict x, int64_t n, int64_t taps,
                             const int32_t *restrict place, const float *restrict weight,
                             const int32_t *restrict inside)
{
    for (int64_t t = 0; t < taps; t++, place += n, weight += n, inside += n)
        for (int64_t p = 0; p < n; p++) {
            union { int32_t bits; float value; } v = {x[place[p]] & inside[p]};
            const float term = weight[p] * v.value;
            y[p] = t == 0 ? term : y[p] + term;
        }
}

/* A sample along one axis of a region: two neighbours and the weight of the second; 0 where it lies outside. */
static inline int tw_roi_axis(float at, int64_t size, int32_t *low, int32_t *high, float *weight)
{
    if (!(at >= -1.0f && at <= (float)size)) return 0;
    if (at < 0.0f) at = 0.0f;
    *low = (int32_t)at;
    if (*low >= size - 1) {
        *low = *high = (int32_t)(size - 1);
        *weight = 0.0f;
    } else {
        *high = *low + 1;
        *weight = at - (float)*low;
    }
    return 1;
}

#endif
