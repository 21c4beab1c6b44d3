/* Sliding windows and whole planes of float32, reduced by maximum, sum or power sum. */
#ifndef TILEWISE_POOL_H
#define TILEWISE_POOL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TW_POOL_MAX = 0, TW_POOL_AVERAGE = 1, TW_POOL_L1 = 2, TW_POOL_L2 = 3, TW_POOL_LP = 4 };
enum { TW_POOL_ROW = 4096 }; /* floats of a row, or of a padded plane, that are worked on at once */
enum { TW_LANES = 16 };      /* buffers are worked on in whole runs of so many, and have room for more */

/* Arguments of the windowed kernels, in this order; triples are depth, height, width. */
typedef struct {
    float *y;
    const float *x;
    int64_t planes;
    int64_t units;       /* output rows of all planes, or planes */
    int64_t grain;       /* units a task */
    int64_t op;
    double p;            /* of TW_POOL_LP */
    const float *counts; /* of TW_POOL_AVERAGE: how many taps count, along depth, height, and width with TW_LANES more */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} __attribute__((may_alias)) tw_windows;

typedef float tw_row[TW_POOL_ROW + 4 * TW_LANES];

static inline int64_t tw_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t tw_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t tw_whole(int64_t n) { return (n + TW_LANES - 1) / TW_LANES * TW_LANES; }

/* The greater one, or NaN where either is NaN. */
static inline float tw_nanmax(float a, float b)
{
    const float greater = a > b ? a : b;
    return a != a ? a : greater;
}
static inline float tw_plus(float a, float b) { return a + b; }

static inline float tw_pool_identity(int64_t op) { return op == TW_POOL_MAX ? -INFINITY : 0.0f; }

/* For j = 0 ... n - 1 and on to the end of the run of TW_LANES. */
#define TW_EACH(n) for (int64_t j = 0, whole = tw_whole(n); j < whole; j++)

#define TW_POOL_LOOPS(name, join)                                                                                \
    static inline void name##_first(float *restrict t, const float *const *rows, int64_t count, int64_t n)       \
    {                                                                                                            \
        const float *restrict a = rows[0], *restrict b = rows[1], *restrict c = rows[2];                         \
        if (count == 1) TW_EACH(n) t[j] = a[j];                                                                  \
        else if (count == 2) TW_EACH(n) t[j] = join(a[j], b[j]);                                                 \
        else TW_EACH(n) t[j] = join(join(a[j], b[j]), c[j]);                                                     \
    }                                                                                                            \
    static inline void name##_next(float *restrict t, const float *restrict x, int64_t n)                        \
    {                                                                                                            \
        TW_EACH(n) t[j] = join(t[j], x[j]);                                                                      \
    }

TW_POOL_LOOPS(tw_pool_max, tw_nanmax)
TW_POOL_LOOPS(tw_pool_sum, tw_plus)

/* A row under construction: up to three rows are joined at a stroke. */
typedef struct {
    float *t;
    int64_t op, n, held;
    const float *rows[3];
} tw_joint;

static inline void tw_joint_flush(tw_joint *s)
{
    if (s->op == TW_POOL_MAX) tw_pool_max_first(s->t, s->rows, s->held, s->n);
    else tw_pool_sum_first(s->t, s->rows, s->held, s->n);
}

static inline void tw_joint_add(tw_joint *s, const float *row)
{
    if (s->held < 3) {
        s->rows[s->held++] = row;
        if (s->held == 3) tw_joint_flush(s);
    } else if (s->op == TW_POOL_MAX) {
        tw_pool_max_next(s->t, row, s->n);
    } else {
        tw_pool_sum_next(s->t, row, s->n);
    }
}

static inline void tw_joint_end(tw_joint *s)
{
    if (s->held > 0 && s->held < 3) tw_joint_flush(s);
}

static inline void tw_fill(float *t, float value, int64_t n)
{
    for (int64_t j = 0; j < n; j++) t[j] = value;
}

/* |x|^p for the norms, in place; nothing for the rest. */
static inline void tw_pool_lift(int64_t op, float p, float *x, int64_t n)
{
    if (op == TW_POOL_L1) TW_EACH(n) x[j] = fabsf(x[j]);
    else if (op == TW_POOL_L2) TW_EACH(n) x[j] = x[j] * x[j];
    else if (op == TW_POOL_LP) for (int64_t j = 0; j < n; j++) x[j] = powf(fabsf(x[j]), p);
}

