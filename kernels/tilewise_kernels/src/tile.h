/* The register tile of every matrix product and convolution: out[i][j] += sum_k a[k][i] * b[off[k] + j].

   A tile has up to TW_MR rows and one or two vectors of TW_VW columns; all of it stays in registers while k runs. Rows of
   `b` lie anywhere (`off` tells where), so a convolution reads its image in place instead of an im2col buffer
   (Dukhan, "The Indirect Convolution Algorithm", 2019). */
#ifndef TILEWISE_TILE_H
#define TILEWISE_TILE_H

#include <stdint.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define TW_VW 16
#define TW_MR 14
#elif defined(__AVX__)
#define TW_VW 8
#define TW_MR 6
#else
#define TW_VW 4
#define TW_MR 6
#endif
#define TW_NR (2 * TW_VW)
#define TW_LINE 16 /* floats in a cache line */

typedef float tw_vec __attribute__((vector_size(TW_VW * 4), aligned(4), may_alias));
typedef int32_t tw_mask __attribute__((vector_size(TW_VW * 4)));
#ifndef TW_INLINE
#define TW_INLINE static inline __attribute__((always_inline))
#endif

TW_INLINE tw_vec tw_load_vec(const float *p) { return *(const tw_vec *)p; }
TW_INLINE void tw_store_vec(float *p, tw_vec v) { *(tw_vec *)p = v; }
/* x - 0 is x for every x, so this is a plain broadcast. */
TW_INLINE tw_vec tw_splat(float x) { return x - (tw_vec){0}; }

TW_INLINE tw_vec tw_select(tw_mask mask, tw_vec yes, tw_vec no)
{
    return (tw_vec)((mask & (tw_mask)yes) | (~mask & (tw_mask)no));
}

/* The greater and the lesser of two, b where either is NaN: one instruction, which compilers do not find by themselves. */
#if defined(__AVX512F__)
TW_INLINE tw_vec tw_max_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm512_max_ps((__m512)a, (__m512)b); }
TW_INLINE tw_vec tw_min_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX__)
TW_INLINE tw_vec tw_max_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm256_max_ps((__m256)a, (__m256)b); }
TW_INLINE tw_vec tw_min_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__SSE__)
TW_INLINE tw_vec tw_max_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm_max_ps((__m128)a, (__m128)b); }
TW_INLINE tw_vec tw_min_vec(tw_vec a, tw_vec b) { return (tw_vec)_mm_min_ps((__m128)a, (__m128)b); }
#else
TW_INLINE tw_vec tw_max_vec(tw_vec a, tw_vec b) { return tw_select(a > b, a, b); }
TW_INLINE tw_vec tw_min_vec(tw_vec a, tw_vec b) { return tw_select(a < b, a, b); }
#endif

/* The greater of two, NaN where either is one. */
TW_INLINE tw_vec tw_nanmax_vec(tw_vec a, tw_vec b)
{
#if defined(__AVX512F__)
    return (tw_vec)_mm512_mask_mov_ps((__m512)tw_max_vec(b, a), _mm512_cmp_ps_mask((__m512)b, (__m512)b, 3), (__m512)b);
#else
    return tw_select(b != b, b, tw_max_vec(b, a));
#endif
}

/* v moved into [lo, hi]; NaN stays. */
TW_INLINE tw_vec tw_clip_vec(tw_vec v, tw_vec lo, tw_vec hi) { return tw_min_vec(hi, tw_max_vec(lo, v)); }

/* Sums start from `init` (rows ldi apart) and `bias` (one for each row), either may be NULL; results are clipped to
   lo..hi and stored to `c` (rows ldc apart). a[k][i] lies at a + k * ka + i * ia. */
