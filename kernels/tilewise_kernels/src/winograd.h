/* Winograd's F(4x4, 3x3) in channel-blocked layout (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
   2016; points 0, A, -A, B, -B, infinity). A vector holds the channels of one place. */
#ifndef TILEWISE_WINOGRAD_H
#define TILEWISE_WINOGRAD_H

#include "tile.h"

#define TW_WINO_A 0.625f
#define TW_WINO_B 1.5f

/* One column of six through B^T. */
TW_INLINE void tw_wino_input_1d(tw_vec *o, tw_vec d0, tw_vec d1, tw_vec d2, tw_vec d3, tw_vec d4, tw_vec d5)
{
    const float a = TW_WINO_A, b = TW_WINO_B, aa = a * a, bb = b * b;
    const tw_vec even_a = d4 - bb * d2, odd_a = d3 - bb * d1, even_b = d4 - aa * d2, odd_b = d3 - aa * d1;
    o[0] = aa * bb * d0 - (aa + bb) * d2 + d4;
    o[1] = even_a + a * odd_a;
    o[2] = even_a - a * odd_a;
    o[3] = even_b + b * odd_b;
    o[4] = even_b - b * odd_b;
    o[5] = aa * bb * d1 - (aa + bb) * d3 + d5;
}

/* The 6x6 places from x on, `row` and `step` floats apart down and across, to B^T d B, `plane` floats apart in v; rows [r0, r1) and columns
   [s0, s1) lie inside the image, the others count as zeros. */
TW_INLINE void tw_wino_input(const float *x, int64_t row, int64_t step, int r0, int r1, int s0, int s1, float *v, int64_t plane)
{
    tw_vec t[6][6], d[6], o[6];
#pragma GCC unroll 6
    for (int s = 0; s < 6; s++) {
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++) {
            d[r] = (tw_vec){0};
            if (r >= r0 && r < r1 && s >= s0 && s < s1) d[r] = tw_load_vec(x + r * row + s * step);
        }
        tw_wino_input_1d(o, d[0], d[1], d[2], d[3], d[4], d[5]);
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++) t[r][s] = o[r];
    }
#pragma GCC unroll 6
    for (int r = 0; r < 6; r++) {
        tw_wino_input_1d(o, t[r][0], t[r][1], t[r][2], t[r][3], t[r][4], t[r][5]);
#pragma GCC unroll 6
        for (int s = 0; s < 6; s++) tw_store_vec(v + (r * 6 + s) * plane, o[s]);
    }
}

static __attribute__((noinline)) void tw_wino_input_inside(const float *x, int64_t row, int64_t step, float *v,
                                                           int64_t plane)
{
    tw_wino_input(x, row, step, 0, 6, 0, 6, v, plane);
}

static __attribute__((noinline)) void tw_wino_input_border(const float *x, int64_t row, int64_t step, int r0, int r1,
                                                           int s0, int s1, float *v, int64_t plane)
{
    tw_wino_input(x, row, step, r0, r1, s0, s1, v, plane);
}

/* One column of six through A^T. */
TW_INLINE void tw_wino_output_1d(tw_vec *o, tw_vec m0, tw_vec m1, tw_vec m2, tw_vec m3, tw_vec m4, tw_vec m5)
{
    const float a = TW_WINO_A, b = TW_WINO_B;
    const tw_vec even_a = m1 + m2, odd_a = m1 - m2, even_b = m3 + m4, odd_b = m3 - m4;
    o[0] = m0 + even_a + even_b;
    o[1] = a * odd_a + b * odd_b;
    o[2] = a * a * even_a + b * b * even_b;
    o[3] = a * a * a * odd_a + b * b * b * odd_b + m5;
}

/* The products of a tile, `plane` floats apart, to the first rows x columns of its 4x4 outputs in y, `row` and
   `step` floats apart, with bias, residual (like y) and clipping; bias and residual may be NULL. */
static inline void tw_wino_output(const float *m, int64_t plane, const float *bias, const float *residual, float lo,
                                  float hi, int rows, int columns, float *y, int64_t row, int64_t step)
{
    tw_vec t[4][6], o[4];
    const tw_vec start = bias ? tw_load_vec(bias) : (tw_vec){0}, low = tw_splat(lo), high = tw_splat(hi);
#pragma GCC unroll 6
    for (int s = 0; s < 6; s++) {
        const float *p = m + s * plane;
        tw_wino_output_1d(o, tw_load_vec(p), tw_load_vec(p + 6 * plane), tw_load_vec(p + 12 * plane),
                          tw_load_vec(p + 18 * plane), tw_load_vec(p + 24 * plane), tw_load_vec(p + 30 * plane));
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) t[r][s] = o[r];
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        if (r >= rows) break;
        tw_wino_output_1d(o, t[r][0], t[r][1], t[r][2], t[r][3], t[r][4], t[r][5]);
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            if (s >= columns) break;
            o[s] += start;
            if (residual) o[s] += tw_load_vec(residual + r * row + s * step);
            tw_store_vec(y + r * row + s * step, tw_clip_vec(o[s], low, high));
        }
    }
}

#endif