/* From n joined values, every stride-th of u, to a row of y that may be written up to `end`. */
static inline void tw_pool_finish(const tw_windows *g, float *y, const float *end, const float *u, int64_t n,
                                  float count, const float *counts, float *spare)
{
    const int64_t stride = g->stride[2], op = g->op;
    float *restrict out = y + tw_whole(n) <= end ? y : spare;
    if (stride == 1) TW_EACH(n) out[j] = u[j];
    else if (stride == 2) TW_EACH(n) out[j] = u[2 * j];
    else for (int64_t j = 0; j < n; j++) out[j] = u[stride * j];
    if (op == TW_POOL_AVERAGE) TW_EACH(n) out[j] /= count * counts[j];
    else if (op == TW_POOL_L2) TW_EACH(n) out[j] = sqrtf(out[j]);
    else if (op == TW_POOL_LP) for (int64_t j = 0; j < n; j++) out[j] = powf(out[j], 1.0f / (float)g->p);
    if (out == spare) memcpy(y, spare, n * sizeof(float));
}

/* u[j] = t[j] op t[j + dilation] op ..., one term a tap of the kernel's width; returns t itself for one tap. */
static inline const float *tw_pool_slide(const tw_windows *g, const float *t, float *u, int64_t n)
{
    if (g->kernel[2] == 1) return t;
    tw_joint joint = {u, g->op, n, 0, {t, t, t}};
    for (int64_t k = 0; k < g->kernel[2]; k++) tw_joint_add(&joint, t + k * g->dilation[2]);
    tw_joint_end(&joint);
    return u;
}

/* Join the columns [lo, hi) of every input row under the windows of one output row into t; a row is copied to
   `spare` where it cannot be read beyond hi, or has to be lifted. */
static inline void tw_pool_gather(const tw_windows *g, int64_t row, int64_t lo, int64_t hi, float *t, float *spare)
{
    const int64_t oh = row % g->out[1], od = row / g->out[1] % g->out[0], plane = row / (g->out[1] * g->out[0]);
    const int64_t size = g->in[0] * g->in[1] * g->in[2], n = hi - lo;
    const float *x = g->x + plane * size, *end = g->x + g->planes * size;
    const int lifted = g->op != TW_POOL_MAX && g->op != TW_POOL_AVERAGE;
    tw_joint joint = {t, g->op, n, lifted ? 3 : 0, {x, x, x}};
    if (lifted) tw_fill(t, 0.0f, n);
    for (int64_t kd = 0; kd < g->kernel[0]; kd++) {
        const int64_t d = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        if (d < 0 || d >= g->in[0]) continue;
        for (int64_t kh = 0; kh < g->kernel[1]; kh++) {
            const int64_t h = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            if (h < 0 || h >= g->in[1]) continue;
            const float *from = x + (d * g->in[1] + h) * g->in[2] + lo;
            if (lifted || from + tw_whole(n) > end) {
                float *copy = spare + joint.held % 3 * TW_LANES; /* rows of a run or less may be held together */
                memcpy(copy, from, n * sizeof(float));
                tw_pool_lift(g->op, (float)g->p, copy, n);
                from = copy;
            }
            tw_joint_add(&joint, from);
        }
    }
    if (joint.held == 0) tw_fill(t, tw_pool_identity(g->op), n);
    else tw_joint_end(&joint);
}

/* Rows [begin, end) * grain of the output: first down the rows under the windows, then along the result. */
static inline void tw_pool_rows(const tw_windows *g, int64_t begin, int64_t end)
{
    tw_row t, u, spare;
    const int64_t oH = g->out[1], oW = g->out[2], stride = g->stride[2];
    const int64_t span = (g->kernel[2] - 1) * g->dilation[2] + 1, block = (TW_POOL_ROW - span) / stride + 1;
    const int64_t last = tw_min(end * g->grain, g->units);
    const float identity = tw_pool_identity(g->op), *counts = g->counts;
    for (int64_t row = begin * g->grain; row < last; row++) {
        const int64_t oh = row % oH, od = row / oH % g->out[0];
        const float count = counts ? counts[od] * counts[g->out[0] + oh] : 1.0f;
        for (int64_t ow = 0; ow < oW; ow += block) {
            const int64_t n = tw_min(block, oW - ow), len = (n - 1) * stride + span;
            const int64_t from = ow * stride - g->pad[2];
            const int64_t lo = tw_min(tw_max(from, 0), from + len), hi = tw_max(lo, tw_min(from + len, g->in[2]));
            tw_fill(t, identity, lo - from);
            tw_pool_gather(g, row, lo, hi, t + (lo - from), spare);
            tw_fill(t + (hi - from), identity, from + len - hi);
            const float *joined = tw_pool_slide(g, t, u, len - span + 1);
            tw_pool_finish(g, g->y + row * oW + ow, g->y + last * oW, joined, n, count,
                           counts ? counts + g->out[0] + oH + ow : NULL, spare);
        }
    }
}

