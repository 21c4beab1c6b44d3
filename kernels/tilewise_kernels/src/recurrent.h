/* Recurrent cells of float32: the walk over time steps of RNN, GRU and LSTM (ONNX opset 22).

   The products of the input with W are there already; what is left of a step is the product of the hidden state with R,
   on the register tile, and the gates. A task holds a few sequences of one direction, so nothing waits for another. */
#ifndef TILEWISE_RECURRENT_H
#define TILEWISE_RECURRENT_H

#include "activation.h"
#include "tile.h"

enum { TW_RNN, TW_GRU, TW_GRU_LINEAR, TW_LSTM, TW_LSTM_COUPLED };

enum { /* beside those of activation.h */
    TW_ACT_AFFINE = 32,       /* alpha, beta */
    TW_ACT_THRESHOLDED = 33,  /* alpha */
    TW_ACT_SCALED_TANH = 34,  /* alpha, beta */
    TW_ACT_SOFTSIGN = 35
};

/* The kernel's arguments, as the docstring of `recurrent` in recurrent.pyx lists them. */
typedef struct {
    int64_t kind;
    const float *x, *r, *bias, *peepholes, *h0, *c0;
    const int32_t *lengths;
    const double *activations;
    const int64_t *offsets;
    float *y, *y_h, *y_c, *scratch;
    int64_t backward, steps, batch, hidden, rows, tile, panels, late_panels, task_floats;
    int64_t x_direction, x_time, x_row, y_direction, y_time, y_row, state_direction, state_row;
    double clip;
} tw_recurrent;

/* One task: its direction's operands and its places in scratch.
   start: what the products with R start from, [pitch]. late: a bias added after them, [hidden]. gates: [rows][pitch].
   h, c: the states, [rows][hidden]. left, reset: h and r * h as left sides of the tile, tiles of [hidden][rows]. */
typedef struct {
    const tw_recurrent *a;
    const float *x, *r, *peepholes;
    const double *activations;
    float *start, *late, *gates, *h, *c, *left, *reset;
    int64_t first, rows, direction, pitch, backward;
} tw_walk;

static inline void tw_gate(const tw_walk *w, int which, float *p, int64_t n)
{
    const double *f = w->activations + 3 * which;
    const float clip = (float)w->a->clip, alpha = (float)f[1], beta = (float)f[2];
    if (clip < INFINITY)
        for (int64_t i = 0; i < n; i++) p[i] = tw_clamp(p[i], -clip, clip);
    switch ((int)f[0]) {
    case TW_ACT_AFFINE: for (int64_t i = 0; i < n; i++) p[i] = alpha * p[i] + beta; break;
    case TW_ACT_THRESHOLDED: for (int64_t i = 0; i < n; i++) p[i] = p[i] < alpha ? 0.0f : p[i]; break;
    case TW_ACT_SCALED_TANH: for (int64_t i = 0; i < n; i++) p[i] = alpha * tw_tanh(beta * p[i]); break;
    case TW_ACT_SOFTSIGN: for (int64_t i = 0; i < n; i++) p[i] = p[i] / (1.0f + fabsf(p[i])); break;
    default: tw_activate((int)f[0], p, n, alpha, beta);
    }
}

static inline void tw_add(float *restrict p, const float *restrict q, int64_t n)
{
    for (int64_t i = 0; i < n; i++) p[i] += q[i];
}

static inline void tw_add_product(float *restrict p, const float *restrict q, const float *restrict s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) p[i] += q[i] * s[i];
}

/* `count` panels [k][TW_NR] for a single row: alone, one panel has too few sums to hide the latency of an addition. */
TW_INLINE void tw_row_panels(const int count, int64_t k_count, const float *h, const float *b, const float *start,
                             float *out)
{
    tw_vec s[8];
#pragma GCC unroll 8
    for (int j = 0; j < 2 * count; j++) s[j] = tw_load_vec(start + j * TW_VW);
    for (int64_t k = 0; k < k_count; k++) {
        const float f = h[k];
#pragma GCC unroll 8
        for (int j = 0; j < 2 * count; j++)
            s[j] += f * tw_load_vec(b + j / 2 * k_count * TW_NR + k * TW_NR + j % 2 * TW_VW);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 2 * count; j++) tw_store_vec(out + j * TW_VW, s[j]);
}

/* gates[row][columns of panels first..last) = start + left R', tile by tile of rows; a panel stays in cache meanwhile. */
static void tw_products(const tw_walk *w, const float *left, int64_t first, int64_t last)
{
    const int64_t k = w->a->hidden, tile = w->a->tile, size = k * TW_NR;
    int64_t p = first;
    if (w->rows == 1) {
        for (; p + 4 <= last; p += 4)
            tw_row_panels(4, k, left, w->r + p * size, w->start + p * TW_NR, w->gates + p * TW_NR);
        for (; p < last; p++)
            tw_row_panels(1, k, left, w->r + p * size, w->start + p * TW_NR, w->gates + p * TW_NR);
        return;
    }
    for (; p < last; p++)
        for (int64_t i = 0; i < w->rows; i += tile) {
            const int64_t mr = w->rows - i < tile ? w->rows - i : tile;
            tw_tile((int)mr, 2, k, left + i * k, w->r + p * size, w->a->offsets, w->gates + i * w->pitch + p * TW_NR,
                    w->pitch, NULL, w->start + p * TW_NR, 0, -INFINITY, INFINITY);
        }
}

