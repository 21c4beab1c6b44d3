/* Deformable convolution: channels-last samples of a few pixels, then a register tile of pixels by output channels. */
#ifndef TILEWISE_DEFORM_H
#define TILEWISE_DEFORM_H

#include "transpose.h"

#include <math.h>

enum {
    TW_DEFORM_TILES = 4,     /* register tiles of pixels that share a chunk of weights */
    TW_DEFORM_FLOATS = 16128, /* of the samples of such a chunk */
    TW_DEFORM_LANES = 16     /* pixels whose places are found at once, TW_MR of them used */
};

/* Arguments, in this order. Channels are cut into segments that belong to one group and one offset group, these into
   blocks of a vector; `blocks` is their number in a group. */
typedef struct {
    float *y;
    const float *x; /* [N][H * W + 1][groups * blocks * TW_VW], the last pixel being zeros */
    const float *w; /* [groups][panels of two vectors][taps * blocks * TW_VW][width of the panel] */
    const float *offset, *mask, *bias;
    float *sums;    /* of each task, TW_DEFORM_TILES * TW_MR rows of `width` */
    int64_t images, groups, outs, width, blocks, segment_blocks, offset_groups, segments_each;
    int64_t H, W, oH, oW, kernel[2], stride[2], dilation[2], pad[2];
    int64_t per_task; /* pixels */
} __attribute__((may_alias)) tw_deform;

typedef float tw_spots __attribute__((vector_size(4 * TW_DEFORM_LANES), aligned(4), may_alias));
typedef int32_t tw_places __attribute__((vector_size(4 * TW_DEFORM_LANES)));

/* Where four neighbours of each pixel's sample lie, counted in pixels, and their weights. */
typedef struct {
    tw_places place[4];
    tw_spots weight[4];
} tw_neighbours;

/* Where the first tap of each pixel of a tile lies when nothing moves it. */
typedef struct {
    tw_spots row, column;
} tw_corners;

static inline tw_spots tw_some_spots(const float *p, int64_t n)
{
    tw_spots v = {0};
    if (n == TW_DEFORM_LANES) return *(const tw_spots *)p;
    for (int64_t j = 0; j < n; j++) ((float *)&v)[j] = p[j];
    return v;
}

/* The neighbours of pixels q ... q + n - 1 under one tap of one offset group. */
static inline void tw_deform_places(const tw_deform *g, int64_t image, int64_t group, int64_t tap, int64_t q, int64_t n,
                                    const tw_corners *corners, tw_neighbours *to)
{
    const int64_t taps = g->kernel[0] * g->kernel[1], pixels = g->oH * g->oW;
    const int64_t plane = (image * g->offset_groups + group) * taps + tap;
    const int64_t known = pixels - q < TW_DEFORM_LANES ? n : TW_DEFORM_LANES;
    const float down = (float)(tap / g->kernel[1] * g->dilation[0]), along = (float)(tap % g->kernel[1] * g->dilation[1]);
    const int32_t H = (int32_t)g->H, W = (int32_t)g->W;
    const tw_places nowhere = (tw_places){0} + H * W, none = {0};
    const tw_spots h = corners->row + down + tw_some_spots(g->offset + 2 * plane * pixels + q, known);
    const tw_spots w = corners->column + along + tw_some_spots(g->offset + (2 * plane + 1) * pixels + q, known);
    const tw_places inside = (h > -1.0f) & (h < (float)H) & (w > -1.0f) & (w < (float)W);
    const tw_spots hi = (tw_spots)(inside & (tw_places)h), wi = (tw_spots)(inside & (tw_places)w);
    tw_places r = __builtin_convertvector(hi, tw_places), c = __builtin_convertvector(wi, tw_places);
    r += hi < __builtin_convertvector(r, tw_spots); /* -1 where true: the floor of what was cut off */
    c += wi < __builtin_convertvector(c, tw_spots);
    const tw_spots fh = hi - __builtin_convertvector(r, tw_spots), fw = wi - __builtin_convertvector(c, tw_spots);
    const tw_places top = inside & (r >= none), bottom = inside & (r + 1 < (none + H));
    const tw_places near = c >= none, far = c + 1 < (none + W), at = r * W + c;
    const tw_places is[4] = {top & near, top & far, bottom & near, bottom & far};
    const tw_places places[4] = {at, at + 1, at + W, at + W + 1};
    const tw_spots weights[4] = {(1.0f - fh) * (1.0f - fw), (1.0f - fh) * fw, fh * (1.0f - fw), fh * fw};
    for (int i = 0; i < 4; i++) {
        to->place[i] = (is[i] & places[i]) | (~is[i] & nowhere);
        to->weight[i] = (tw_spots)(is[i] & (tw_places)weights[i]);
        if (g->mask) to->weight[i] *= tw_some_spots(g->mask + plane * pixels + q, known);
    }
}

