/* Sliding windows and whole planes of float32, reduced by maximum, sum or power sum. */
#ifndef TILEWISE_POOL_H
#define TILEWISE_POOL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TW_POOL_MAX = 0, TW_POOL_AVERAGE = 1, TW_POOL_L1 = 2, TW_POOL_L2 = 3, TW_POOL_LP = 4 };
enum { TW_POOL_ROW = 4096 }; /* floats of a row, or of a padded plane, that are worked on at once */

/* Arguments of the windowed kernels, in this order; triples are depth, height, width. */
typedef struct {
    float *y;
    const float *x;
    int64_t units;       /* output rows, or planes */
    int64_t grain;       /* units a task */
    int64_t op;
    double p;            /* of TW_POOL_LP */
    const float *counts; /* of TW_POOL_AVERAGE: how many taps count, along each axis: out[0] + out[1] + out[2] */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} __attribute__((may_alias)) tw_windows;

static inline int64_t tw_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t tw_max(int64_t a, int64_t b) { return a > b ? a : b; }

/* The greater one, or NaN where either is NaN. */
static inline float tw_nanmax(float a, float b)
{
    const float greater = a > b ? a : b;
    return a != a ? a : greater;
}

static inline float tw_pool_identity(int64_t op) { return op == TW_POOL_MAX ? -INFINITY : 0.0f; }

static inline void tw_fill(float *t, float value, int64_t n)
{
    for (int64_t j = 0; j < n; j++) t[j] = value;
}

/* t = t op f(x), where f is the identity, |x| or |x|^p. */
static inline void tw_pool_take(int64_t op, float p, float *restrict t, const float *restrict x, int64_t n)
{
    switch (op) {
    case TW_POOL_MAX:
        for (int64_t j = 0; j < n; j++) t[j] = tw_nanmax(t[j], x[j]);
        break;
    case TW_POOL_AVERAGE:
        for (int64_t j = 0; j < n; j++) t[j] += x[j];
        break;
    case TW_POOL_L1:
        for (int64_t j = 0; j < n; j++) t[j] += fabsf(x[j]);
        break;
    case TW_POOL_L2:
        for (int64_t j = 0; j < n; j++) t[j] += x[j] * x[j];
        break;
    default:
        for (int64_t j = 0; j < n; j++) t[j] += powf(fabsf(x[j]), p);
    }
}

/* y = a op b; y may be a. */
static inline void tw_pool_merge(int64_t op, float *y, const float *a, const float *b, int64_t n)
{
    if (op == TW_POOL_MAX)
        for (int64_t j = 0; j < n; j++) y[j] = tw_nanmax(a[j], b[j]);
    else
        for (int64_t j = 0; j < n; j++) y[j] = a[j] + b[j];
}

/* From accumulated values to the operator's; `count` and `counts` are numbers of taps, for an average. */
static inline void tw_pool_finish(int64_t op, float p, float *y, float count, const float *counts, int64_t n)
{
    if (op == TW_POOL_AVERAGE)
        for (int64_t j = 0; j < n; j++) y[j] /= count * counts[j];
    else if (op == TW_POOL_L2)
        for (int64_t j = 0; j < n; j++) y[j] = sqrtf(y[j]);
    else if (op == TW_POOL_LP)
        for (int64_t j = 0; j < n; j++) y[j] = powf(y[j], 1.0f / p);
}