/* Row i of the left side of the tiles. */
static inline void tw_put_left(const tw_walk *w, float *left, int64_t i, const float *row)
{
    const int64_t n = w->a->hidden, tile = w->a->tile, base = i / tile * tile;
    const int64_t mr = w->rows - base < tile ? w->rows - base : tile;
    float *dst = left + base * n + (i - base);
    for (int64_t k = 0; k < n; k++) dst[k * mr] = row[k];
}

/* h = f(gates), with gates = x W' + h R' + biases. */
static inline void tw_rnn_row(const tw_walk *w, const float *x, float *g, float *h)
{
    const int64_t n = w->a->hidden;
    tw_add(g, x, n);
    tw_gate(w, 0, g, n);
    memcpy(h, g, n * sizeof(float));
}

/* Gates z and r of a row. */
static inline void tw_gru_reset(const tw_walk *w, const float *x, float *g)
{
    const int64_t n = w->a->hidden;
    tw_add(g, x, 2 * n);
    tw_gate(w, 0, g, 2 * n);
}

/* h = (1 - z) * candidate + z * h, once z, r and the candidate's product are there. */
static inline void tw_gru_row(const tw_walk *w, const float *x, float *g, float *h)
{
    const int64_t n = w->a->hidden;
    const float *z = g, *r = g + n, *xh = x + 2 * n, *late = w->late;
    float *t = g + (w->a->panels - w->a->late_panels) * TW_NR;
    if (w->a->kind == TW_GRU_LINEAR)
#pragma GCC ivdep
        for (int64_t i = 0; i < n; i++) t[i] = xh[i] + (r[i] * t[i] + late[i]);
    else
        tw_add(t, xh, n);
    tw_gate(w, 1, t, n);
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) h[i] = (1.0f - z[i]) * t[i] + z[i] * h[i];
}

/* Gates in the order i, o, f, c. */
static inline void tw_lstm_row(const tw_walk *w, const float *x, float *g, float *h, float *c)
{
    const int64_t n = w->a->hidden;
    const float *p = w->peepholes;
    float *i = g, *o = g + n, *f = g + 2 * n, *cell = g + 3 * n;
    tw_add(g, x, 4 * n);
    if (p) {
        tw_add_product(i, p, c, n);
        tw_add_product(f, p + 2 * n, c, n);
        tw_gate(w, 0, i, n);
        tw_gate(w, 0, f, n);
    } else {
        tw_gate(w, 0, g, 3 * n);
    }
    tw_gate(w, 1, cell, n);
    if (w->a->kind == TW_LSTM_COUPLED)
        for (int64_t j = 0; j < n; j++) f[j] = 1.0f - i[j];
#pragma GCC ivdep
    for (int64_t j = 0; j < n; j++) c[j] = f[j] * c[j] + i[j] * cell[j];
    if (p) {
        tw_add_product(o, p + n, c, n);
        tw_gate(w, 0, o, n);
    }
    memcpy(h, c, n * sizeof(float));
    tw_gate(w, 2, h, n);
    for (int64_t j = 0; j < n; j++) h[j] *= o[j];
}

/* Steps of row i; -1 for a length that is out of range. */
static inline int64_t tw_length(const tw_walk *w, int64_t i)
{
    const tw_recurrent *a = w->a;
    const int64_t length = a->lengths ? a->lengths[w->first + i] : a->steps;
    return length < 0 || length > a->steps ? -1 : length;
}

/* The time at which row i is at step s. */
static inline int64_t tw_time(const tw_walk *w, int64_t s, int64_t length)
{
    return w->backward && s < length ? length - 1 - s : s;
}

static inline void tw_fill(float *p, float value, int64_t n)
{
    for (int64_t i = 0; i < n; i++) p[i] = value;
}

/* What one direction's bias [2][gates][hidden] adds, and where: with the products, or for one gate after them. */
static void tw_split_bias(tw_walk *w, const float *bias, int64_t gates)
{
    const tw_recurrent *a = w->a;
    const int64_t n = a->hidden, early = (a->panels - a->late_panels) * TW_NR, linear = a->kind == TW_GRU_LINEAR;
    tw_fill(w->start, 0.0f, w->pitch);
    tw_fill(w->late, 0.0f, n);
    if (!bias) return;
    for (int64_t g = 0; g < gates; g++) {
        const int64_t is_late = a->late_panels && g == gates - 1;
        float *dst = is_late ? w->start + early : w->start + g * n;
        tw_add(dst, bias + (gates + g) * n, n);
        tw_add(is_late && linear ? w->late : dst, bias + g * n, n);
    }
}

