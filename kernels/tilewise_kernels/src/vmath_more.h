/* The rarer functions: trigonometric, hyperbolic and power; see vmath.h.
 *
 * Most of them work in double inside, which needs no care for the last bits and still vectorises.
 */
#ifndef TILEWISE_VMATH_MORE_H
#define TILEWISE_VMATH_MORE_H

#include "vmath.h"

#define TW_PI 3.14159265358979323846
#define TW_PI_2 1.57079632679489661923
#define TW_ROUND_MAGIC_D 6755399441055744.0 /* 1.5 * 2^52 */
#define TW_TRIG_LIMIT 1e6f /* beyond it the reduction below loses bits; the kernels then call libm */

TW_INLINE uint64_t tw_bits_d(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

TW_INLINE double tw_double(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Sine of x + quarter_turns * pi / 2, for |x| <= TW_TRIG_LIMIT: Cody and Waite's reduction with a 33-bit pi / 2. */
TW_INLINE double tw_sin_turned(double x, uint64_t quarter_turns)
{
    const double t = x * (1.0 / TW_PI_2) + TW_ROUND_MAGIC_D;
    const double n = t - TW_ROUND_MAGIC_D;
    const uint64_t q = tw_bits_d(t) + quarter_turns;
    const double r = (x - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
    const double s = r * r;
    const double odd = r * (1.0 + s * (-0.166666666416265235595 +
                       s * (0.0083333293858894631756 + s * (-0.000198393348360966317347 +
                       s * 0.0000027183114939898219064))));
    const double even = 1.0 + s * (-0.499999997251031003120 +
                        s * (0.0416666233237390631894 + s * (-0.00138867637746099294692 +
                        s * 0.0000243904487962774090654)));
    const uint64_t cosine = 0 - (q & 1); /* all ones in odd quarters; the second bit is the sign */
    const uint64_t y = (tw_bits_d(even) & cosine) | (tw_bits_d(odd) & ~cosine);
    return tw_double(y ^ ((q & 2) << 62));
}

TW_INLINE float tw_sin(float x) { return (float)tw_sin_turned(x, 0); }

TW_INLINE float tw_cos(float x) { return (float)tw_sin_turned(x, 1); }

TW_INLINE float tw_tan(float x) { return (float)(tw_sin_turned(x, 0) / tw_sin_turned(x, 1)); }

/* asin(x) for 0 <= x <= 0.5, with s = x * x. */
TW_INLINE float tw_asin_poly(float x, float s)
{
    float p = 4.2163199048e-2f;
    p = p * s + 2.4181311049e-2f;
    p = p * s + 4.5470025998e-2f;
    p = p * s + 7.4953002686e-2f;
    p = p * s + 1.6666752422e-1f;
    return p * s * x + x;
}

TW_INLINE float tw_asin(float x)
{
    const float a = fabsf(x);
    const int outer = a > 0.5f;
    const float s = outer ? 0.5f * (1.0f - a) : a * a;
    const float y = tw_asin_poly(outer ? sqrtf(s) : a, s);
    return copysignf(outer ? (float)TW_PI_2 - (y + y) : y, x);
}

TW_INLINE float tw_acos(float x)
{
    const float a = fabsf(x);
    const int outer = a > 0.5f;
    const float s = outer ? 0.5f * (1.0f - a) : a * a;
    const float y = tw_asin_poly(outer ? sqrtf(s) : a, s);
    const float near_one = x < 0.0f ? (float)TW_PI - (y + y) : y + y;
    return outer ? near_one : (float)TW_PI_2 - copysignf(y, x);
}

TW_INLINE float tw_atan(float x)
{
    const float a = fabsf(x);
    const int far = a > 2.414213562373095f, middle = a > 0.4142135623730950f;
    const float num = far ? -1.0f : middle ? a - 1.0f : a;
    const float den = far ? a : middle ? a + 1.0f : 1.0f;
    const float t = num / den, s = t * t;
    float p = 8.05374449538e-2f;
    p = p * s - 1.38776856032e-1f;
    p = p * s + 1.99777106478e-1f;
    p = p * s - 3.33329491539e-1f;
    const float y = p * s * t + t;
    return copysignf((far ? (float)TW_PI_2 : middle ? (float)(TW_PI_2 / 2) : 0.0f) + y, x);
}

TW_INLINE float tw_sinh(float x)
{
    const float a = fabsf(x), s = x * x;
    const float e = tw_exp_scaled(a, -1);
    float p = 2.03721912945e-4f;
    p = p * s + 8.33028376239e-3f;
    p = p * s + 1.66667160211e-1f;
    return a < 1.0f ? p * s * x + x : copysignf(e - 0.25f / e, x);
}

TW_INLINE float tw_cosh(float x)
{
    const float e = tw_exp_scaled(fabsf(x), -1);
    return e + 0.25f / e;
}

/* log2(x) of a positive, normal double, to about 1e-12; +inf gives 1024, which no caller can tell from +inf. */
TW_INLINE double tw_log2_d(double x)
{
    const uint64_t root = 0x3fe6a09e667f3bcdull; /* sqrt(1/2) */
    const uint64_t shifted = tw_bits_d(x) - root + (1023ull << 52);
    const double e = tw_double((shifted >> 52) | 0x4330000000000000ull) - (4503599627370496.0 + 1023.0);
    const double m = tw_double((shifted & 0x000fffffffffffffull) + root);
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    return e + (p * z * s + s) * 2.88539008177792681472;
}

TW_INLINE double tw_log_d(double x) { return tw_log2_d(x) * 0.693147180559945309417; }

/* 2^t, for t moved into [-200, 200]. */
TW_INLINE double tw_exp2_d(double t)
{
    t = t < -200.0 ? -200.0 : t;
    t = t > 200.0 ? 200.0 : t;
    const double shifted = t + TW_ROUND_MAGIC_D;
    const double r = (t - (shifted - TW_ROUND_MAGIC_D)) * 0.693147180559945309417;
    double p = 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    return (p * r + 1.0) * tw_double((tw_bits_d(shifted) - tw_bits_d(TW_ROUND_MAGIC_D) + 1023) << 52);
}

TW_INLINE float tw_asinh(float x)
{
    const double a = fabs((double)x);
    const double y = a < 1e-3 ? a - a * a * a * (1.0 / 6.0) : tw_log_d(a + sqrt(a * a + 1.0));
    return copysignf(a < INFINITY ? (float)y : (float)a, x);
}

TW_INLINE float tw_acosh(float x)
{
    const double d = x;
    const float y = (float)tw_log_d(d + sqrt(d * d - 1.0));
    const float inside = x < INFINITY ? y : x;
    return x >= 1.0f ? inside : NAN;
}

TW_INLINE float tw_atanh(float x)
{
    const double a = fabs((double)x);
    const double y = a < 1e-3 ? a + a * a * a * (1.0 / 3.0) : 0.5 * tw_log_d((1.0 + a) / (1.0 - a));
    const float inside = a == 1.0 ? INFINITY : (float)y;
    return copysignf(a <= 1.0 ? inside : NAN, x);
}

/* a where c is 1, b where it is 0; long chains of `?:` become branches, which do not vectorise. */
TW_INLINE float tw_select(uint32_t c, float a, float b)
{
    return tw_float((tw_bits(a) & (0 - c)) | (tw_bits(b) & (c - 1)));
}

/* x to the power y with C99's special cases. */
TW_INLINE float tw_pow(float x, float y)
{
    const float a = fabsf(x), whole = rintf(y), half = 0.5f * whole;
    const uint32_t is_whole = whole == y, is_odd = is_whole & (half != rintf(half));
    const uint32_t a_zero = a == 0.0f, a_inf = a == INFINITY, y_inf = fabsf(y) == INFINITY;
    const uint32_t limit_is_zero = a_zero ^ (uint32_t)(y < 0.0f);
    float r = (float)tw_exp2_d((double)y * tw_log2_d(a));
    r = tw_select(a_zero | a_inf, tw_select(limit_is_zero, 0.0f, INFINITY), r);
    const float reflected = tw_select(is_whole | a_inf | a_zero, tw_select(is_odd, -r, r), NAN);
    r = tw_select(tw_bits(x) >> 31, reflected, r);
    r = tw_select((x != x) | (y != y), x + y, r);
    return tw_select((y == 0.0f) | (x == 1.0f) | ((a == 1.0f) & y_inf), 1.0f, r);
}

#endif