TW_INLINE void tw_tile_body(const int mr, const int nv, int64_t k_count, const float *a, const int64_t ka,
                            const int64_t ia, const float *b, const int64_t *off, float *c, int64_t ldc,
                            const float *bias, const float *init, int64_t ldi, float lo, float hi)
{
    tw_vec acc[TW_MR][2];
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++) {
        float start = bias ? bias[i] : 0.0f;
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            acc[i][j] = tw_splat(start);
            if (init) acc[i][j] += tw_load_vec(init + i * ldi + j * TW_VW);
        }
    }
    for (int64_t k = 0; k < k_count; k++) {
        const float *row = b + off[k];
        tw_vec bv[2];
        /* Rows lie too far apart for the hardware to foresee the next panel. */
        for (int j = 0; j < nv * TW_VW; j += TW_LINE)
            __builtin_prefetch(row + nv * TW_VW + j);
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++)
            bv[j] = tw_load_vec(row + j * TW_VW);
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++)
                acc[i][j] += a[i * ia] * bv[j];
        }
        a += ka;
    }
    const tw_vec low = tw_splat(lo), high = tw_splat(hi);
#pragma GCC unroll 16
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++)
            tw_store_vec(c + i * ldc + j * TW_VW, tw_clip_vec(acc[i][j], low, high));
    }
}

#define TW_TILE_CASE(mr, ka, ia)                                                                                  \
    case 2 * (mr): tw_tile_body(mr, 1, k_count, a, ka, ia, b, off, c, ldc, bias, init, ldi, lo, hi); break;      \
    case 2 * (mr) + 1: tw_tile_body(mr, 2, k_count, a, ka, ia, b, off, c, ldc, bias, init, ldi, lo, hi); break;

/* `mr` rows (1 to TW_MR) by `nv` vectors (1 or 2) of a packed tile, a[k][mr]. */
static __attribute__((noinline)) void tw_tile(int mr, int nv, int64_t k_count, const float *a, const float *b,
                                              const int64_t *off, float *c, int64_t ldc, const float *bias,
                                              const float *init, int64_t ldi, float lo, float hi)
{
#define TW_PACKED(mr) TW_TILE_CASE(mr, mr, 1)
    switch (2 * mr + nv - 1) {
        TW_PACKED(1) TW_PACKED(2) TW_PACKED(3) TW_PACKED(4) TW_PACKED(5) TW_PACKED(6)
#if TW_MR > 6
        TW_PACKED(7) TW_PACKED(8) TW_PACKED(9) TW_PACKED(10) TW_PACKED(11) TW_PACKED(12) TW_PACKED(13) TW_PACKED(14)
#endif
    }
#undef TW_PACKED
}

/* out[q] = bias + sum_t w[t] * x[off[t] + q] for q in [0, n), n a multiple of TW_VW; reads x as far as needed. */
static inline void tw_taps(int64_t taps, const float *w, const float *x, const int64_t *off, float *out, int64_t n,
                           float bias)
{
    int64_t q = 0;
    for (; q + 4 * TW_VW <= n; q += 4 * TW_VW) {
        tw_vec s0 = tw_splat(bias), s1 = s0, s2 = s0, s3 = s0;
        for (int64_t t = 0; t < taps; t++) {
            const float *p = x + off[t] + q;
            const float f = w[t];
            s0 += f * tw_load_vec(p);
            s1 += f * tw_load_vec(p + TW_VW);
            s2 += f * tw_load_vec(p + 2 * TW_VW);
            s3 += f * tw_load_vec(p + 3 * TW_VW);
        }
        tw_store_vec(out + q, s0);
        tw_store_vec(out + q + TW_VW, s1);
        tw_store_vec(out + q + 2 * TW_VW, s2);
        tw_store_vec(out + q + 3 * TW_VW, s3);
    }
    for (; q < n; q += TW_VW) {
        tw_vec s = tw_splat(bias);
        for (int64_t t = 0; t < taps; t++)
            s += w[t] * tw_load_vec(x + off[t] + q);
        tw_store_vec(out + q, s);
    }
}

/* Shuffles of two vectors: every second lane; the lower and the upper halves, lane by lane in turn. */
#if TW_VW == 16
#define TW_EVEN (tw_mask){0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}
#define TW_LOW_HALVES (tw_mask){0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}
#define TW_HIGH_HALVES (tw_mask){8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31}
#elif TW_VW == 8
#define TW_EVEN (tw_mask){0, 2, 4, 6, 8, 10, 12, 14}
#define TW_LOW_HALVES (tw_mask){0, 8, 1, 9, 2, 10, 3, 11}
#define TW_HIGH_HALVES (tw_mask){4, 12, 5, 13, 6, 14, 7, 15}
#else
#define TW_EVEN (tw_mask){0, 2, 4, 6}
#define TW_LOW_HALVES (tw_mask){0, 4, 1, 5}
#define TW_HIGH_HALVES (tw_mask){2, 6, 3, 7}
#endif