/* y[j] = t[j * stride] op t[j * stride + dilation] op ..., `kernel` terms; halves: two scratch rows. */
static inline void tw_pool_slide(const tw_windows *g, float *y, const float *t, int64_t n, int64_t len, float *halves)
{
    const int64_t stride = g->stride[2], kernel = g->kernel[2], dilation = g->dilation[2];
    if (stride > 2) {
        const int64_t op = g->op;
        for (int64_t j = 0; j < n; j++) {
            float v = t[j * stride];
            for (int64_t k = 1; k < kernel; k++) {
                const float tap = t[j * stride + k * dilation];
                v = op == TW_POOL_MAX ? tw_nanmax(v, tap) : v + tap;
            }
            y[j] = v;
        }
        return;
    }
    const float *phase[2] = {t, t};
    if (stride == 2) {
        float *even = halves, *odd = halves + TW_POOL_ROW / 2;
        for (int64_t j = 0; j < len / 2; j++) {
            even[j] = t[2 * j];
            odd[j] = t[2 * j + 1];
        }
        if (len & 1) even[len / 2] = t[len - 1];
        phase[0] = even;
        phase[1] = odd;
    }
    if (kernel == 1) {
        memcpy(y, phase[0], n * sizeof(float));
        return;
    }
    for (int64_t k = 1; k < kernel; k++) {
        const int64_t at = k * dilation;
        const float *tap = phase[at % stride] + at / stride;
        tw_pool_merge(g->op, y, k == 1 ? phase[0] : y, tap, n);
    }
}

/* Accumulate the columns [lo, hi) of every input row under the windows of one output row. */
static inline void tw_pool_gather(const tw_windows *g, int64_t row, int64_t lo, int64_t hi, float *t)
{
    const int64_t oh = row % g->out[1], od = row / g->out[1] % g->out[0], plane = row / (g->out[1] * g->out[0]);
    const float *x = g->x + plane * g->in[0] * g->in[1] * g->in[2];
    for (int64_t kd = 0; kd < g->kernel[0]; kd++) {
        const int64_t d = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        if (d < 0 || d >= g->in[0]) continue;
        for (int64_t kh = 0; kh < g->kernel[1]; kh++) {
            const int64_t h = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            if (h < 0 || h >= g->in[1]) continue;
            tw_pool_take(g->op, (float)g->p, t, x + (d * g->in[1] + h) * g->in[2] + lo, hi - lo);
        }
    }
}

/* Rows [begin, end) * grain of the output: first down the rows under the windows, then along the result. */
static inline void tw_pool_rows(const tw_windows *g, int64_t begin, int64_t end)
{
    float t[TW_POOL_ROW], halves[TW_POOL_ROW + 2];
    const int64_t oH = g->out[1], oW = g->out[2], stride = g->stride[2];
    const int64_t span = (g->kernel[2] - 1) * g->dilation[2] + 1, block = (TW_POOL_ROW - span) / stride + 1;
    const int64_t last = tw_min(end * g->grain, g->units);
    const float *counts = g->counts;
    for (int64_t row = begin * g->grain; row < last; row++) {
        const int64_t oh = row % oH, od = row / oH % g->out[0];
        const float count = counts ? counts[od] * counts[g->out[0] + oh] : 1.0f;
        for (int64_t ow = 0; ow < oW; ow += block) {
            const int64_t n = tw_min(block, oW - ow), len = (n - 1) * stride + span;
            const int64_t from = ow * stride - g->pad[2];
            const int64_t lo = tw_max(from, 0), hi = tw_min(from + len, g->in[2]);
            float *y = g->y + row * oW + ow;
            tw_fill(t, tw_pool_identity(g->op), len);
            if (lo < hi) tw_pool_gather(g, row, lo, hi, t + (lo - from));
            tw_pool_slide(g, y, t, n, len, halves);
            tw_pool_finish(g->op, (float)g->p, y, count, counts ? counts + g->out[0] + oH + ow : NULL, n);
        }
    }
}

