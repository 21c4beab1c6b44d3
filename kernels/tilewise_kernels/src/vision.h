/* Sampling of float32 images at arbitrary places. */
#ifndef TILEWISE_VISION_H
#define TILEWISE_VISION_H

#include <math.h>
#include <stdint.h>

enum { TW_TAPS = 2048, TW_POINTS = 512 }; /* points times taps of a block, and points */
enum { TW_ZEROS = 0, TW_BORDER = 1, TW_REFLECTION = 2 };
enum { TW_FAR = 1000000000 }; /* places are clamped to this, and NaN to its negative */

/* Tables (taps, points) of n points: places in a plane, weights, and inside: -1, or 0 for a tap that counts as 0. */
typedef struct {
    int32_t place[TW_TAPS], inside[TW_TAPS];
    float weight[TW_TAPS];
} tw_taps;

/* The same along one axis, with the place x of each point. */
typedef struct {
    int32_t index[4 * TW_POINTS], inside[4 * TW_POINTS];
    float weight[4 * TW_POINTS], x[TW_POINTS];
} tw_axis;

/* x thrown back at lo and hi until it lies between them. */
static inline double tw_reflect(double x, double lo, double hi)
{
    const double range = hi > lo ? hi - lo : 1.0, over = x < lo ? lo - x : x - hi;
    const double times = floor(over / range), rest = hi > lo ? over - times * range : 0.0;
    const int even = times - 2.0 * floor(times * 0.5) == 0.0, back = (x < lo) == even;
    return over <= 0.0 ? x : back | (hi <= lo) ? lo + rest : hi - rest;
}

/* A place in elements from one in [-1, 1]; products are rounded to float before anything is added. */
static inline float tw_denormalize(float g, int64_t size, int align)
{
    const float t = align ? (g + 1.0f) * 0.5f * (float)(size - 1)
                          : ((float)((double)(g + 1.0f) * (double)size) - 1.0f) * 0.5f;
    const float low = t > -(float)TW_FAR ? t : -(float)TW_FAR;
    return low < (float)TW_FAR ? low : (float)TW_FAR;
}

/* Keys' cubic convolution with a = -0.75 for the near and the far taps. */
static inline float tw_near(float x) { return (1.25f * x - 2.25f) * x * x + 1.0f; }
static inline float tw_far(float x) { return ((-0.75f * x + 3.75f) * x - 6.0f) * x + 3.0f; }

static inline void tw_axis_places(tw_axis *t, const float *grid, int64_t n, int64_t step, int64_t size, int64_t reach,
                                  int64_t padding, int align)
{
    const double lo = align ? 0.0 : -0.5, hi = align ? (double)size - 1.0 : (double)size - 0.5;
    const float first = (float)lo, end = (float)hi, last = (float)(size - 1);
    float *restrict x = t->x;
    for (int64_t p = 0; p < n; p++) x[p] = tw_denormalize(grid[p * step], size, align);
    if (reach == 0)
        for (int64_t p = 0; p < n; p++) x[p] = rintf(x[p]);
    if (padding == TW_BORDER)
        for (int64_t p = 0; p < n; p++) x[p] = x[p] < first ? 0.0f : x[p] > end ? last : x[p];
    if (padding == TW_REFLECTION)
        for (int64_t p = 0; p < n; p++) x[p] = (float)tw_reflect((double)x[p], lo, hi);
}

/* The taps of n grid values on an axis of `size` elements; reach is 0 for nearest, 1 for linear, 2 for cubic. */
static inline void tw_axis_taps(tw_axis *t, int64_t n, int64_t size, int64_t reach, int64_t padding, int align)
{
    const double lo = align ? 0.0 : -0.5, hi = align ? (double)size - 1.0 : (double)size - 0.5;
    const int32_t end = (int32_t)size;
    const float *restrict x = t->x;
    const int64_t count = reach == 0 ? 1 : 2 * reach;
    for (int64_t k = 0; k < count; k++) {
        int32_t *restrict index = t->index + k * n, *restrict inside = t->inside + k * n;
        float *restrict weight = t->weight + k * n;
        const int32_t offset = (int32_t)k - (reach == 2);
        for (int64_t p = 0; p < n; p++) index[p] = (int32_t)floorf(x[p]) + offset;
        for (int64_t p = 0; p < n; p++) inside[p] = padding != TW_ZEROS || (index[p] >= 0 && index[p] < end) ? -1 : 0;
        if (padding == TW_REFLECTION)
            for (int64_t p = 0; p < n; p++) index[p] = (int32_t)tw_reflect((double)index[p], lo, hi);
        for (int64_t p = 0; p < n; p++) index[p] = index[p] < 0 ? 0 : index[p] >= end ? end - 1 : index[p];
        for (int64_t p = 0; p < n; p++) {
            const float distance = fabsf((float)offset - (x[p] - floorf(x[p])));
            const float cubic = k == 0 || k == 3 ? tw_far(distance) : tw_near(distance);
            weight[p] = reach == 0 ? 1.0f : reach == 1 ? 1.0f - distance : cubic;
        }
    }
}

