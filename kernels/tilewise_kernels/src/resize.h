/* Resizing along one or two axes by tables of indices and weights. Tables are (taps, out), tap by tap. */
#ifndef TILEWISE_RESIZE_H
#define TILEWISE_RESIZE_H

#include "transpose.h"

#include <stdint.h>
#include <string.h>

enum { TW_RESIZE_ROW = 8192 }; /* floats of an input row that are blended before they are sampled */

typedef struct { uint64_t half[2]; } tw_wide;

/* y[j] = x[index[j]]; with `factor`, index[j] = j / factor. */
#define TW_NEAREST_ROW(name, type)                                                                     \
    static inline void name(void *yp, const void *xp, const int32_t *index, int64_t n, int64_t factor) \
    {                                                                                                  \
        type *restrict y = (type *)yp;                                                                 \
        const type *restrict x = (const type *)xp;                                                     \
        if (factor == 2)                                                                               \
            for (int64_t j = 0; j < n / 2; j++) y[2 * j] = y[2 * j + 1] = x[j];                        \
        else if (factor > 2)                                                                           \
            for (int64_t j = 0; j < n; j += factor)                                                    \
                for (int64_t k = 0; k < factor; k++) y[j + k] = x[j / factor];                         \
        else                                                                                           \
            for (int64_t j = 0; j < n; j++) y[j] = x[index[j]];                                        \
    }

TW_NEAREST_ROW(tw_nearest_1, uint8_t)
TW_NEAREST_ROW(tw_nearest_2, uint16_t)
TW_NEAREST_ROW(tw_nearest_4, uint32_t)
TW_NEAREST_ROW(tw_nearest_8, uint64_t)
TW_NEAREST_ROW(tw_nearest_16, tw_wide)

static inline void tw_nearest_row(char *y, const char *x, const int32_t *index, int64_t n, int64_t factor,
                                  int64_t inner, int64_t size)
{
    if (inner > 1) {
        for (int64_t j = 0; j < n; j++) memcpy(y + j * inner * size, x + index[j] * inner * size, inner * size);
        return;
    }
    switch (size) {
    case 1: tw_nearest_1(y, x, index, n, factor); break;
    case 2: tw_nearest_2(y, x, index, n, factor); break;
    case 4: {
        const int64_t whole = factor == 2 ? n / 2 / TW_VW * TW_VW : 0;
        tw_zip_row((float *)y, (const float *)x, (const float *)x, whole);
        tw_nearest_4(y + 8 * whole, x + 4 * whole, index, n - 2 * whole, factor);
        break;
    }
    case 8: tw_nearest_8(y, x, index, n, factor); break;
    default: tw_nearest_16(y, x, index, n, factor);
    }
}

/* y = w * x, or y += w * x */
static inline void tw_blend(float *restrict y, const float *restrict x, float w, int64_t n, int first)
{
    if (first)
        for (int64_t j = 0; j < n; j++) y[j] = w * x[j];
    else
        for (int64_t j = 0; j < n; j++) y[j] += w * x[j];
}

/* y[j] = sum over taps of weight[tap][j] * x[index[tap][j]] */
static inline void tw_sample(float *restrict y, const float *restrict x, const int32_t *restrict index,
                             const float *restrict weight, int64_t taps, int64_t n)
{
    if (taps == 2) {
        const int32_t *restrict other = index + n;
        const float *restrict w = weight + n;
        for (int64_t j = 0; j < n; j++) y[j] = weight[j] * x[index[j]] + w[j] * x[other[j]];
        return;
    }
    for (int64_t j = 0; j < n; j++) y[j] = weight[j] * x[index[j]];
    for (int64_t t = 1; t < taps; t++) {
        const int32_t *restrict other = index + t * n;
        const float *restrict w = weight + t * n;
        for (int64_t j = 0; j < n; j++) y[j] += w[j] * x[other[j]];
    }
}

#endif