/* A plane in its frame: rows of `pitch`, the padding behind a row being the one before the next. */
typedef struct {
    int64_t rows, pitch;
    float identity;
} tw_frame;

static inline tw_frame tw_pool_frame(const tw_windows *g)
{
    const int64_t span = (g->kernel[2] - 1) * g->dilation[2] + 1;
    const int64_t behind = (g->out[2] - 1) * g->stride[2] + span - g->pad[2] - g->in[2];
    return (tw_frame){(g->out[1] - 1) * g->stride[1] + (g->kernel[1] - 1) * g->dilation[1] + 1,
                      g->in[2] + tw_max(g->pad[2], behind), tw_pool_identity(g->op)};
}

/* Copy a plane into its frame, whose padding is there; x may be read up to `end`. */
static inline void tw_pool_load(const tw_windows *g, const tw_frame *f, const float *x, const float *end, float *frame)
{
    const int64_t W = g->in[2], rows = tw_min(g->in[1], f->rows - g->pad[1]), wide = tw_whole(W);
    float *to = frame + g->pad[1] * f->pitch + g->pad[2];
    for (int64_t h = 0; h < rows; h++, x += W) {
        float *restrict row = to + h * f->pitch;
        if (x + wide <= end) TW_EACH(W) row[j] = x[j];
        else memcpy(row, x, W * sizeof(float));
    }
    for (int64_t h = 0; h < rows; h++)
        for (int64_t j = W; j < f->pitch; j++) to[h * f->pitch + j] = f->identity;
    if (rows > 0) {
        tw_fill(to + rows * f->pitch, f->identity, TW_LANES);
        tw_pool_lift(g->op, (float)g->p, frame + g->pad[1] * f->pitch, rows * f->pitch);
    }
}

/* Small planes [begin, end) * grain: whole frames are joined with themselves, shifted by rows and then by columns. */
static inline void tw_pool_planes(const tw_windows *g, int64_t begin, int64_t end)
{
    tw_row frame, v, u;
    const int64_t H = g->in[1], W = g->in[2], oH = g->out[1], oW = g->out[2], stride = g->stride[1];
    const tw_frame f = tw_pool_frame(g);
    const int64_t runs = stride == 1 ? 1 : oH, run = (stride == 1 ? oH * f.pitch : f.pitch) + g->pad[2];
    const int64_t last = tw_min(end * g->grain, g->units);
    const float *counts = g->counts;
    tw_fill(frame, f.identity, f.rows * f.pitch + g->pad[2] + TW_LANES);
    for (int64_t i = begin * g->grain; i < last; i++) {
        tw_pool_load(g, &f, g->x + i * H * W, g->x + g->planes * H * W, frame);
        for (int64_t r = 0; r < runs; r++) {
            const float *top = frame + r * stride * f.pitch;
            tw_joint joint = {v + r * f.pitch, g->op, run, 0, {top, top, top}};
            for (int64_t k = 0; k < g->kernel[1]; k++) tw_joint_add(&joint, top + k * g->dilation[1] * f.pitch);
            tw_joint_end(&joint);
        }
        const float *joined = tw_pool_slide(g, v, u, (oH - 1) * f.pitch + (oW - 1) * g->stride[2] + 1);
        for (int64_t oh = 0; oh < oH; oh++)
            tw_pool_finish(g, g->y + (i * oH + oh) * oW, g->y + last * oH * oW, joined + oh * f.pitch, oW,
                           counts ? counts[0] * counts[1 + oh] : 1.0f, counts ? counts + 1 + oH : NULL,
                           joined == v ? u : v);
    }
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
