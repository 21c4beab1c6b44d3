/* The walk over broadcast operands that binary and ternary element-wise kernels share.
 *
 * args of such a kernel with k operands: dst, src[k], size, grain, rank, dims[rank], strides[k][rank].
 * The output is C-contiguous and has `size` elements of shape `dims`; strides are in elements, and the last one of an
 * operand is 0 or 1. Task i computes elements [i * grain, (i + 1) * grain).
 */
#ifndef TILEWISE_BROADCAST_H
#define TILEWISE_BROADCAST_H

#include <stdint.h>

#define TW_MAX_OPERANDS 3
#define TW_MAX_RANK 8
#define TW_SHORT_ROW 32 /* rows shorter than this are gathered into blocks first */
#define TW_BLOCK 512    /* elements of a block */

/* Computes n elements; operand k advances by step[k], 0 or 1, an element. */
typedef void tw_row(void *out, const void *const *in, const int64_t *step, int64_t n);

typedef struct {
    char *dst;
    const int64_t *src, *dims, *strides;
    int64_t size, grain, rank;
} tw_walk_args;

static inline tw_walk_args tw_parse_walk(const int64_t *a, int operands)
{
    tw_walk_args w;
    w.dst = (char *)(uintptr_t)a[0];
    w.src = a + 1;
    w.size = a[1 + operands];
    w.grain = a[2 + operands];
    w.rank = a[3 + operands];
    w.dims = a + 4 + operands;
    w.strides = w.dims + w.rank;
    return w;
}

/* Splits the flat index of an element into outer indices and a column; returns the column. */
static inline int64_t tw_unravel(const int64_t *dims, int64_t rank, int64_t flat, int64_t *index)
{
    const int64_t column = flat % dims[rank - 1];
    flat /= dims[rank - 1];
    for (int64_t d = rank - 2; d >= 0; d--) {
        index[d] = flat % dims[d];
        flat /= dims[d];
    }
    return column;
}

static inline int64_t tw_offset(const int64_t *index, const int64_t *strides, int64_t rank)
{
    int64_t offset = 0;
    for (int64_t d = 0; d < rank - 1; d++) offset += index[d] * strides[d];
    return offset;
}

/* Steps to the next row. */
static inline void tw_advance(const int64_t *dims, int64_t rank, int64_t *index)
{
    for (int64_t d = rank - 2; d >= 0; d--) {
        if (++index[d] < dims[d]) return;
        index[d] = 0;
    }
}

#define TW_COPY_ROW(T)                                          \
    {                                                           \
        T *d = (T *)dst;                                        \
        const T *s = (const T *)src;                            \
        for (int64_t i = 0; i < n; i++) d[i] = s[i * step];     \
        break;                                                  \
    }

static inline void tw_copy_row(char *dst, const char *src, int64_t n, int64_t step, int64_t itemsize)
{
    switch (itemsize) {
    case 1: TW_COPY_ROW(uint8_t)
    case 2: TW_COPY_ROW(uint16_t)
    case 4: TW_COPY_ROW(uint32_t)
    default: TW_COPY_ROW(uint64_t)
    }
}

#undef TW_COPY_ROW

/* Writes n elements of operand k, broadcast, from flat index `flat` on. */
static void tw_gather(const tw_walk_args *w, int k, int64_t itemsize, int64_t flat, int64_t n, char *dst)
{
    const char *src = (const char *)(uintptr_t)w->src[k];
    const int64_t *strides = w->strides + k * w->rank;
    const int64_t inner = w->dims[w->rank - 1], step = strides[w->rank - 1];
    int64_t index[TW_MAX_RANK];
    int64_t column = tw_unravel(w->dims, w->rank, flat, index);
    while (n > 0) {
        const int64_t m = inner - column < n ? inner - column : n;
        const int64_t from = tw_offset(index, strides, w->rank) + column * step;
        tw_copy_row(dst, src + from * itemsize, m, step, itemsize);
        dst += m * itemsize;
        n -= m;
        column = 0;
        tw_advance(w->dims, w->rank, index);
    }
}

/* 1 where operand k is not broadcast, -1 where it repeats its last axis alone, else 0. */
static inline int tw_pattern(const tw_walk_args *w, int k)
{
    const int64_t *strides = w->strides + k * w->rank;
    int64_t dense = 1, outer = 0;
    int full = 1;
    for (int64_t d = w->rank - 1; d >= 0; d--) {
        full &= strides[d] == dense;
        outer |= d < w->rank - 1 ? strides[d] : 0;
        dense *= w->dims[d];
    }
    return full ? 1 : outer == 0 ? -1 : 0;
}

static void tw_walk_short(const tw_walk_args *w, int64_t lo, int64_t hi, int operands, int64_t out_size,
                          const int64_t *sizes, tw_row *row)
{
    static const int64_t ones[TW_MAX_OPERANDS] = {1, 1, 1};
    uint64_t buffers[TW_MAX_OPERANDS][TW_BLOCK];
    const void *in[TW_MAX_OPERANDS];
    int pattern[TW_MAX_OPERANDS];
    const int64_t inner = w->dims[w->rank - 1], block = TW_BLOCK / inner * inner, first = lo;
    for (int k = 0; k < operands; k++) pattern[k] = tw_pattern(w, k);
    for (; lo < hi; lo += block) {
        const int64_t n = hi - lo < block ? hi - lo : block;
        for (int k = 0; k < operands; k++) {
            in[k] = pattern[k] == 1 ? (const char *)(uintptr_t)w->src[k] + lo * sizes[k] : (const char *)buffers[k];
            if (pattern[k] == 0 || (pattern[k] == -1 && lo == first)) /* a block is whole rows: it repeats */
                tw_gather(w, k, sizes[k], lo, n, (char *)buffers[k]);
        }
        row(w->dst + lo * out_size, in, ones, n);
    }
}

static void tw_walk_long(const tw_walk_args *w, int64_t lo, int64_t hi, int operands, int64_t out_size,
                         const int64_t *sizes, tw_row *row)
{
    int64_t index[TW_MAX_RANK], step[TW_MAX_OPERANDS];
    const void *in[TW_MAX_OPERANDS];
    const int64_t inner = w->dims[w->rank - 1];
    int64_t column = tw_unravel(w->dims, w->rank, lo, index);
    for (int k = 0; k < operands; k++) step[k] = w->strides[(k + 1) * w->rank - 1];
    while (lo < hi) {
        const int64_t n = inner - column < hi - lo ? inner - column : hi - lo;
        for (int k = 0; k < operands; k++) {
            const int64_t from = tw_offset(index, w->strides + k * w->rank, w->rank) + column * step[k];
            in[k] = (const char *)(uintptr_t)w->src[k] + from * sizes[k];
        }
        row(w->dst + lo * out_size, in, step, n);
        lo += n;
        column = 0;
        tw_advance(w->dims, w->rank, index);
    }
}

/* Runs tasks [begin, end). sizes: bytes of an element of each operand, at most 8. */
static void tw_walk(const int64_t *a, int64_t begin, int64_t end, int operands, int64_t out_size,
                    const int64_t *sizes, tw_row *row)
{
    const tw_walk_args w = tw_parse_walk(a, operands);
    const int64_t lo = begin * w.grain, hi = end * w.grain < w.size ? end * w.grain : w.size;
    const int rows_are_short = w.rank > 1 && w.dims[w.rank - 1] < TW_SHORT_ROW;
    (rows_are_short ? tw_walk_short : tw_walk_long)(&w, lo, hi, operands, out_size, sizes, row);
}

#endif
