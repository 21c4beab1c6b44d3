/* Convolution in groups of a few channels, in channel-blocked layout: a vector holds several whole groups.

   Lane m of accumulator j sums what channel m gives to the output j places behind it within its group, cyclically; so
   inputs are neither broadcast nor shuffled, and the accumulators are turned into place once, at the end. */
#ifndef TILEWISE_BLOCKED_GROUP_H
#define TILEWISE_BLOCKED_GROUP_H

#include "blocked.h"

/* Places that a tile of groups of `width` channels keeps in registers. */
#define TW_GROUP_TILE(width) ((TW_MR > 6 ? 24 : 12) / (width))
#define TW_GROUP_PLACES TW_GROUP_TILE(2)

/* The lanes of a vector, those of each group of `width` moved up by h, cyclically. */
#define TW_TURNED(l, width, h) (l) / (width) * (width) + ((l) + (h)) % (width)
#define TW_TURNED_4(l, width, h) \
    TW_TURNED(l, width, h), TW_TURNED((l) + 1, width, h), TW_TURNED((l) + 2, width, h), TW_TURNED((l) + 3, width, h)
#if TW_VW == 16
#define TW_TURN(width, h)                                                                             \
    (tw_mask){TW_TURNED_4(0, width, h), TW_TURNED_4(4, width, h), TW_TURNED_4(8, width, h), TW_TURNED_4(12, width, h)}
#elif TW_VW == 8
#define TW_TURN(width, h) (tw_mask){TW_TURNED_4(0, width, h), TW_TURNED_4(4, width, h)}
#else
#define TW_TURN(width, h) (tw_mask){TW_TURNED_4(0, width, h)}
#endif

/* Rows of x that an output row reads; step and tap: floats from output to output and from tap to tap. */
typedef struct {
    const float *const *rows;
    int64_t kh, kw, step, tap;
} tw_group_input;

/* w: [kh][kw][width][TW_VW]. */
TW_INLINE void tw_group_body(const int n, const int width, const tw_group_input *in, int64_t at, const float *w,
                             const float *bias, const float *residual, float *y)
{
    tw_vec acc[TW_VW / 2][TW_GROUP_PLACES];
#pragma GCC unroll 8
    for (int j = 0; j < width; j++)
#pragma GCC unroll 12
        for (int i = 0; i < n; i++) acc[j][i] = j || !bias ? (tw_vec){0} : tw_load_vec(bias);
    for (int64_t r = 0; r < in->kh; r++) {
        const float *p = in->rows[r] + at;
        for (int64_t s = 0; s < in->kw; s++) {
#pragma GCC unroll 8
            for (int j = 0; j < width; j++) {
                const tw_vec f = tw_load_vec(w + j * TW_VW);
#pragma GCC unroll 12
                for (int i = 0; i < n; i++) acc[j][i] += f * tw_load_vec(p + i * in->step);
            }
            p += in->tap;
            w += width * TW_VW;
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 3
        for (int h = width / 2; h; h /= 2)
#pragma GCC unroll 4
            for (int j = 0; j < h; j++) acc[j][i] += __builtin_shuffle(acc[j + h][i], TW_TURN(width, h));
        tw_vec sum = acc[0][i];
        if (residual) sum += tw_load_vec(residual + i * TW_VW);
        tw_store_vec(y + i * TW_VW, sum);
    }
}

#define TW_GROUP_CASE(n, width)                                                                            \
    case n:                                                                                                \
        if (n <= TW_GROUP_TILE(width))                                                                     \
            tw_group_body(n <= TW_GROUP_TILE(width) ? n : 1, width, in, i * in->step, w, bias,             \
                          residual ? residual + i * TW_VW : 0, y + i * TW_VW);                             \
        break;

/* `count` places of a row, cut evenly. */
#define TW_GROUP_ROW(width)                                                                                \
    static __attribute__((noinline)) void tw_group_row_##width(                                            \
        int64_t count, const tw_group_input *in, const float *w, const float *bias, const float *residual, \
        float *y)                                                                                          \
    {                                                                                                      \
        const int64_t runs = (count + TW_GROUP_TILE(width) - 1) / TW_GROUP_TILE(width);                    \
        int64_t i = 0;                                                                                     \
        for (int64_t run = 1; run <= runs; run++) {                                                        \
            const int64_t stop = run * count / runs;                                                       \
            switch (stop - i) {                                                                            \
                TW_GROUP_CASE(1, width) TW_GROUP_CASE(2, width) TW_GROUP_CASE(3, width)                    \
                TW_GROUP_CASE(4, width) TW_GROUP_CASE(5, width) TW_GROUP_CASE(6, width)                    \
                TW_GROUP_CASE(7, width) TW_GROUP_CASE(8, width) TW_GROUP_CASE(9, width)                    \
                TW_GROUP_CASE(10, width) TW_GROUP_CASE(11, width) TW_GROUP_CASE(12, width)                 \
            }                                                                                              \
            i = stop;                                                                                      \
        }                                                                                                  \
    }

TW_GROUP_ROW(2)
#if TW_VW > 4
TW_GROUP_ROW(4)
#endif
#if TW_VW > 8
TW_GROUP_ROW(8)
#endif

/* A row of places of one block: y = bias + residual + taps; groups of `width` channels, a divisor of TW_VW. */
static inline void tw_group_row(int64_t width, int64_t count, const float *const *rows, int64_t kh, int64_t kw,
                                int64_t step, int64_t tap, const float *w, const float *bias, const float *residual,
                                float *y)
{
    const tw_group_input in = {rows, kh, kw, step, tap};
    switch (width) {
        case 2: tw_group_row_2(count, &in, w, bias, residual, y); break;
#if TW_VW > 4
        case 4: tw_group_row_4(count, &in, w, bias, residual, y); break;
#endif
#if TW_VW > 8
        case 8: tw_group_row_8(count, &in, w, bias, residual, y); break;
#endif
    }
}

#endif
