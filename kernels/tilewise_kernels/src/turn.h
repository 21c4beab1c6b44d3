/* From plain to channel-blocked layout and back: squares of TW_VW x TW_VW floats transposed in registers. */
#ifndef TILEWISE_TURN_H
#define TILEWISE_TURN_H

#include "tile.h"

/* `rows` rows of TW_VW floats, `ldx` apart, to `columns` rows, `ldy` apart; where there are fewer rows than TW_VW, the
   floats behind them are unspecified. */
TW_INLINE void tw_transpose_part(const float *x, int64_t ldx, int64_t rows, float *y, int64_t ldy, int64_t columns)
{
    tw_vec v[TW_VW], t[TW_VW];
#pragma GCC unroll 16
    for (int i = 0; i < TW_VW; i++) v[i] = tw_load_vec(x + (i < rows ? i : rows - 1) * ldx);
    /* Each round interleaves a row with the one half the square below. */
#pragma GCC unroll 4
    for (int round = 1; round < TW_VW; round *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < TW_VW / 2; i++) {
            t[2 * i] = __builtin_shuffle(v[i], v[i + TW_VW / 2], TW_LOW_HALVES);
            t[2 * i + 1] = __builtin_shuffle(v[i], v[i + TW_VW / 2], TW_HIGH_HALVES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < TW_VW; i++) v[i] = t[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < TW_VW; i++)
        if (i < columns) tw_store_vec(y + i * ldy, v[i]);
}

/* A square of TW_VW x TW_VW floats transposed: rows `ldx` apart to rows `ldy` apart. */
TW_INLINE void tw_transpose_square(const float *x, int64_t ldx, float *y, int64_t ldy)
{
    tw_transpose_part(x, ldx, TW_VW, y, ldy, TW_VW);
}

/* y [count][TW_VW] from `channels` planes, `plane` floats apart; the lanes behind the last channel are unspecified. */
static __attribute__((noinline)) void tw_turn_in(const float *x, int64_t plane, int64_t channels, int64_t count, float *y)
{
    if (count < TW_VW) {
        for (int64_t c = 0; c < TW_VW; c++)
            for (int64_t i = 0; i < count; i++) y[i * TW_VW + c] = c < channels ? x[c * plane + i] : 0;
        return;
    }
    for (int64_t q = 0; q < count; q += TW_VW) {
        const int64_t at = q + TW_VW > count ? count - TW_VW : q;
        if (channels == TW_VW) tw_transpose_square(x + at, plane, y + at * TW_VW, TW_VW);
        else tw_transpose_part(x + at, plane, channels, y + at * TW_VW, TW_VW, TW_VW);
    }
}

/* `channels` planes, `plane` floats apart, from x [count][TW_VW]. */
static __attribute__((noinline)) void tw_turn_out(const float *x, int64_t count, int64_t channels, float *y, int64_t plane)
{
    if (count < TW_VW) {
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < count; i++) y[c * plane + i] = x[i * TW_VW + c];
        return;
    }
    for (int64_t q = 0; q < count; q += TW_VW) {
        const int64_t at = q + TW_VW > count ? count - TW_VW : q;
        if (channels == TW_VW) tw_transpose_square(x + at * TW_VW, TW_VW, y + at, plane);
        else tw_transpose_part(x + at * TW_VW, TW_VW, TW_VW, y + at, plane, channels);
    }
}

#endif