static inline tw_corners tw_deform_corners(const tw_deform *g, int64_t q)
{
    float row[TW_DEFORM_LANES], column[TW_DEFORM_LANES];
    int64_t oh = q / g->oW, ow = q % g->oW;
    for (int64_t j = 0; j < TW_DEFORM_LANES; j++) {
        row[j] = (float)(oh * g->stride[0] - g->pad[0]);
        column[j] = (float)(ow * g->stride[1] - g->pad[1]);
        if (++ow == g->oW) ow = 0, oh++;
    }
    return (tw_corners){*(const tw_spots *)row, *(const tw_spots *)column};
}

/* Samples of `blocks` blocks of channels for n pixels: to[block][pixel][lane]. */
static inline void tw_deform_sample(const float *x, int64_t pitch, const tw_neighbours *at, int64_t n, int64_t blocks,
                                    float *to)
{
    for (int64_t j = 0; j < n; j++) {
        const float *a = x + at->place[0][j] * pitch, *b = x + at->place[1][j] * pitch;
        const float *c = x + at->place[2][j] * pitch, *d = x + at->place[3][j] * pitch;
        const tw_vec wa = tw_splat(at->weight[0][j]), wb = tw_splat(at->weight[1][j]);
        const tw_vec wc = tw_splat(at->weight[2][j]), wd = tw_splat(at->weight[3][j]);
        float *out = to + j * TW_VW;
        for (int64_t k = 0; k < blocks; k++, out += TW_MR * TW_VW)
            tw_store_vec(out, (wa * tw_load_vec(a + k * TW_VW) + wb * tw_load_vec(b + k * TW_VW)) +
                                  (wc * tw_load_vec(c + k * TW_VW) + wd * tw_load_vec(d + k * TW_VW)));
    }
}

/* c[i][j] = (first ? 0 : c[i][j]) + sum_k a[k][i] * b[k][j] over blocks of TW_VW k's; a [block][TW_MR][TW_VW]. */
TW_INLINE void tw_pixel_tile_body(const int nv, int64_t blocks, const float *a, const float *b, float *c, int64_t ldc,
                                  int first)
{
    tw_vec acc[TW_MR][2];
#pragma GCC unroll 16
    for (int i = 0; i < TW_MR; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) {
            acc[i][j] = (tw_vec){0};
            if (!first) acc[i][j] = tw_load_vec(c + i * ldc + j * TW_VW);
        }
    for (int64_t k = 0; k < blocks; k++, a += TW_MR * TW_VW)
        for (int l = 0; l < TW_VW; l++, b += nv * TW_VW) {
            tw_vec bv[2];
#pragma GCC unroll 2
            for (int j = 0; j < nv; j++) bv[j] = tw_load_vec(b + j * TW_VW);
#pragma GCC unroll 16
            for (int i = 0; i < TW_MR; i++)
#pragma GCC unroll 2
                for (int j = 0; j < nv; j++) acc[i][j] += a[i * TW_VW + l] * bv[j];
        }
#pragma GCC unroll 16
    for (int i = 0; i < TW_MR; i++)
#pragma GCC unroll 2
        for (int j = 0; j < nv; j++) tw_store_vec(c + i * ldc + j * TW_VW, acc[i][j]);
}

static __attribute__((noinline)) void tw_pixel_tile(int nv, int64_t blocks, const float *a, const float *b, float *c,
                                                    int64_t ldc, int first)
{
    if (nv == 2) tw_pixel_tile_body(2, blocks, a, b, c, ldc, first);
    else tw_pixel_tile_body(1, blocks, a, b, c, ldc, first);
}

/* Blocks [from, to) of all (tap, block) of a group, sampled for n pixels from q on: samples[block][pixel][lane]. */
static inline void tw_deform_chunk(const tw_deform *g, int64_t image, int64_t group, int64_t from, int64_t to, int64_t q,
                                   int64_t n, const tw_corners *corners, float *samples)
{
    const int64_t pitch = g->groups * g->blocks * TW_VW;
    const float *x = g->x + image * (g->H * g->W + 1) * pitch + group * g->blocks * TW_VW;
    tw_neighbours at;
    for (int64_t k = from; k < to;) {
        const int64_t tap = k / g->blocks, block = k % g->blocks, segment = block / g->segment_blocks;
        const int64_t rest = (segment + 1) * g->segment_blocks - block, run = rest < to - k ? rest : to - k;
        const int64_t whole = group * (g->blocks / g->segment_blocks) + segment;
        tw_deform_places(g, image, whole / g->segments_each, tap, q, n, corners, &at);
        tw_deform_sample(x + block * TW_VW, pitch, &at, n, run, samples + (k - from) * TW_MR * TW_VW);
        k += run;
    }
}

