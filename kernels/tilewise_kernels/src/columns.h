/* Reductions of a block of floats down its columns, and maps by one number a column.

   One form serves every axis: a reduction over middle axes reads columns as they lie; a run of consecutive floats is
   folded like wallpaper, `w` floats a row, and the sums of equal columns are combined at the end; blocks of a few floats
   are transposed side by side by the caller. So every loop here runs along a row, at unit stride. */
#ifndef TILEWISE_COLUMNS_H
#define TILEWISE_COLUMNS_H

#include "lanes.h"
#include "nanmax.h"
#include "vmath.h"

enum {
    TW_MAX_WIDTH = 1024, /* columns of a view */
    TW_CHUNK_ROWS = 64   /* rows summed before they are added to the total, to keep rounding errors small */
};

/* `rows` rows of `w` columns, `ld` floats apart, then one of `tail` columns. Columns that are equal modulo `period`
   belong together; w is a multiple of period. */
typedef struct {
    int64_t rows, ld, w, tail, period;
} tw_view;

/* How a row is taken into the accumulators; the last two take m, one number a column. */
enum {
    TW_SUM = 0,
    TW_MAX = 1,
    TW_MIN = 2,
    TW_PROD = 3,
    TW_ABS = 4,
    TW_SQUARE = 5,
    TW_EXP = 6,      /* exp(x - m) */
    TW_DEVIATION = 7 /* (x - m)^2 */
};

#define TW_FOLD(expr)                                  \
    for (int64_t r = 0; r < rows; r++, x += ld) {      \
        _Pragma("GCC ivdep")                           \
        for (int64_t j = 0; j < w; j++) {              \
            const float s = acc[j], v = x[j];          \
            acc[j] = (expr);                           \
        }                                              \
    }                                                  \
    break;

static void tw_fold_rows(int op, float *acc, const float *x, const float *m, int64_t rows, int64_t ld, int64_t w)
{
    switch (op) {
    case TW_SUM: TW_FOLD(s + v)
    case TW_MAX: TW_FOLD((v > s) | (v != v) ? v : s)
    case TW_MIN: TW_FOLD((v < s) | (v != v) ? v : s)
    case TW_PROD: TW_FOLD(s * v)
    case TW_ABS: TW_FOLD(s + fabsf(v))
    case TW_SQUARE: TW_FOLD(s + v * v)
    case TW_EXP: TW_FOLD(s + tw_exp(v - m[j]))
    case TW_DEVIATION: TW_FOLD(s + (v - m[j]) * (v - m[j]))
    default: break;
    }
}

#undef TW_FOLD

static void tw_start(int op, float *acc, int64_t w)
{
    const float identity = op == TW_MAX ? -INFINITY : op == TW_MIN ? INFINITY : op == TW_PROD ? 1.0f : 0.0f;
    for (int64_t j = 0; j < w; j++)
        acc[j] = identity;
}

/* How two accumulators become one. */
TW_INLINE int tw_combination(int op) { return op > TW_PROD ? TW_SUM : op; }

/* Take all of a view into the accumulators of its columns. */
static void tw_fold(int op, float *acc, const float *x, const float *m, const tw_view *v)
{
    float part[TW_MAX_WIDTH];
    int64_t r = 0;
    for (; v->rows - r > TW_CHUNK_ROWS; r += TW_CHUNK_ROWS) {
        tw_start(op, part, v->w);
        tw_fold_rows(op, part, x + r * v->ld, m, TW_CHUNK_ROWS, v->ld, v->w);
        tw_fold_rows(tw_combination(op), acc, part, NULL, 1, 0, v->w);
    }
    tw_fold_rows(op, acc, x + r * v->ld, m, v->rows - r, v->ld, v->w);
    tw_fold_rows(op, acc, x + v->rows * v->ld, m, v->tail > 0, 0, v->tail);
}

/* Combine the accumulators of equal columns into the first `period`. */
static void tw_gather(int op, float *acc, const tw_view *v)
{
    for (int64_t groups = v->w / v->period; groups > 1;) {
        const int64_t half = (groups + 1) / 2;
        tw_fold_rows(tw_combination(op), acc, acc + half * v->period, NULL, 1, 0, (groups - half) * v->period);
        groups = half;
    }
}

/* Copy the first `period` numbers to all equal columns. */
static void tw_spread(float *acc, const tw_view *v)
{
    if (v->period == 1) {
        const float s = acc[0];
        for (int64_t j = 1; j < v->w; j++)
            acc[j] = s;
        return;
    }
    for (int64_t j = v->period; j < v->w; j++)
        acc[j] = acc[j - v->period];
}

/* The reduction of a view: one number for each of its first `period` columns. */
static void tw_reduce(int op, float *acc, const float *x, const float *m, const tw_view *v)
{
    tw_start(op, acc, v->w);
    tw_fold(op, acc, x, m, v);
    tw_gather(op, acc, v);
}

enum {
    TW_MAP_EXP = 0,  /* exp(x - m) */
    TW_MAP_MUL = 1,  /* x * m */
    TW_MAP_DIV = 2,  /* x / m, and 0 where m is 0 */
    TW_MAP_LOG = 3   /* (x - m) - k */
};

#define TW_MAP(expr)                                   \
    _Pragma("GCC ivdep")                               \
    for (int64_t j = 0; j < w; j++) {                  \
        const float v = x[j];                          \
        y[j] = (expr);                                 \
    }                                                  \
    break;

static void tw_map_row(int op, float *y, const float *x, const float *m, const float *k, int64_t w)
{
    switch (op) {
    case TW_MAP_EXP: TW_MAP(tw_exp(v - m[j]))
    case TW_MAP_MUL: TW_MAP(v * m[j])
    case TW_MAP_DIV: TW_MAP(m[j] == 0.0f ? 0.0f : v / m[j])
    case TW_MAP_LOG: TW_MAP((v - m[j]) - k[j])
    default: break;
    }
}

