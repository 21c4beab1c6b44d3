/* Winograd's F(4x4, 3x3) on vectors of tiles (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
   2016; points 0, 1, -1, 2, -2, infinity). */
#ifndef TILEWISE_WINOGRAD_H
#define TILEWISE_WINOGRAD_H

#include "tile.h"

/* One column of six through B^T. */
TW_INLINE void tw_wino_input_1d(tw_vec *o, tw_vec d0, tw_vec d1, tw_vec d2, tw_vec d3, tw_vec d4, tw_vec d5)
{
    const tw_vec a = d4 - 4.0f * d2, b = d3 - 4.0f * d1, c = d4 - d2, e = 2.0f * (d3 - d1);
    o[0] = 4.0f * d0 - 5.0f * d2 + d4;
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + e;
    o[4] = c - e;
    o[5] = 4.0f * d1 - 5.0f * d3 + d5;
}

/* The tiles d[r][s] of TW_VW neighbours, each element `at[r * 6 + s]` floats from x, to B^T d B, `plane` floats apart. */
static inline void tw_wino_input(const float *x, const int64_t *at, float *v, int64_t plane)
{
    tw_vec t[6][6], o[6];
    for (int s = 0; s < 6; s++) {
        tw_wino_input_1d(o, tw_load_vec(x + at[s]), tw_load_vec(x + at[6 + s]), tw_load_vec(x + at[12 + s]),
                         tw_load_vec(x + at[18 + s]), tw_load_vec(x + at[24 + s]), tw_load_vec(x + at[30 + s]));
        for (int r = 0; r < 6; r++) t[r][s] = o[r];
    }
    for (int r = 0; r < 6; r++) {
        tw_wino_input_1d(o, t[r][0], t[r][1], t[r][2], t[r][3], t[r][4], t[r][5]);
        for (int s = 0; s < 6; s++) tw_store_vec(v + (r * 6 + s) * plane, o[s]);
    }
}

/* One column of six through A^T. */
TW_INLINE void tw_wino_output_1d(tw_vec *o, tw_vec m0, tw_vec m1, tw_vec m2, tw_vec m3, tw_vec m4, tw_vec m5)
{
    const tw_vec a = m1 + m2, b = m1 - m2, c = m3 + m4, d = m3 - m4;
    o[0] = m0 + a + c;
    o[1] = b + 2.0f * d;
    o[2] = a + 4.0f * c;
    o[3] = b + 8.0f * d + m5;
}

/* Products of TW_VW neighbouring tiles, `plane` floats apart, to four rows of 4 * TW_VW outputs, tile after tile. */
static inline void tw_wino_output(const float *m, int64_t plane, float bias, float *rows)
{
    tw_vec t[4][6], o[4];
    for (int s = 0; s < 6; s++) {
        const float *p = m + s * plane;
        tw_wino_output_1d(o, tw_load_vec(p), tw_load_vec(p + 6 * plane), tw_load_vec(p + 12 * plane),
                          tw_load_vec(p + 18 * plane), tw_load_vec(p + 24 * plane), tw_load_vec(p + 30 * plane));
        for (int r = 0; r < 4; r++) t[r][s] = o[r];
    }
    for (int r = 0; r < 4; r++) {
        float *row = rows + r * 4 * TW_VW;
        tw_wino_output_1d(o, t[r][0], t[r][1], t[r][2], t[r][3], t[r][4], t[r][5]);
        for (int j = 0; j < TW_VW; j++)
            for (int s = 0; s < 4; s++) row[4 * j + s] = o[s][j] + bias;
    }
}

#endif
