/* Sliding windows and whole planes of float32, reduced by maximum, sum or power sum. */
#ifndef TILEWISE_POOL_H
#define TILEWISE_POOL_H

#include "nanmax.h"

#include <string.h>

enum { TW_POOL_MAX = 0, TW_POOL_AVERAGE = 1, TW_POOL_L1 = 2, TW_POOL_L2 = 3, TW_POOL_LP = 4 };
enum { TW_POOL_ROW = 4096 }; /* floats of a row, or of a padded plane, that are worked on at once */
enum { TW_POOL_RUN = 16 };      /* buffers are worked on in whole runs of so many, and have room for more */

/* Arguments of the windowed kernels, in this order; triples are depth, height, width. */
typedef struct {
    float *y;
    const float *x;
    int64_t planes;
    int64_t units;       /* output rows of all planes, or planes */
    int64_t grain;       /* units a task */
    int64_t op;
    double p;            /* of TW_POOL_LP */
    const float *counts; /* of TW_POOL_AVERAGE: how many taps count, along depth, height, and width with TW_POOL_RUN more */
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
} __attribute__((may_alias)) tw_windows;

typedef float tw_pool_row[TW_POOL_ROW + 4 * TW_POOL_RUN];

static inline int64_t tw_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t tw_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t tw_whole(int64_t n) { return (n + TW_POOL_RUN - 1) / TW_POOL_RUN * TW_POOL_RUN; }

static inline float tw_pool_identity(int64_t op) { return op == TW_POOL_MAX ? -INFINITY : 0.0f; }

/* For j = 0 ... n - 1 and on to the end of the run of TW_POOL_RUN. */
#define TW_EACH(n) for (int64_t j = 0, whole = tw_whole(n); j < whole; j++)

/* t = the maximum of one to three rows. */
static inline void tw_pool_max_first(float *t, const float *const *rows, int64_t count, int64_t n)
{
    const float *a = rows[0], *b = rows[1], *c = rows[2];
    const int64_t end = tw_whole(n);
    for (int64_t j = 0; j < end; j += TW_MAX_LANES) {
        tw_maxima v = tw_max_load(a + j);
        if (count > 1) v = tw_max_join(v, tw_max_load(b + j));
        if (count > 2) v = tw_max_join(v, tw_max_load(c + j));
        tw_max_store(t + j, v);
    }
}

static inline void tw_pool_max_next(float *t, const float *x, int64_t n)
{
    const int64_t end = tw_whole(n);
    for (int64_t j = 0; j < end; j += TW_MAX_LANES)
        tw_max_store(t + j, tw_max_join(tw_max_load(t + j), tw_max_load(x + j)));
}

/* t = the sum of one to three rows. */
static inline void tw_pool_sum_first(float *restrict t, const float *const *rows, int64_t count, int64_t n)
{
    const float *restrict a = rows[0], *restrict b = rows[1], *restrict c = rows[2];
    if (count == 1) TW_EACH(n) t[j] = a[j];
    else if (count == 2) TW_EACH(n) t[j] = a[j] + b[j];
    else TW_EACH(n) t[j] = a[j] + b[j] + c[j];
}