/* The sums of n pixels from q on, with the bias, as rows of y; pixels up to `end` may be written, being written later. */
static inline void tw_deform_store(const tw_deform *g, int64_t image, int64_t group, int64_t q, int64_t n, int64_t end,
                                   const float *sums)
{
    const int64_t pixels = g->oH * g->oW;
    float *y = g->y + (image * g->groups + group) * g->outs * pixels + q;
    for (int64_t o = 0; o < g->outs; o += TW_VW)
        for (int64_t i = 0; i < n; i += TW_VW) {
            const int64_t count = n - i < TW_VW ? n - i : TW_VW, loose = q + i + TW_VW <= end;
            tw_vec v[TW_VW];
#pragma GCC unroll 16
            for (int r = 0; r < TW_VW; r++) {
                if (r < count) v[r] = tw_load_vec(sums + (i + r) * g->width + o);
                else v[r] = (tw_vec){0};
            }
            tw_turn(v);
            for (int r = 0; r < TW_VW && o + r < g->outs; r++) {
                float *out = y + (o + r) * pixels + i;
                const tw_vec sum = v[r] + tw_splat(g->bias ? g->bias[group * g->outs + o + r] : 0.0f);
                if (loose) tw_store_vec(out, sum);
                else tw_store_some(out, sum, count);
            }
        }
}

/* Pixels [q, end) of one group of one image, at most TW_DEFORM_TILES register tiles of them; `rest` as for the store. */
static inline void tw_deform_pixels(const tw_deform *g, int64_t image, int64_t group, int64_t q, int64_t end,
                                    int64_t rest, float *sums)
{
    float samples[TW_DEFORM_FLOATS] __attribute__((aligned(64)));
    tw_corners corners[TW_DEFORM_TILES];
    const int64_t all = g->kernel[0] * g->kernel[1] * g->blocks, tiles = (end - q + TW_MR - 1) / TW_MR;
    const int64_t most = TW_DEFORM_FLOATS / (tiles * TW_MR * TW_VW), depth = all * TW_VW;
    for (int64_t t = 0; t < tiles; t++) corners[t] = tw_deform_corners(g, q + t * TW_MR);
    for (int64_t k = 0; k < all; k += most) {
        const int64_t count = most < all - k ? most : all - k, floats = count * TW_MR * TW_VW;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t at = q + t * TW_MR;
            tw_deform_chunk(g, image, group, k, k + count, at, end - at < TW_MR ? end - at : TW_MR, corners + t,
                            samples + t * floats);
        }
        const float *w = g->w + group * depth * g->width + k * TW_VW * TW_NR;
        for (int64_t o = 0; o < g->width; o += TW_NR) {
            const int nv = g->width - o > TW_VW ? 2 : 1;
            const float *panel = nv == 2 ? w + o * depth : g->w + group * depth * g->width + o * depth + k * TW_VW * TW_VW;
            for (int64_t t = 0; t < tiles; t++)
                tw_pixel_tile(nv, count, samples + t * floats, panel, sums + t * TW_MR * g->width + o, g->width, k == 0);
        }
    }
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t at = q + t * TW_MR;
        tw_deform_store(g, image, group, at, end - at < TW_MR ? end - at : TW_MR, rest, sums + t * TW_MR * g->width);
    }
}

static inline void tw_deform_run(const tw_deform *g, int64_t task)
{
    const int64_t pixels = g->oH * g->oW, runs = (pixels + g->per_task - 1) / g->per_task;
    const int64_t image = task / runs, first = task % runs * g->per_task, step = TW_DEFORM_TILES * TW_MR;
    const int64_t last = first + g->per_task < pixels ? first + g->per_task : pixels;
    float *sums = g->sums + task * step * g->width;
    for (int64_t q = first; q < last; q += step)
        for (int64_t group = 0; group < g->groups; group++)
            tw_deform_pixels(g, image, group, q, q + step < last ? q + step : last, last, sums);
}

/* Planes of one image turned into pixels: y[p][segment][lane] = x[segment * size + lane][p], zeros behind a segment. */
static inline void tw_pixels(float *y, const float *x, int64_t plane, int64_t from, int64_t to, int64_t segments,
                             int64_t size)
{
    const int64_t blocks = (size + TW_VW - 1) / TW_VW, pitch = segments * blocks * TW_VW;
    for (int64_t p = from; p < to; p += TW_VW)
        for (int64_t s = 0; s < segments; s++)
            for (int64_t b = 0; b < blocks; b++) {
                const int64_t first = b * TW_VW, rows = size - first < TW_VW ? size - first : TW_VW;
                tw_turn_block(y + p * pitch + (s * blocks + b) * TW_VW, pitch, x + (s * size + first) * plane + p, plane,
                              rows, to - p < TW_VW ? to - p : TW_VW, 1.0f, 1);
            }
}

#endif
