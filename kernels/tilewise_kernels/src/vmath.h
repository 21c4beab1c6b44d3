/* Branch-free float32 functions that gcc vectorises at any width when they are called in a simple loop.
 *
 * All carry NaN and infinities as IEEE 754 says, underflow gradually and overflow to infinity. Errors against
 * correctly rounded results are a few units in the last place; tests/ops/test_elementwise_kernels.py holds the
 * bounds. Compile with -fno-math-errno -fno-trapping-math and without -ffast-math.
 */
#ifndef TILEWISE_VMATH_H
#define TILEWISE_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define TW_INLINE static inline __attribute__((always_inline))

#define TW_LOG2E 1.442695041f
#define TW_LN2_HI 0x1.62e4p-1f /* 15 bits, so that multiples by an exponent are exact */
#define TW_LN2_LO 0x1.7f7d1cp-20f
#define TW_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer, found in the low bits */

TW_INLINE uint32_t tw_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

TW_INLINE float tw_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* x moved into [lo, hi]; NaN stays. */
TW_INLINE float tw_clamp(float x, float lo, float hi)
{
    x = x < lo ? lo : x;
    return x > hi ? hi : x;
}

/* exp(r) = 1 + r + r^2 * P(r) for |r| <= ln(2) / 2. */
TW_INLINE float tw_exp_poly(float r)
{
    float p = 1.37805939e-3f;
    p = p * r + 8.37312452e-3f;
    p = p * r + 4.16695364e-2f;
    p = p * r + 1.66664720e-1f;
    return p * r + 4.99999851e-1f;
}

/* exp(x) * 2^shift, for shift in [-1, 1] without an intermediate overflow. */
TW_INLINE float tw_exp_scaled(float x, int32_t shift)
{
    x = tw_clamp(x, -110.0f, 92.0f);
    const float t = x * TW_LOG2E + TW_ROUND_MAGIC;
    const float n = t - TW_ROUND_MAGIC;
    const float r = (x - n * TW_LN2_HI) - n * TW_LN2_LO;
    const int32_t k = (int32_t)(tw_bits(t) - tw_bits(TW_ROUND_MAGIC)) + shift;
    const int32_t half = k >> 1; /* two factors: one alone does not reach the subnormals, nor 2^128 */
    const float a = tw_float((uint32_t)(half + 127) << 23);
    const float b = tw_float((uint32_t)(k - half + 127) << 23);
    return ((tw_exp_poly(r) * r * r + r) + 1.0f) * a * b;
}

TW_INLINE float tw_exp(float x) { return tw_exp_scaled(x, 0); }

/* exp(x) in normal numbers: 2^-126 at least, and infinite from 88.4 on. */
TW_INLINE float tw_exp_normal(float x)
{
    x = tw_clamp(x, -87.0f, 89.0f);
    const float t = x * TW_LOG2E + TW_ROUND_MAGIC;
    const float n = t - TW_ROUND_MAGIC;
    const float r = (x - n * TW_LN2_HI) - n * TW_LN2_LO;
    return ((tw_exp_poly(r) * r * r + r) + 1.0f) * tw_float((tw_bits(t) + 127u) << 23);
}

TW_INLINE float tw_expm1(float x)
{
    const float c = tw_clamp(x, -25.0f, 92.0f);
    const float t = c * TW_LOG2E + TW_ROUND_MAGIC;
    const float n = t - TW_ROUND_MAGIC;
    const float r = (c - n * TW_LN2_HI) - n * TW_LN2_LO;
    const int32_t k = (int32_t)(tw_bits(t) - tw_bits(TW_ROUND_MAGIC));
    const float s = tw_float((uint32_t)(k + 126) << 23); /* half of 2^k, which itself may overflow */
    const float y = s * (tw_exp_poly(r) * r * r + r) + (s - 0.5f);
    return y + y;
}

/* log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1], plus e * ln(2). */
TW_INLINE float tw_log_poly(float f, float e)
{
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float s = f * f;
    float y = p * f * s;
    y = y + e * -2.12194440e-4f;
    y = y - 0.5f * s;
    return (f + y) + e * 0.693359375f;
}

TW_INLINE float tw_log(float x)
{
    const int subnormal = x < 0x1p-126f;
    const float scaled = subnormal ? x * 0x1p24f : x;
    const uint32_t from_root = tw_bits(scaled) - 0x3f3504f3u; /* bits of sqrt(1/2) */
    const float e = (float)((int32_t)from_root >> 23) - (subnormal ? 24.0f : 0.0f);
    const float m = tw_float((from_root & 0x007fffffu) + 0x3f3504f3u);
    float y = tw_log_poly(m - 1.0f, e);
    y = x < INFINITY ? y : x; /* inf, and NaN */
    y = x == 0.0f ? -INFINITY : y;
    return x < 0.0f ? NAN : y;
}

/* log(1 + x) for x in [0, 1]. */
TW_INLINE float tw_log1p_unit(float x)
{
    const int upper = x > 0.41421356f;
    return tw_log_poly(upper ? 0.5f * (x - 1.0f) : x, upper ? 1.0f : 0.0f);
}

TW_INLINE float tw_sigmoid(float x)
{
    const float e = tw_exp(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

TW_INLINE float tw_tanh(float x)
{
    const float a = fabsf(x), s = x * x;
    const float e = tw_exp(a + a);
    const float big = 1.0f - 2.0f / (e + 1.0f);
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    const float small = p * s * a + a;
    return copysignf(a < 0.625f ? small : big, x);
}

TW_INLINE float tw_erf(float x)
{
    const float t = tw_clamp(fabsf(x), 0.0f, 4.0f), s = t * t;
    float q = -1.72853470e-5f * t + 3.83197126e-4f;
    q = q * s + (-3.88396438e-3f * t + 2.42546219e-2f);
    q = q * t - 1.06777877e-1f;
    q = q * t - 6.34846687e-1f;
    q = q * t - 1.28717512e-1f;
    const float big = copysignf(1.0f - tw_exp(q * t - t), x);
    float p = -5.96761703e-4f;
    p = p * s + 4.99119423e-3f;
    p = p * s - 2.67681349e-2f;
    p = p * s + 1.12819925e-1f;
    p = p * s - 3.76125336e-1f;
    p = p * s + 1.28379166e-1f;
    const float small = p * x + x;
    return t > 0.927734375f ? big : small;
}

#endif
