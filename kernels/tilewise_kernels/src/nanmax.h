/* A maximum that carries NaN, in vectors: compilers make long chains of compares of it, hence the intrinsics. */
#ifndef TILEWISE_NANMAX_H
#define TILEWISE_NANMAX_H

#include <math.h>
#include <stdint.h>

/* The greater one, or NaN where either is NaN. */
static inline float tw_nanmax(float a, float b)
{
    const float greater = a > b ? a : b;
    return a != a ? a : greater;
}

#if defined(__SSE4_1__)

#include <immintrin.h>

static inline float tw_max_across4(__m128 v)
{
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
}

#endif

#if defined(__AVX512F__)

enum { TW_MAX_LANES = 16 };
typedef __m512 tw_maxima;
static inline tw_maxima tw_max_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void tw_max_store(float *p, tw_maxima v) { _mm512_storeu_ps(p, v); }
static inline tw_maxima tw_max_join(tw_maxima a, tw_maxima x)
{
    return _mm512_mask_mov_ps(_mm512_max_ps(x, a), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}
static inline tw_maxima tw_max_skip(tw_maxima a, tw_maxima x) { return _mm512_max_ps(x, a); }
static inline float tw_max_across(tw_maxima v)
{
    return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) ? NAN : _mm512_reduce_max_ps(v);
}

#elif defined(__AVX__)

enum { TW_MAX_LANES = 8 };
typedef __m256 tw_maxima;
static inline tw_maxima tw_max_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void tw_max_store(float *p, tw_maxima v) { _mm256_storeu_ps(p, v); }
static inline tw_maxima tw_max_join(tw_maxima a, tw_maxima x)
{
    return _mm256_blendv_ps(_mm256_max_ps(x, a), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
static inline tw_maxima tw_max_skip(tw_maxima a, tw_maxima x) { return _mm256_max_ps(x, a); }
static inline float tw_max_across(tw_maxima v)
{
    if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q))) return NAN;
    return tw_max_across4(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

#elif defined(__SSE4_1__)

enum { TW_MAX_LANES = 4 };
typedef __m128 tw_maxima;
static inline tw_maxima tw_max_load(const float *p) { return _mm_loadu_ps(p); }
static inline void tw_max_store(float *p, tw_maxima v) { _mm_storeu_ps(p, v); }
static inline tw_maxima tw_max_join(tw_maxima a, tw_maxima x)
{
    return _mm_blendv_ps(_mm_max_ps(x, a), x, _mm_cmpunord_ps(x, x));
}
static inline tw_maxima tw_max_skip(tw_maxima a, tw_maxima x) { return _mm_max_ps(x, a); }
static inline float tw_max_across(tw_maxima v)
{
    return _mm_movemask_ps(_mm_cmpunord_ps(v, v)) ? NAN : tw_max_across4(v);
}

#else

enum { TW_MAX_LANES = 1 };
typedef float tw_maxima;
static inline tw_maxima tw_max_load(const float *p) { return *p; }
static inline void tw_max_store(float *p, tw_maxima v) { *p = v; }
static inline tw_maxima tw_max_join(tw_maxima a, tw_maxima x) { return tw_nanmax(a, x); }
static inline tw_maxima tw_max_skip(tw_maxima a, tw_maxima x) { return x > a ? x : a; }
static inline float tw_max_across(tw_maxima v) { return v; }

#endif

/* The maximum of n floats, -inf for none. Vectors may overlap: nothing changes if an element counts twice. */
static inline float tw_row_max(const float *x, int64_t n)
{
    enum { L = TW_MAX_LANES };
    if (n < L) {
        float most = -INFINITY;
        for (int64_t i = 0; i < n; i++) most = tw_nanmax(most, x[i]);
        return most;
    }
    tw_maxima a = tw_max_load(x), b = tw_max_load(x + n - L), c = a, d = b;
    int64_t i = L;
    for (; i + 4 * L <= n; i += 4 * L) {
        a = tw_max_join(a, tw_max_load(x + i));
        b = tw_max_join(b, tw_max_load(x + i + L));
        c = tw_max_join(c, tw_max_load(x + i + 2 * L));
        d = tw_max_join(d, tw_max_load(x + i + 3 * L));
    }
    for (; i + L <= n; i += L) a = tw_max_join(a, tw_max_load(x + i));
    return tw_max_across(tw_max_join(tw_max_join(a, b), tw_max_join(c, d)));
}

/* The maximum of n floats that are not NaN, -inf for none. */
static inline float tw_row_top(const float *x, int64_t n)
{
    enum { L = TW_MAX_LANES };
    if (n < L) {
        float most = -INFINITY;
        for (int64_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
        return most;
    }
    float start[L];
    for (int i = 0; i < L; i++) start[i] = -INFINITY;
    tw_maxima a = tw_max_load(start), b = tw_max_skip(a, tw_max_load(x + n - L)), c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * L <= n; i += 4 * L) {
        a = tw_max_skip(a, tw_max_load(x + i));
        b = tw_max_skip(b, tw_max_load(x + i + L));
        c = tw_max_skip(c, tw_max_load(x + i + 2 * L));
        d = tw_max_skip(d, tw_max_load(x + i + 3 * L));
    }
    for (; i + L <= n; i += L) a = tw_max_skip(a, tw_max_load(x + i));
    return tw_max_across(tw_max_skip(tw_max_skip(a, b), tw_max_skip(c, d)));
}

#endif