/* dst[j] = src[j * stride] for j in [0, n). Calls of memcpy cost more than a short row. With `loose`, both sides may be
   touched up to a vector beyond the end. */
static inline void tw_copy_row(float *dst, const float *src, int64_t n, int64_t stride, int loose)
{
    int64_t j = 0;
    if (stride == 1) {
        for (; j + TW_VW <= n; j += TW_VW) tw_store_vec(dst + j, tw_load_vec(src + j));
        if (j < n && n >= TW_VW) {
            tw_store_vec(dst + n - TW_VW, tw_load_vec(src + n - TW_VW));
            return;
        }
        if (j < n && loose) {
            tw_store_vec(dst + j, tw_load_vec(src + j));
            return;
        }
    } else if (stride == 2) {
        for (; j + TW_VW < n; j += TW_VW)
            tw_store_vec(dst + j, __builtin_shuffle(tw_load_vec(src + 2 * j), tw_load_vec(src + 2 * j + TW_VW), TW_EVEN));
    }
    else if (stride == 4) {
        for (; j + TW_VW < n; j += TW_VW) {
            const float *p = src + 4 * j;
            tw_vec lo = __builtin_shuffle(tw_load_vec(p), tw_load_vec(p + TW_VW), TW_EVEN);
            tw_vec hi = __builtin_shuffle(tw_load_vec(p + 2 * TW_VW), tw_load_vec(p + 3 * TW_VW), TW_EVEN);
            tw_store_vec(dst + j, __builtin_shuffle(lo, hi, TW_EVEN));
        }
    }
    for (; j < n; j++) dst[j] = src[j * stride];
}

/* Zeros in [0, n), with `loose` up to a vector beyond. */
static inline void tw_zero_row(float *dst, int64_t n, int loose)
{
    int64_t j = 0;
    for (; j + TW_VW <= n; j += TW_VW) tw_store_vec(dst + j, (tw_vec){0});
    if (j < n && loose) {
        tw_store_vec(dst + j, (tw_vec){0});
        return;
    }
    for (; j < n; j++) dst[j] = 0.0f;
}

/* The sum of a vector's lanes, pair by pair. */
TW_INLINE float tw_sum_vec(tw_vec v)
{
    float t[TW_VW];
    tw_store_vec(t, v);
#pragma GCC unroll 4
    for (int half = TW_VW / 2; half > 0; half /= 2)
#pragma GCC unroll 8
        for (int j = 0; j < half; j++) t[j] += t[j + half];
    return t[0];
}

/* Half the lanes of a and b in turn, each the sum of two. */
TW_INLINE tw_vec tw_fold_pair(tw_vec a, tw_vec b)
{
    return __builtin_shuffle(a, b, TW_LOW_HALVES) + __builtin_shuffle(a, b, TW_HIGH_HALVES);
}

/* The sums of the lanes of four vectors. */
TW_INLINE void tw_sum_four(const tw_vec *v, float *out)
{
    float t[TW_VW];
    tw_store_vec(t, tw_fold_pair(tw_fold_pair(v[0], v[2]), tw_fold_pair(v[1], v[3])));
    for (int i = 0; i < 4; i++) {
        out[i] = t[i];
        for (int j = 4; j < TW_VW; j += 4) out[i] += t[i + j];
    }
}

/* out[m * 4 + r] = the dot product of row r of four of w with x m of `count`, 1 to 4. */
TW_INLINE void tw_dots_body(const int count, const float *w, int64_t ld, const float *x, int64_t n, float *out)
{
    tw_vec s[4][4];
    for (int m = 0; m < 4; m++)
        for (int r = 0; r < 4; r++) s[m][r] = (tw_vec){0};
    int64_t k = 0;
    for (; k + TW_VW <= n; k += TW_VW) {
        tw_vec v[4];
#pragma GCC unroll 4
        for (int m = 0; m < count; m++) v[m] = tw_load_vec(x + m * n + k);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const tw_vec row = tw_load_vec(w + r * ld + k);
            __builtin_prefetch(w + (r + 4) * ld + k); /* rows are too short for the hardware to foresee the next */
#pragma GCC unroll 4
            for (int m = 0; m < count; m++) s[m][r] += row * v[m];
        }
    }