/* One small plane: pad it, merge shifted rows, merge shifted columns of the flat result, pick every stride-th. */
static inline void tw_pool_plane(const tw_windows *g, const float *x, float *y, float *padded, float *merged)
{
    const int64_t H = g->in[1], W = g->in[2], oH = g->out[1], oW = g->out[2];
    const int64_t sH = g->stride[1], sW = g->stride[2], pH = g->pad[1], pW = g->pad[2], kH = g->kernel[1];
    const int64_t span = (g->kernel[2] - 1) * g->dilation[2] + 1;
    const int64_t rows = (oH - 1) * sH + (kH - 1) * g->dilation[1] + 1, cols = (oW - 1) * sW + span;
    const int64_t flat = oH * cols - span + 1;
    tw_fill(padded, tw_pool_identity(g->op), rows * cols);
    for (int64_t h = 0; h < tw_min(H, rows - pH) && pW < cols; h++)
        tw_pool_take(g->op, (float)g->p, padded + (h + pH) * cols + pW, x + h * W, tw_min(W, cols - pW));
    const int64_t runs = sH == 1 ? 1 : oH, run = sH == 1 ? oH * cols : cols;
    for (int64_t r = 0; r < runs; r++) {
        const float *top = padded + r * sH * cols;
        if (kH == 1) memcpy(merged + r * cols, top, run * sizeof(float));
        for (int64_t k = 1; k < kH; k++)
            tw_pool_merge(g->op, merged + r * cols, k == 1 ? top : merged + r * cols,
                          top + k * g->dilation[1] * cols, run);
    }
    const float *wide = merged;
    for (int64_t k = 1; k < g->kernel[2]; k++) {
        tw_pool_merge(g->op, padded, wide, merged + k * g->dilation[2], flat);
        wide = padded;
    }
    for (int64_t oh = 0; oh < oH; oh++, y += oW, wide += cols) {
        for (int64_t j = 0; j < oW; j++) y[j] = wide[j * sW];
        tw_pool_finish(g->op, (float)g->p, y, g->counts ? g->counts[0] * g->counts[1 + oh] : 1.0f,
                       g->counts + 1 + oH, oW);
    }
}

static inline void tw_pool_planes(const tw_windows *g, int64_t begin, int64_t end)
{
    float padded[TW_POOL_ROW], merged[TW_POOL_ROW];
    const int64_t last = tw_min(end * g->grain, g->units);
    for (int64_t i = begin * g->grain; i < last; i++)
        tw_pool_plane(g, g->x + i * g->in[1] * g->in[2], g->y + i * g->out[1] * g->out[2], padded, merged);
}

/* Maximum and where it lies: args of tw_windows, then indices, and the stride in the index of each input axis. */
static inline void tw_pool_argmax(const tw_windows *g, int64_t *index, const int64_t *axis, int64_t begin, int64_t end)
{
    const int64_t oD = g->out[0], oH = g->out[1], oW = g->out[2], W = g->in[2];
    const int64_t size = g->in[0] * g->in[1] * W, last = tw_min(end * g->grain, g->units);
    for (int64_t row = begin * g->grain; row < last; row++) {
        const int64_t oh = row % oH, od = row / oH % oD, plane = row / (oH * oD);
        float *y = g->y + row * oW;
        int64_t *at = index + row * oW;
        for (int64_t j = 0; j < oW; j++) {
            y[j] = -INFINITY;
            at[j] = -1;
        }
        for (int64_t kd = 0; kd < g->kernel[0]; kd++) {
            const int64_t d = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
            if (d < 0 || d >= g->in[0]) continue;
            for (int64_t kh = 0; kh < g->kernel[1]; kh++) {
                const int64_t h = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
                if (h < 0 || h >= g->in[1]) continue;
                const float *x = g->x + plane * size + (d * g->in[1] + h) * W;
                const int64_t base = plane * size + d * axis[0] + h * axis[1];
                for (int64_t kw = 0; kw < g->kernel[2]; kw++) {
                    const int64_t shift = kw * g->dilation[2] - g->pad[2], step = g->stride[2];
                    const int64_t lo = shift < 0 ? (step - 1 - shift) / step : 0;
                    const int64_t hi = shift < W ? tw_min((W - 1 - shift) / step + 1, oW) : 0;
                    for (int64_t j = lo; j < hi; j++) {
                        const float v = x[j * step + shift], best = y[j];
                        const int take = (v > best) | (at[j] < 0) | ((v != v) & (best == best));
                        y[j] = take ? v : best;
                        at[j] = take ? base + (j * step + shift) * axis[2] : at[j];
                    }
                }
            }
        }
    }
}

typedef float tw_lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t tw_bits __attribute__((vector_size(64), aligned(4), may_alias));

