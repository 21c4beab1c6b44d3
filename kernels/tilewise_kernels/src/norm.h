/* The loops of the normalization kernels, each along consecutive floats. */
#ifndef TILEWISE_NORM_H
#define TILEWISE_NORM_H

#include "lanes.h"
#include "vmath.h"

#define TW_NORM_LOOP(expr)               \
    _Pragma("GCC ivdep")                 \
    for (int64_t j = 0; j < n; j++)      \
        y[j] = (expr);

/* y = (x - m) * a + b, the same numbers throughout. */
static void tw_affine(float *y, const float *x, int64_t n, float m, float a, float b)
{
    TW_NORM_LOOP((x[j] - m) * a + b)
}

static void tw_affine_each(float *y, const float *x, int64_t n, const float *m, const float *a, const float *b)
{
    TW_NORM_LOOP((x[j] - m[j]) * a[j] + b[j])
}

/* y = (x - m) * r * scale + bias; bias may be NULL. */
static void tw_normalize_each(float *y, const float *x, int64_t n, float m, float r, const float *scale,
                              const float *bias)
{
    if (bias) {
        TW_NORM_LOOP((x[j] - m) * r * scale[j] + bias[j])
    } else {
        TW_NORM_LOOP((x[j] - m) * r * scale[j])
    }
}

/* a = scale / sqrt(var + epsilon). */
static void tw_batch_factors(float *a, const float *scale, const float *var, float epsilon, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        a[j] = scale[j] / sqrtf(var[j] + epsilon);
}

static float tw_row_deviation(const float *x, int64_t n, float m)
{
    TW_ROW_SUM((v - m) * (v - m))
    for (; j < n; j++) sum += (x[j] - m) * (x[j] - m);
    return sum;
}

enum { TW_RUN = 4096 /* floats summed before they are added to a double */ };

TW_INLINE double tw_long_sum(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t j = 0; j < n; j += TW_RUN)
        sum += tw_row_sum(x + j, n - j < TW_RUN ? n - j : TW_RUN);
    return sum;
}

/* The sum of (x - m)^2 over any number of floats. */
TW_INLINE double tw_long_deviation(const float *x, int64_t n, float m)
{
    double sum = 0.0;
    for (int64_t j = 0; j < n; j += TW_RUN)
        sum += tw_row_deviation(x + j, n - j < TW_RUN ? n - j : TW_RUN, m);
    return sum;
}

/* x / p^beta for p > 0. */
TW_INLINE void tw_divide_by_power(float *y, const float *x, const float *p, float beta, int64_t n)
{
    if (beta == 0.75f) {
        TW_NORM_LOOP(x[j] / (sqrtf(p[j]) * sqrtf(sqrtf(p[j]))))
    } else if (beta == 0.5f) {
        TW_NORM_LOOP(x[j] / sqrtf(p[j]))
    } else if (beta == 1.0f) {
        TW_NORM_LOOP(x[j] / p[j])
    } else {
        TW_NORM_LOOP(x[j] * tw_exp(-beta * tw_log(p[j])))
    }
}

enum { TW_LRN_WIDTH = 1024 };

/* Local response normalization of n columns of C rows, `ld` floats apart: each float is divided by
   (bias + alpha * sum x^2)^beta over the rows from `before` above it to `after` below. n <= TW_LRN_WIDTH. */
static void tw_lrn(float *y, const float *x, int64_t C, int64_t ld, int64_t n, int64_t before, int64_t after,
                   float alpha, float beta, float bias)
{
    float p[TW_LRN_WIDTH];
    for (int64_t c = 0; c < C; c++) {
        const int64_t first = c > before ? c - before : 0, last = c + after < C ? c + after : C - 1;
        for (int64_t j = 0; j < n; j++) p[j] = 0.0f;
        for (int64_t i = first; i <= last; i++) {
            const float *q = x + i * ld;
            for (int64_t j = 0; j < n; j++) p[j] += q[j] * q[j];
        }
        for (int64_t j = 0; j < n; j++) p[j] = bias + alpha * p[j];
        tw_divide_by_power(y + c * ld, x + c * ld, p, beta, n);
    }
}

enum { TW_CHANNELS_WIDTH = 256 };

/* Each of n columns (at most TW_CHANNELS_WIDTH) of C rows, `ld` floats apart, normalized; bias may be NULL. */
static void tw_normalize_channels(float *y, const float *x, int64_t C, int64_t ld, int64_t n, double epsilon,
                                  const float *scale, const float *bias)
{
    double total[TW_CHANNELS_WIDTH];
    float mean[TW_CHANNELS_WIDTH], rstd[TW_CHANNELS_WIDTH];
    for (int64_t j = 0; j < n; j++) total[j] = 0.0;
    for (int64_t c = 0; c < C; c++)
        for (int64_t j = 0; j < n; j++) total[j] += x[c * ld + j];
    for (int64_t j = 0; j < n; j++) {
        mean[j] = (float)(total[j] / (double)C);
        total[j] = 0.0;
    }
    for (int64_t c = 0; c < C; c++)
        for (int64_t j = 0; j < n; j++) {
            const double d = (double)(x[c * ld + j] - mean[j]);
            total[j] += d * d;
        }
    for (int64_t j = 0; j < n; j++) rstd[j] = (float)(1.0 / sqrt(total[j] / (double)C + epsilon));
    for (int64_t c = 0; c < C; c++) {
        const float a = scale[c], b = bias ? bias[c] : 0.0f;
        for (int64_t j = 0; j < n; j++) y[c * ld + j] = (x[c * ld + j] - mean[j]) * rstd[j] * a + b;
    }
}

#undef TW_NORM_LOOP

#endif
