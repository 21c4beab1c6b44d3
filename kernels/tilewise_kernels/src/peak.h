/* Multiply-adds that wait for nothing but themselves: what a core's arithmetic reaches at best. */
#ifndef TILEWISE_PEAK_H
#define TILEWISE_PEAK_H

#include "tile.h"

/* More chains than a core has multiply-adds in flight, fewer than it has vector registers. */
#define TW_CHAINS 12

static float tw_fma_chains(int64_t turns, float start, float factor, float term)
{
    const tw_vec f = tw_splat(factor), t = tw_splat(term);
    tw_vec acc[TW_CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < TW_CHAINS; i++)
        acc[i] = tw_splat(start + (float)i);
    for (int64_t k = 0; k < turns; k++) {
#pragma GCC unroll 12
        for (int i = 0; i < TW_CHAINS; i++)
            acc[i] = acc[i] * f + t;
    }
    tw_vec sum = {0};
#pragma GCC unroll 12
    for (int i = 0; i < TW_CHAINS; i++)
        sum += acc[i];
    float total = 0.0f;
    for (int j = 0; j < TW_VW; j++)
        total += sum[j];
    return total;
}

#endif