#undef TW_MAP

/* y from x, laid out alike (or the same floats), by numbers m and k of the columns. */
static void tw_map(int op, float *y, const float *x, const float *m, const float *k, const tw_view *v)
{
    for (int64_t r = 0; r < v->rows; r++)
        tw_map_row(op, y + r * v->ld, x + r * v->ld, m, k, v->w);
    tw_map_row(op, y + v->rows * v->ld, x + v->rows * v->ld, m, k, v->tail);
}

/* The first n floats at x, then `rest`. */
static inline tw_lanes tw_lanes_some(const float *x, int64_t n, float rest)
{
    float part[TW_LANES];
    for (int64_t j = 0; j < TW_LANES; j++) part[j] = j < n ? x[j] : rest;
    return TW_LANES_AT(part);
}

/* e = exp(x - top) of a row whose maximum `top` is, stored to y where that is not NULL; returns the sum. */
static float tw_exp_row(float *y, const float *x, int64_t n, float top)
{
    tw_lanes s0 = {0}, s1 = {0};
    int64_t j = 0;
    for (; j + 2 * TW_LANES <= n; j += 2 * TW_LANES) {
        const tw_lanes a = tw_exp_lanes(TW_LANES_AT(x + j) - top), b = tw_exp_lanes(TW_LANES_AT(x + j + TW_LANES) - top);
        s0 += a;
        s1 += b;
        if (y) {
            *(tw_lanes *)(y + j) = a;
            *(tw_lanes *)(y + j + TW_LANES) = b;
        }
    }
    for (; j < n; j += TW_LANES) {
        const int64_t left = n - j < TW_LANES ? n - j : TW_LANES;
        const tw_lanes e = tw_exp_lanes((left < TW_LANES ? tw_lanes_some(x + j, left, -INFINITY) : TW_LANES_AT(x + j)) - top);
        s0 += e;
        if (y && left == TW_LANES) *(tw_lanes *)(y + j) = e;
        else if (y) for (int64_t i = 0; i < left; i++) y[j + i] = e[i];
    }
    return tw_lane_sum(s0 + s1);
}

/* Softmax of one row, or its logarithm (then y must not be x). A NaN need not be the maximum: it spoils the sum. */
static void tw_softmax_row(float *y, const float *x, int64_t n, int logarithm)
{
    const float top = tw_row_top(x, n);
    const float total = tw_exp_row(logarithm ? NULL : y, x, n, top);
    if (logarithm) {
        const float k = tw_log(total);
        int64_t j = 0;
        for (; j + TW_LANES <= n; j += TW_LANES) *(tw_lanes *)(y + j) = (TW_LANES_AT(x + j) - top) - k;
        for (; j < n; j++) y[j] = (x[j] - top) - k;
        return;
    }
    const float f = 1.0f / total;
    int64_t j = 0;
    for (; j + TW_LANES <= n; j += TW_LANES) *(tw_lanes *)(y + j) = TW_LANES_AT(y + j) * f;
    for (; j < n; j++) y[j] *= f;
}

/* A row divided by its L1 or L2 norm, 0 where that is 0. */
static void tw_lp_row(float *y, const float *x, int64_t n, int64_t p)
{
    const float total = p == 1 ? tw_row_abs_sum(x, n) : sqrtf(tw_row_square_sum(x, n));
    for (int64_t j = 0; j < n; j++)
        y[j] = total == 0.0f ? 0.0f : x[j] / total;
}

/* Where the greatest value of each column lies, counted in rows: values to `best`, rows to `where`. A NaN wins.
   sign: -1 finds the least. last: among equals the last row counts, else the first. */
static void tw_fold_arg(float *best, int32_t *where, const float *x, int32_t row, float sign, int last, int64_t w)
{
    if (last) {
#pragma GCC ivdep
        for (int64_t j = 0; j < w; j++) {
            const float v = sign * x[j], s = best[j];
            const int take = (v >= s) | (v != v);
            best[j] = take ? v : s;
            where[j] = take ? row : where[j];
        }
        return;
    }
#pragma GCC ivdep
    for (int64_t j = 0; j < w; j++) {
        const float v = sign * x[j], s = best[j];
        const int take = (v > s) | ((v != v) & (s == s));
        best[j] = take ? v : s;
        where[j] = take ? row : where[j];
    }
}

/* The same for a whole view: the first `period` numbers of `where` are positions along the reduced axis. A view has at
   least one full row. */
static void tw_arg(int32_t *where, const float *x, float sign, int last, const tw_view *v)
{
    float best[TW_MAX_WIDTH];
    const int64_t groups = v->w / v->period, period = v->period;
    for (int64_t j = 0; j < v->w; j++) {
        best[j] = sign * x[j];
        where[j] = 0;
    }
    for (int64_t r = 1; r < v->rows; r++)
        tw_fold_arg(best, where, x + r * v->ld, (int32_t)r, sign, last, v->w);
    tw_fold_arg(best, where, x + v->rows * v->ld, (int32_t)v->rows, sign, last, v->tail);
    for (int64_t j = 0; j < v->w; j++)
        where[j] = where[j] * (int32_t)groups + (int32_t)(j / period);
    for (int64_t j = period; j < v->w; j++) {
        const int64_t i = j % period;
        const float a = best[i], b = best[j];
        const int equal = (a == b) | ((a != a) & (b != b));
        const int later = where[j] > where[i];
        if (equal ? later == last : (b > a) | (b != b)) {
            best[i] = b;
            where[i] = where[j];
        }
    }
}

#endif