#pragma GCC unroll 4
    for (int m = 0; m < count; m++) {
        tw_sum_four(s[m], out + m * 4);
        for (int r = 0; r < 4; r++)
            for (int64_t i = k; i < n; i++) out[m * 4 + r] += w[r * ld + i] * x[m * n + i];
    }
}

/* The dot product of x with each of four rows of w. */
TW_INLINE void tw_dot4(const float *w, int64_t ld, const float *x, int64_t n, float *out)
{
    tw_vec s[4][2];
    for (int r = 0; r < 4; r++) s[r][0] = s[r][1] = (tw_vec){0};
    int64_t k = 0;
    for (; k + 2 * TW_VW <= n; k += 2 * TW_VW) {
        tw_vec x0 = tw_load_vec(x + k), x1 = tw_load_vec(x + k + TW_VW);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            s[r][0] += tw_load_vec(w + r * ld + k) * x0;
            s[r][1] += tw_load_vec(w + r * ld + k + TW_VW) * x1;
        }
    }
    for (int r = 0; r < 4; r++) {
        float sum = tw_sum_vec(s[r][0] + s[r][1]);
        for (int64_t i = k; i < n; i++) sum += w[r * ld + i] * x[i];
        out[r] = sum;
    }
}

static __attribute__((noinline)) void tw_dots(int64_t count, const float *w, int64_t ld, const float *x, int64_t n,
                                              float *out)
{
    switch (count) {
    case 1: tw_dot4(w, ld, x, n, out); break;
    case 2: tw_dots_body(2, w, ld, x, n, out); break;
    case 3: tw_dots_body(3, w, ld, x, n, out); break;
    default: tw_dots_body(4, w, ld, x, n, out);
    }
}

/* acc[j] += sum over `count` (1 to 8) rows of f[i] * row i of x, for j in [0, n). */
static inline void tw_add_rows(float *acc, const float *f, const float *x, int64_t ld, int64_t count, int64_t n)
{
    int64_t j = 0;
    if (count == 8) {
        for (; j + 2 * TW_VW <= n; j += 2 * TW_VW) {
            tw_vec a = tw_load_vec(acc + j), b = tw_load_vec(acc + j + TW_VW), c = (tw_vec){0}, d = c;
#pragma GCC unroll 4
            for (int i = 0; i < 8; i += 2) {
                a += f[i] * tw_load_vec(x + i * ld + j);
                b += f[i] * tw_load_vec(x + i * ld + j + TW_VW);
                c += f[i + 1] * tw_load_vec(x + (i + 1) * ld + j);
                d += f[i + 1] * tw_load_vec(x + (i + 1) * ld + j + TW_VW);
            }
            tw_store_vec(acc + j, a + c);
            tw_store_vec(acc + j + TW_VW, b + d);
        }
    }
    for (; j + TW_VW <= n; j += TW_VW) {
        tw_vec a = tw_load_vec(acc + j);
        for (int64_t i = 0; i < count; i++) a += f[i] * tw_load_vec(x + i * ld + j);
        tw_store_vec(acc + j, a);
    }
    for (; j < n; j++)
        for (int64_t i = 0; i < count; i++) acc[j] += f[i] * x[i * ld + j];
}

static inline float tw_dot(const float *w, const float *x, int64_t n)
{
    tw_vec s0 = (tw_vec){0}, s1 = s0;
    int64_t k = 0;
    for (; k + 2 * TW_VW <= n; k += 2 * TW_VW) {
        s0 += tw_load_vec(w + k) * tw_load_vec(x + k);
        s1 += tw_load_vec(w + k + TW_VW) * tw_load_vec(x + k + TW_VW);
    }
    float sum = tw_sum_vec(s0 + s1);
    for (; k < n; k++) sum += w[k] * x[k];
    return sum;
}

#endif