static inline void tw_pool_sum_next(float *restrict t, const float *restrict x, int64_t n)
{
    TW_EACH(n) t[j] += x[j];
}

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
static inline void tw_pool_gather(const tw_windows *g, int64_t plane, int64_t od, int64_t oh, int64_t lo, int64_t hi,
                                  float *t, float *spare)
{
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
                float *copy = spare + joint.held % 3 * TW_POOL_RUN; /* rows of a run or less may be held together */
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
    tw_pool_row t, u, spare;
    const int64_t oH = g->out[1], oW = g->out[2], stride = g->stride[2];
    const int64_t span = (g->kernel[2] - 1) * g->dilation[2] + 1, block = (TW_POOL_ROW - span) / stride + 1;
    const int64_t last = tw_min(end * g->grain, g->units);
    const float identity = tw_pool_identity(g->op), *counts = g->counts;
    int64_t row = begin * g->grain, oh = row % oH, od = row / oH % g->out[0], plane = row / (oH * g->out[0]);
    for (; row < last; row++) {
        const float count = counts ? counts[od] * counts[g->out[0] + oh] : 1.0f;
        for (int64_t ow = 0; ow < oW; ow += block) {
            const int64_t n = tw_min(block, oW - ow), len = (n - 1) * stride + span;
            const int64_t from = ow * stride - g->pad[2];
            const int64_t lo = tw_min(tw_max(from, 0), from + len), hi = tw_max(lo, tw_min(from + len, g->in[2]));
            tw_fill(t, identity, lo - from);
            tw_pool_gather(g, plane, od, oh, lo, hi, t + (lo - from), spare);
            tw_fill(t + (hi - from), identity, from + len - hi);
            const float *joined = tw_pool_slide(g, t, u, len - span + 1);
            tw_pool_finish(g, g->y + row * oW + ow, g->y + last * oW, joined, n, count,
                           counts ? counts + g->out[0] + oH + ow : NULL, spare);
        }
        if (++oh == oH) {
            oh = 0;
            if (++od == g->out[0]) {
                od = 0;
                plane++;
            }
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
        tw_fill(to + rows * f->pitch, f->identity, TW_POOL_RUN);
        tw_pool_lift(g->op, (float)g->p, frame + g->pad[1] * f->pitch, rows * f->pitch);
    }
}

/* Small planes [begin, end) * grain: whole frames are joined with themselves, shifted by rows and then by columns. */
static inline void tw_pool_planes(const tw_windows *g, int64_t begin, int64_t end)
{
    tw_pool_row frame, v, u;
    const int64_t H = g->in[1], W = g->in[2], oH = g->out[1], oW = g->out[2], stride = g->stride[1];
    const tw_frame f = tw_pool_frame(g);
    const int64_t runs = stride == 1 ? 1 : oH, run = (stride == 1 ? oH * f.pitch : f.pitch) + g->pad[2];
    const int64_t last = tw_min(end * g->grain, g->units);
    const float *counts = g->counts;
    tw_fill(frame, f.identity, f.rows * f.pitch + g->pad[2] + TW_POOL_RUN);
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

/* Join one tap, x[j * stride], of n windows into their maxima and the places of these; the first of equals stays. */
static inline void tw_pool_argmax_tap(float *restrict best, int32_t *restrict place, const float *restrict x,
                                      int32_t from, int64_t stride, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        const float v = x[j * stride];
        const int take = !(v <= best[j]) & (best[j] == best[j]);
        best[j] = take ? v : best[j];
        place[j] = take ? from + (int32_t)(j * stride) : place[j];
    }
}

/* The maxima of the windows [ow, ow + n) of one output row and their places in the plane x; -1 for padding alone. */
static inline void tw_pool_argmax_row(const tw_windows *g, const float *x, int64_t od, int64_t oh, int64_t ow, int64_t n,
                                      float *best, int32_t *place)
{
    const int64_t W = g->in[2], step = g->stride[2];
    int first = 1;
    for (int64_t j = 0; j < n; j++) {
        best[j] = -INFINITY;
        place[j] = -1;
    }
    for (int64_t kd = 0; kd < g->kernel[0]; kd++) {
        const int64_t d = od * g->stride[0] - g->pad[0] + kd * g->dilation[0];
        if (d < 0 || d >= g->in[0]) continue;
        for (int64_t kh = 0; kh < g->kernel[1]; kh++) {
            const int64_t h = oh * g->stride[1] - g->pad[1] + kh * g->dilation[1];
            if (h < 0 || h >= g->in[1]) continue;
            const int64_t base = (d * g->in[1] + h) * W;
            for (int64_t kw = 0; kw < g->kernel[2]; kw++) {
                const int64_t shift = ow * step + kw * g->dilation[2] - g->pad[2];
                const int64_t lo = shift < 0 ? (step - 1 - shift) / step : 0;
                const int64_t hi = shift < W ? tw_min((W - 1 - shift) / step + 1, n) : 0;
                for (int64_t j = lo; first && j < hi; j++)
                    if (place[j] < 0) {
                        best[j] = x[base + shift + j * step];
                        place[j] = (int32_t)(base + shift + j * step);
                    }
                const int64_t from = base + shift + lo * step;
                if (lo < hi) tw_pool_argmax_tap(best + lo, place + lo, x + from, (int32_t)from, step, hi - lo);
            }
            first = 0; /* every later row has the same columns */
        }
    }
}

/* Maxima and their indices; axis: what a step along depth, height and width of the input adds to an index. */
static inline void tw_pool_argmax(const tw_windows *g, int64_t *index, const int64_t *axis, int64_t begin, int64_t end)
{
    enum { BLOCK = 1024 };
    float best[BLOCK];
    int32_t place[BLOCK];
    const int64_t oD = g->out[0], oH = g->out[1], oW = g->out[2], H = g->in[1], W = g->in[2];
    const int64_t size = g->in[0] * H * W, last = tw_min(end * g->grain, g->units);
    const int flat = axis[2] == 1 && (H == 1 || axis[1] == W) && (g->in[0] == 1 || axis[0] == H * W);
    for (int64_t row = begin * g->grain; row < last; row++) {
        const int64_t plane = row / (oH * oD);
        for (int64_t ow = 0; ow < oW; ow += BLOCK) {
            const int64_t n = tw_min(BLOCK, oW - ow);
            int64_t *at = index + row * oW + ow;
            tw_pool_argmax_row(g, g->x + plane * size, row / oH % oD, row % oH, ow, n, best, place);
            for (int64_t j = 0; j < n; j++) g->y[row * oW + ow + j] = best[j];
            for (int64_t j = 0; j < n; j++) {
                const int64_t p = place[j];
                const int64_t moved = flat ? p : p / (H * W) * axis[0] + p / W % H * axis[1] + p % W * axis[2];
                at[j] = p < 0 ? -1 : plane * size + moved;
            }
        }
    }
}

#endif
