/* Small matrices of float32 turned over in vector registers. */
#ifndef TILEWISE_TRANSPOSE_H
#define TILEWISE_TRANSPOSE_H

#include "tile.h"

#if TW_VW == 16
#define TW_ZIP_LO (tw_mask){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}
#define TW_ZIP_HI (tw_mask){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31}
#define TW_ZIPS 4
#elif TW_VW == 8
#define TW_ZIP_LO (tw_mask){0, 8, 1, 9, 2, 10, 3, 11}
#define TW_ZIP_HI (tw_mask){4, 12, 5, 13, 6, 14, 7, 15}
#define TW_ZIPS 3
#else
#define TW_ZIP_LO (tw_mask){0, 4, 1, 5}
#define TW_ZIP_HI (tw_mask){2, 6, 3, 7}
#define TW_ZIPS 2
#endif

/* The square v turned over: each round interleaves its upper half with its lower half. */
TW_INLINE void tw_turn(tw_vec *v)
{
    tw_vec t[TW_VW];
#pragma GCC unroll 4
    for (int round = 0; round < TW_ZIPS; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < TW_VW / 2; i++) {
            t[2 * i] = __builtin_shuffle(v[i], v[i + TW_VW / 2], TW_ZIP_LO);
            t[2 * i + 1] = __builtin_shuffle(v[i], v[i + TW_VW / 2], TW_ZIP_HI);
        }
#pragma GCC unroll 16
        for (int i = 0; i < TW_VW; i++) v[i] = t[i];
    }
}

#if defined(__AVX512F__)
/* The first n floats at p, then zeros. */
TW_INLINE tw_vec tw_load_some(const float *p, int64_t n) { return (tw_vec)_mm512_maskz_loadu_ps((1u << n) - 1, p); }

TW_INLINE void tw_store_some(float *p, tw_vec v, int64_t n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
#elif defined(__AVX__)
TW_INLINE __m256i tw_first(int64_t n)
{
    return (__m256i)((tw_mask){0, 1, 2, 3, 4, 5, 6, 7} < (tw_mask){0} + (int32_t)n);
}

TW_INLINE tw_vec tw_load_some(const float *p, int64_t n) { return (tw_vec)_mm256_maskload_ps(p, tw_first(n)); }

TW_INLINE void tw_store_some(float *p, tw_vec v, int64_t n) { _mm256_maskstore_ps(p, tw_first(n), (__m256)v); }
#else
TW_INLINE tw_vec tw_load_some(const float *p, int64_t n)
{
    float part[TW_VW] = {0};
    for (int64_t i = 0; i < n; i++) part[i] = p[i];
    return tw_load_vec(part);
}

TW_INLINE void tw_store_some(float *p, tw_vec v, int64_t n)
{
    float part[TW_VW];
    tw_store_vec(part, v);
    for (int64_t i = 0; i < n; i++) p[i] = part[i];
}
#endif

/* dst[c * ldd + r] = scale * src[r * lds + c] for up to TW_VW rows and columns. With `loose`, a vector may be written for
   each column, zeros or what comes after being behind the rows. */
TW_INLINE void tw_turn_block(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows, int64_t columns,
                             float scale, int loose)
{
    tw_vec v[TW_VW];
    const tw_vec factor = tw_splat(scale);
#pragma GCC unroll 16
    for (int i = 0; i < TW_VW; i++) {
        if (i < rows) __builtin_prefetch(src + i * lds + 8 * TW_LINE);
        if (i >= rows) v[i] = (tw_vec){0};
        else if (columns == TW_VW) v[i] = factor * tw_load_vec(src + i * lds);
        else v[i] = factor * tw_load_some(src + i * lds, columns);
    }
    tw_turn(v);
#pragma GCC unroll 16
    for (int i = 0; i < TW_VW; i++) {
        if (i >= columns) break;
        if (loose || rows == TW_VW) tw_store_vec(dst + i * ldd, v[i]);
        else tw_store_some(dst + i * ldd, v[i], rows);
    }
}

/* dst[c * ldd + r] = scale * src[r * lds + c] for any number of rows and columns. Up to `slack` floats behind dst may be
   written. */
static inline void tw_turn_over(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows, int64_t columns,
                                float scale, int64_t slack)
{
    for (int64_t c = 0; c < columns; c += TW_VW) {
        const int64_t width = columns - c < TW_VW ? columns - c : TW_VW;
        /* One row of blocks may write past its rows, as what is written there comes later. */
        const int loose = rows <= TW_VW && rows == ldd && (columns - c - width + 1) * ldd + slack >= TW_VW;
        for (int64_t r = 0; r < rows; r += TW_VW) {
            const int64_t height = rows - r < TW_VW ? rows - r : TW_VW;
            float *to = dst + c * ldd + r;
            const float *from = src + r * lds + c;
            if (width == TW_VW) tw_turn_block(to, ldd, from, lds, height, TW_VW, scale, loose);
            else tw_turn_block(to, ldd, from, lds, height, width, scale, loose);
        }
    }
}

/* dst[2 * j] = a[j], dst[2 * j + 1] = b[j] for j in [0, n), n a multiple of TW_VW. */
static inline void tw_zip_row(float *dst, const float *a, const float *b, int64_t n)
{
    for (int64_t j = 0; j < n; j += TW_VW) {
        const tw_vec even = tw_load_vec(a + j), odd = tw_load_vec(b + j);
        tw_store_vec(dst + 2 * j, __builtin_shuffle(even, odd, TW_ZIP_LO));
        tw_store_vec(dst + 2 * j + TW_VW, __builtin_shuffle(even, odd, TW_ZIP_HI));
    }
}

/* Asks for the cache lines of n floats that will be written. */
static inline void tw_expect(const float *p, int64_t n)
{
    for (int64_t j = 0; j < n; j += TW_LINE) __builtin_prefetch(p + j, 1);
    __builtin_prefetch(p + n - 1, 1);
}

/* dst[c * ldd + r] = scale * src[c * lds + r] for r in [0, rows): columns that lie as they are wanted. */
static inline void tw_gather_over(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows, int64_t columns,
                                  float scale)
{
    const tw_vec factor = tw_splat(scale);
    for (int64_t c = 0; c < columns; c++, dst += ldd, src += lds) {
        /* What is touched behind the rows is there, and written over later. */
        const int loose = rows <= TW_VW && rows == ldd && (columns - c) * ldd >= TW_VW &&
                          (columns - 1 - c) * lds + rows >= TW_VW;
        int64_t r = 0;
        for (; r + TW_VW <= rows || (loose && r == 0); r += TW_VW)
            tw_store_vec(dst + r, factor * tw_load_vec(src + r));
        for (; r < rows; r++) dst[r] = scale * src[r];
    }
}

#endif
