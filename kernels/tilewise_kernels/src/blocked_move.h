/* Channels of channel-blocked images put together anew: lanes of several vectors to one. */
#ifndef TILEWISE_BLOCKED_MOVE_H
#define TILEWISE_BLOCKED_MOVE_H

#include "tile.h"

/* x: the places of a block that lanes are taken from. lanes[l]: the lane that goes to lane l, below 0 for none. */
typedef struct {
    const float *x;
    const int32_t *lanes;
} tw_move_piece;

#define TW_MOVE_PLACES 4 /* places moved at once */

TW_INLINE void tw_move_body(const int n, int64_t at, int64_t pieces, const tw_move_piece *piece, const tw_mask *from,
                            const tw_mask *taken, float *y)
{
    tw_vec v[TW_MOVE_PLACES] = {{0}};
    for (int64_t k = 0; k < pieces; k++) {
        const float *x = piece[k].x + at;
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            v[j] = tw_select(taken[k], __builtin_shuffle(tw_load_vec(x + j * TW_VW), from[k]), v[j]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) tw_store_vec(y + at + j * TW_VW, v[j]);
}

/* y[i][l] = the lane of the one piece that has one for it, 0 where none has; at most TW_VW pieces. */
static void tw_move_lanes(int64_t places, int64_t pieces, const tw_move_piece *piece, float *y)
{
    tw_mask from[TW_VW], taken[TW_VW];
    for (int64_t k = 0; k < pieces; k++)
        for (int l = 0; l < TW_VW; l++) {
            from[k][l] = piece[k].lanes[l] & (TW_VW - 1);
            taken[k][l] = piece[k].lanes[l] < 0 ? 0 : -1;
        }
    int64_t i = 0;
    for (; i + TW_MOVE_PLACES <= places; i += TW_MOVE_PLACES)
        tw_move_body(TW_MOVE_PLACES, i * TW_VW, pieces, piece, from, taken, y);
    for (; i < places; i++) tw_move_body(1, i * TW_VW, pieces, piece, from, taken, y);
}

#endif
