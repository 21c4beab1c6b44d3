/* The register tile on rows as they lie. */
#ifndef TILEWISE_TILE_ROWS_H
#define TILEWISE_TILE_ROWS_H

#include "tile.h"

/* `tw_tile` of rows `lda` apart, each contiguous along k. */
static __attribute__((noinline)) void tw_tile_rows(int mr, int nv, int64_t k_count, const float *a, int64_t lda,
                                                   const float *b, const int64_t *off, float *c, int64_t ldc,
                                                   const float *bias, const float *init, int64_t ldi, float lo, float hi)
{
#define TW_LYING(mr) TW_TILE_CASE(mr, 1, lda)
    switch (2 * mr + nv - 1) {
        TW_LYING(1) TW_LYING(2) TW_LYING(3) TW_LYING(4) TW_LYING(5) TW_LYING(6)
#if TW_MR > 6
        TW_LYING(7) TW_LYING(8) TW_LYING(9) TW_LYING(10) TW_LYING(11) TW_LYING(12) TW_LYING(13) TW_LYING(14)
#endif
    }
#undef TW_LYING
}

#endif