#define TW_LANES 16
#define TW_SPLAT(v) ((tw_lanes){v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v})
#define TW_NANMAX(a, b)                                                              \
    ({                                                                               \
        const tw_bits keep = (a >= b) | (a != a);                                    \
        (tw_lanes)((keep & (tw_bits)a) | (~keep & (tw_bits)b));                      \
    })
#define TW_REDUCE(name, identity, lift, join, join_one, lift_one)                    \
    static inline float name(const float *x, int64_t n, float p)                     \
    {                                                                                \
        tw_lanes a = TW_SPLAT(identity), b = a, c = a, d = a;                        \
        int64_t i = 0;                                                               \
        (void)p;                                                                     \
        for (; i + 4 * TW_LANES <= n; i += 4 * TW_LANES) {                           \
            const tw_lanes v0 = *(const tw_lanes *)(x + i);                          \
            const tw_lanes v1 = *(const tw_lanes *)(x + i + TW_LANES);               \
            const tw_lanes v2 = *(const tw_lanes *)(x + i + 2 * TW_LANES);           \
            const tw_lanes v3 = *(const tw_lanes *)(x + i + 3 * TW_LANES);           \
            a = join(a, lift(v0));                                                   \
            b = join(b, lift(v1));                                                   \
            c = join(c, lift(v2));                                                   \
            d = join(d, lift(v3));                                                   \
        }                                                                            \
        for (; i + TW_LANES <= n; i += TW_LANES) {                                   \
            const tw_lanes v = *(const tw_lanes *)(x + i);                           \
            a = join(a, lift(v));                                                    \
        }                                                                            \
        a = join(a, b);                                                              \
        c = join(c, d);                                                              \
        a = join(a, c);                                                              \
        float total = identity;                                                      \
        for (; i < n; i++) total = join_one(total, lift_one(x[i]));                  \
        float lane[TW_LANES];                                                        \
        *(tw_lanes *)lane = a;                                                       \
        for (int half = TW_LANES / 2; half; half /= 2)                               \
            for (int k = 0; k < half; k++) lane[k] = join_one(lane[k], lane[k + half]); \
        return join_one(total, lane[0]);                                             \
    }
#define TW_ADD(a, b) ((a) + (b))
#define TW_SELF(v) (v)
#define TW_SQUARE(v) ((v) * (v))
#define TW_ABS(v) ((tw_lanes)((tw_bits)(v) & 0x7fffffff))

TW_REDUCE(tw_plane_max, -INFINITY, TW_SELF, TW_NANMAX, tw_nanmax, TW_SELF)
TW_REDUCE(tw_plane_sum, 0.0f, TW_SELF, TW_ADD, TW_ADD, TW_SELF)
TW_REDUCE(tw_plane_l1, 0.0f, TW_ABS, TW_ADD, TW_ADD, fabsf)
TW_REDUCE(tw_plane_l2, 0.0f, TW_SQUARE, TW_ADD, TW_ADD, TW_SQUARE)

static inline float tw_plane_lp(const float *x, int64_t n, float p)
{
    float total = 0.0f;
    for (int64_t i = 0; i < n; i++) total += powf(fabsf(x[i]), p);
    return total;
}

/* One value of n elements. Runs are summed in float, and the runs in double, so that long planes stay accurate. */
static inline float tw_plane(int64_t op, const float *x, int64_t n, float p)
{
    if (op == TW_POOL_MAX) return tw_plane_max(x, n, p);
    double total = 0.0;
    for (int64_t i = 0; i < n; i += TW_POOL_ROW) {
        const int64_t run = tw_min(n - i, TW_POOL_ROW);
        switch (op) {
        case TW_POOL_AVERAGE: total += tw_plane_sum(x + i, run, p); break;
        case TW_POOL_L1: total += tw_plane_l1(x + i, run, p); break;
        case TW_POOL_L2: total += tw_plane_l2(x + i, run, p); break;
        default: total += tw_plane_lp(x + i, run, p);
        }
    }
    switch (op) {
    case TW_POOL_AVERAGE: return (float)(total / (double)n);
    case TW_POOL_L1: return (float)total;
    case TW_POOL_L2: return sqrtf((float)total);
    default: return powf((float)total, 1.0f / p);
    }
}

#endif