/* Every tap so far joined with every tap of one more axis, in place. */
static inline void tw_join(tw_taps *all, const tw_axis *t, int64_t n, int64_t taps, int64_t count, int64_t size)
{
    for (int64_t i = taps - 1; i >= 0; i--)
        for (int64_t j = count - 1; j >= 0; j--) {
            const int64_t from = i * n, to = (i * count + j) * n;
            for (int64_t p = 0; p < n; p++) {
                all->place[to + p] = all->place[from + p] * (int32_t)size + t->index[j * n + p];
                all->inside[to + p] = all->inside[from + p] & t->inside[j * n + p];
                all->weight[to + p] = all->weight[from + p] * t->weight[j * n + p];
            }
        }
}

/* The taps of n points of a grid (n, axes), innermost axis first; their number. */
static inline int64_t tw_grid_taps(tw_taps *all, const float *grid, int64_t n, int64_t axes, const int64_t *size,
                                   int64_t reach, int64_t padding, int align)
{
    tw_axis t;
    const int64_t count = reach == 0 ? 1 : 2 * reach;
    int64_t taps = 1;
    for (int64_t p = 0; p < n; p++) {
        all->place[p] = 0;
        all->inside[p] = -1;
        all->weight[p] = 1.0f;
    }
    for (int64_t d = 0; d < axes; d++, taps *= count) {
        tw_axis_places(&t, grid + axes - 1 - d, n, axes, size[d], reach, padding, align);
        tw_axis_taps(&t, n, size[d], reach, padding, align);
        tw_join(all, &t, n, taps, count, size[d]);
    }
    return taps;
}

/* y[p] = sum over taps of weight * x[place], or 0 for a tap outside. */
static inline void tw_gather(float *restrict y, const int32_t *restrict x, int64_t n, int64_t taps, const tw_taps *all)
{
    const int32_t *restrict place = all->place, *restrict inside = all->inside;
    const float *restrict weight = all->weight;
    for (int64_t t = 0; t < taps; t++, place += n, weight += n, inside += n)
        for (int64_t p = 0; p < n; p++) {
            union { int32_t bits; float value; } v = {x[place[p]] & inside[p]};
            const float term = weight[p] * v.value;
            y[p] = t == 0 ? term : y[p] + term;
        }
}

/* One sample of a region: four neighbours in a plane and their weights; place[0] is -1 where it lies outside. */
typedef struct {
    int32_t place[4];
    float weight[4];
} tw_sample;

static inline int tw_roi_axis(float at, int64_t size, int32_t *low, int32_t *high, float *weight)
{
    if (!(at >= -1.0f && at <= (float)size)) return 0;
    if (at < 0.0f) at = 0.0f;
    *low = (int32_t)at;
    *high = *low + 1;
    *weight = at - (float)*low;
    if (*low >= size - 1) {
        *low = *high = (int32_t)(size - 1);
        *weight = 0.0f;
    }
    return 1;
}

static inline void tw_roi_sample(tw_sample *s, float y, float x, int64_t H, int64_t W)
{
    int32_t h0, h1, w0, w1;
    float g, f;
    s->place[0] = -1;
    if (!tw_roi_axis(y, H, &h0, &h1, &g) || !tw_roi_axis(x, W, &w0, &w1, &f)) return;
    s->place[0] = h0 * (int32_t)W + w0;
    s->place[1] = h0 * (int32_t)W + w1;
    s->place[2] = h1 * (int32_t)W + w0;
    s->place[3] = h1 * (int32_t)W + w1;
    s->weight[0] = (1.0f - g) * (1.0f - f);
    s->weight[1] = (1.0f - g) * f;
    s->weight[2] = g * (1.0f - f);
    s->weight[3] = g * f;
}

/* `total` plus n samples of a plane. */
static inline float tw_roi_sum(float total, const float *x, const tw_sample *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++, s++)
        if (s->place[0] >= 0)
            total += s->weight[0] * x[s->place[0]] + s->weight[1] * x[s->place[1]] + s->weight[2] * x[s->place[2]] +
                     s->weight[3] * x[s->place[3]];
    return total;
}

/* The greater one, the second where either is NaN: without a branch, unlike a maximum that carries NaN. */
static inline float tw_greater(float a, float b) { return a > b ? a : b; }

/* The greatest of `total` and the weighted neighbours of n samples, NaN where one is; a sample outside is 0. */
static inline float tw_roi_max(float total, const float *x, const tw_sample *s, int64_t n)
{
    int nan = total != total;
    for (int64_t i = 0; i < n; i++, s++) {
        if (s->place[0] < 0) {
            total = tw_greater(total, 0.0f);
            continue;
        }
        const float a = s->weight[0] * x[s->place[0]], b = s->weight[1] * x[s->place[1]];
        const float c = s->weight[2] * x[s->place[2]], d = s->weight[3] * x[s->place[3]];
        nan |= __builtin_isunordered(a, b) | __builtin_isunordered(c, d);
        total = tw_greater(total, tw_greater(tw_greater(a, b), tw_greater(c, d)));
    }
    return nan ? NAN : total;
}

/* The maximum of rows [h0, h1) and columns [w0, w1) of a plane, NaN where one is; 0 of none. */
static inline float tw_patch_max(const float *x, int64_t W, int64_t h0, int64_t h1, int64_t w0, int64_t w1)
{
    float most = -INFINITY;
    int nan = 0;
    if (h0 >= h1 || w0 >= w1) return 0.0f;
    for (int64_t h = h0; h < h1; h++)
        for (int64_t w = w0; w < w1; w++) {
            const float v = x[h * W + w];
            nan |= v != v;
            most = tw_greater(most, v);
        }
    return nan ? NAN : most;
}

#endif