static void tw_load_state(const tw_walk *w, float *dst, const float *src)
{
    const tw_recurrent *a = w->a;
    for (int64_t i = 0; i < w->rows; i++)
        if (src)
            memcpy(dst + i * a->hidden, src + w->direction * a->state_direction + (w->first + i) * a->state_row,
                   a->hidden * sizeof(float));
        else
            tw_fill(dst + i * a->hidden, 0.0f, a->hidden);
}

static void tw_store_state(const tw_walk *w, float *dst, const float *src)
{
    const tw_recurrent *a = w->a;
    for (int64_t i = 0; dst && i < w->rows; i++) {
        float *row = dst + w->direction * a->state_direction + (w->first + i) * a->state_row;
        const int64_t length = tw_length(w, i);
        if (length > 0)
            memcpy(row, src + i * a->hidden, a->hidden * sizeof(float));
        else
            tw_fill(row, length < 0 ? NAN : 0.0f, a->hidden);
    }
}

/* Row i, step s, once the products are there. */
static inline void tw_row_step(const tw_walk *w, int64_t i, int64_t s, int64_t length)
{
    const tw_recurrent *a = w->a;
    const int64_t t = tw_time(w, s, length);
    const float *x = w->x + t * a->x_time + i * a->x_row;
    float *g = w->gates + i * w->pitch, *h = w->h + i * a->hidden;
    float *y = a->y ? a->y + w->direction * a->y_direction + t * a->y_time + (w->first + i) * a->y_row : NULL;
    if (s >= length) {
        if (y) tw_fill(y, length < 0 ? NAN : 0.0f, a->hidden);
        return;
    }
    switch (a->kind) {
    case TW_RNN: tw_rnn_row(w, x, g, h); break;
    case TW_GRU_LINEAR: tw_gru_reset(w, x, g); /* fall through */
    case TW_GRU: tw_gru_row(w, x, g, h); break;
    default: tw_lstm_row(w, x, g, h, w->c + i * a->hidden);
    }
    tw_put_left(w, w->left, i, h);
    if (y) memcpy(y, h, a->hidden * sizeof(float));
}

/* r * h of every row as a left side, for the candidate's own product. */
static void tw_reset_rows(const tw_walk *w, int64_t s)
{
    const int64_t n = w->a->hidden;
    for (int64_t i = 0; i < w->rows; i++) {
        const int64_t length = tw_length(w, i);
        if (s >= length) continue;
        float *g = w->gates + i * w->pitch, *r = g + n;
        const float *h = w->h + i * n;
        tw_gru_reset(w, w->x + tw_time(w, s, length) * w->a->x_time + i * w->a->x_row, g);
        for (int64_t j = 0; j < n; j++) r[j] *= h[j];
        tw_put_left(w, w->reset, i, r);
    }
}

static void tw_walk_steps(const tw_walk *w)
{
    const tw_recurrent *a = w->a;
    const int64_t early = a->kind == TW_GRU ? a->panels - a->late_panels : a->panels;
    int64_t longest = 0;
    for (int64_t i = 0; i < w->rows; i++) {
        const int64_t length = tw_length(w, i);
        longest = length > longest ? length : longest;
        tw_put_left(w, w->left, i, w->h + i * a->hidden);
    }
    for (int64_t s = 0; s < a->steps; s++) {
        if (s < longest) {
            tw_products(w, w->left, 0, early);
            if (early < a->panels) {
                tw_reset_rows(w, s);
                tw_products(w, w->reset, early, a->panels);
            }
        }
        for (int64_t i = 0; i < w->rows; i++) tw_row_step(w, i, s, tw_length(w, i));
    }
}

static void tw_recurrent_task(const tw_recurrent *a, int64_t task)
{
    const int64_t gates = a->kind == TW_RNN ? 1 : a->kind >= TW_LSTM ? 4 : 3, n = a->hidden;
    const int64_t chunks = (a->batch + a->rows - 1) / a->rows, d = task / chunks, first = task % chunks * a->rows;
    tw_walk w = {.a = a, .first = first, .direction = d, .pitch = a->panels * TW_NR};
    w.rows = a->batch - first < a->rows ? a->batch - first : a->rows;
    w.backward = a->backward >> d & 1;
    w.x = a->x + d * a->x_direction + first * a->x_row;
    w.r = a->r + d * n * w.pitch;
    w.peepholes = a->peepholes ? a->peepholes + d * 3 * n : NULL;
    w.activations = a->activations + 9 * d;
    w.start = a->scratch + task * a->task_floats;
    w.late = w.start + w.pitch;
    w.gates = w.late + n;
    w.h = w.gates + a->rows * w.pitch;
    w.c = w.h + a->rows * n;
    w.left = w.c + a->rows * n;
    w.reset = w.left + a->rows * n;
    tw_split_bias(&w, a->bias ? a->bias + d * 2 * gates * n : NULL, gates);
    tw_load_state(&w, w.h, a->h0);
    tw_load_state(&w, w.c, a->c0);
    tw_walk_steps(&w);
    tw_store_state(&w, a->y_h, w.h);
    tw_store_state(&w, a->y_c, w.c);
}

#endif
