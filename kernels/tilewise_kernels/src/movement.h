/* Copies between strided arrays and by tables of offsets. Strides and offsets are in bytes; elements need no alignment. */
#ifndef TILEWISE_MOVEMENT_H
#define TILEWISE_MOVEMENT_H

#include <stdint.h>
#include <string.h>

typedef uint8_t tw_item1;
typedef uint16_t tw_item2 __attribute__((aligned(1), may_alias));
typedef uint32_t tw_item4 __attribute__((aligned(1), may_alias));
typedef uint64_t tw_item8 __attribute__((aligned(1), may_alias));
typedef uint64_t tw_item16 __attribute__((vector_size(16), aligned(1), may_alias));

#define TW_MAX_DIMS 32

/* A block of rows by columns, `dr`, `dc` and `sr`, `sc` their distances in the destination and the source. */
typedef void (*tw_block_t)(char *restrict d, const char *restrict s, int64_t rows, int64_t cols, int64_t dr,
                           int64_t dc, int64_t sr, int64_t sc);

#define TW_AT(T, p, i, stride) (*(T *)((p) + (i) * (stride)))

/* Rows that are contiguous in both; `dc` is the size of an element. */
static void tw_copy_rows(char *restrict d, const char *restrict s, int64_t rows, int64_t cols, int64_t dr, int64_t dc,
                         int64_t sr, int64_t sc)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy(d + r * dr, s + r * sr, cols * dc);
}

/* C contiguous rows of the source interleaved, and the reverse. */
#define TW_WEAVE(T, C)                                                                                               \
    static inline void tw_weave_##T##_##C(T *restrict d, const char *restrict s, int64_t n, int64_t sc)              \
    {                                                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                              \
            for (int c = 0; c < C; c++) d[C * i + c] = ((const T *)(s + c * sc))[i];                                 \
    }                                                                                                                \
    static inline void tw_unweave_##T##_##C(char *restrict d, const T *restrict s, int64_t n, int64_t dr)            \
    {                                                                                                                \
        for (int c = 0; c < C; c++) {                                                                                \
            T *restrict row = (T *)(d + c * dr);                                                                     \
            for (int64_t i = 0; i < n; i++) row[i] = s[C * i + c];                                                   \
        }                                                                                                            \
    }

/* Every stride that occurs often is a constant in its loop, so that the compiler makes vectors of it. */
#define TW_STRIDED(T)                                                                                                \
    static void tw_strided_##T(char *restrict d, const char *restrict s, int64_t rows, int64_t cols, int64_t dr,     \
                               int64_t dc, int64_t sr, int64_t sc)                                                   \
    {                                                                                                                \
        const int64_t size = sizeof(T);                                                                              \
        for (int64_t r = 0; r < rows; r++, d += dr, s += sr) {                                                       \
            if (dc != size) {                                                                                        \
                for (int64_t c = 0; c < cols; c++) TW_AT(T, d, c, dc) = TW_AT(const T, s, c, sc);                    \
            } else if (sc == 0) {                                                                                    \
                const T value = *(const T *)s;                                                                       \
                for (int64_t c = 0; c < cols; c++) ((T *)d)[c] = value;                                              \
            } else if (sc == -size) {                                                                                \
                for (int64_t c = 0; c < cols; c++) ((T *)d)[c] = ((const T *)s)[-c];                                 \
            } else if (sc == 2 * size) {                                                                             \
                for (int64_t c = 0; c < cols; c++) ((T *)d)[c] = ((const T *)s)[2 * c];                              \
            } else {                                                                                                 \
                for (int64_t c = 0; c < cols; c++) ((T *)d)[c] = TW_AT(const T, s, c, sc);                           \
            }                                                                                                        \
        }                                                                                                            \
    }

/* Columns are contiguous in the destination, rows in the source. Tiles are one cache line wide on both sides. */
#define TW_TRANSPOSE(T, TILE)                                                                                        \
    static void tw_transpose_##T(char *restrict d, const char *restrict s, int64_t rows, int64_t cols, int64_t dr,   \
                                 int64_t dc, int64_t sr, int64_t sc)                                                 \
    {                                                                                                                \
        const int64_t size = sizeof(T), wide = 64 / size;                                                            \
        if (dr == cols * size && cols == 2) return tw_weave_##T##_2((T *)d, s, rows, sc);                            \
        if (dr == cols * size && cols == 3) return tw_weave_##T##_3((T *)d, s, rows, sc);                            \
        if (dr == cols * size && cols == 4) return tw_weave_##T##_4((T *)d, s, rows, sc);                            \
        if (sc == rows * size && rows == 2) return tw_unweave_##T##_2(d, (const T *)s, cols, dr);                    \
        if (sc == rows * size && rows == 3) return tw_unweave_##T##_3(d, (const T *)s, cols, dr);                    \
        if (sc == rows * size && rows == 4) return tw_unweave_##T##_4(d, (const T *)s, cols, dr);                    \
        for (int64_t r0 = 0; r0 < rows; r0 += wide) {                                                                \
            const int64_t nr = rows - r0 < wide ? rows - r0 : wide;                                                  \
            for (int64_t c0 = 0; c0 < cols; c0 += wide) {                                                            \
                const int64_t nc = cols - c0 < wide ? cols - c0 : wide;                                              \
                TILE(T, d + r0 * dr + c0 * size, s + c0 * sc + r0 * size, nr, nc, dr, sc);                           \
            }                                                                                                        \
        }                                                                                                            \
    }

#define TW_PLAIN_TILE(T, d, s, nr, nc, dr, sc)                                                                       \
    for (int64_t r = 0; r < nr; r++)                                                                                 \
        for (int64_t c = 0; c < nc; c++)                                                                             \
            ((T *)((d) + r * dr))[c] = ((const T *)((s) + c * sc))[r]

/* Squares of L by L elements in vectors of 16 bytes: log2(L) rounds that interleave one half with the other. */
#define TW_VECTOR_TILE(T, L)                                                                                         \
    typedef T tw_lanes_##T __attribute__((vector_size(16), aligned(1), may_alias));                                  \
    static inline void tw_square_##T(char *restrict d, const char *restrict s, int64_t dr, int64_t sc)               \
    {                                                                                                                \
        tw_lanes_##T a[L], b[L], low, high;                                                                          \
        for (int i = 0; i < L; i++) {                                                                                \
            low[i] = i / 2 + (i & 1) * L;                                                                            \
            high[i] = L / 2 + i / 2 + (i & 1) * L;                                                                   \
        }                                                                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < L; i++) a[i] = *(const tw_lanes_##T *)(s + i * sc);             \
        _Pragma("GCC unroll 4") for (int n = 1; n < L; n *= 2) {                                                     \
            _Pragma("GCC unroll 8") for (int i = 0; i < L / 2; i++) {                                                \
                b[2 * i] = __builtin_shuffle(a[i], a[i + L / 2], low);                                               \
                b[2 * i + 1] = __builtin_shuffle(a[i], a[i + L / 2], high);                                          \
            }                                                                                                        \
            _Pragma("GCC unroll 16") for (int i = 0; i < L; i++) a[i] = b[i];                                        \
        }                                                                                                            \
        _Pragma("GCC unroll 16") for (int i = 0; i < L; i++) *(tw_lanes_##T *)(d + i * dr) = a[i];                   \
    }                                                                                                                \
    static inline void tw_tile_##T(char *restrict d, const char *restrict s, int64_t nr, int64_t nc, int64_t dr,     \
                                   int64_t sc)                                                                       \
    {                                                                                                                \
        const int64_t size = sizeof(T), rl = nr & -L, cl = nc & -L;                                                  \
        for (int64_t r = 0; r < rl; r += L)                                                                          \
            for (int64_t c = 0; c < cl; c += L)                                                                      \
                tw_square_##T(d + r * dr + c * size, s + c * sc + r * size, dr, sc);                                 \
        TW_PLAIN_TILE(T, d + cl * size, s + cl * sc, nr, nc - cl, dr, sc);                                           \
        TW_PLAIN_TILE(T, d + rl * dr, s + rl * size, nr - rl, cl, dr, sc);                                           \
    }

TW_VECTOR_TILE(tw_item1, 16)
TW_VECTOR_TILE(tw_item2, 8)
TW_VECTOR_TILE(tw_item4, 4)
TW_VECTOR_TILE(tw_item8, 2)

#define TW_SQUARES(T, d, s, nr, nc, dr, sc) tw_tile_##T(d, s, nr, nc, dr, sc)
#define TW_ITEM(T, TILE) TW_WEAVE(T, 2) TW_WEAVE(T, 3) TW_WEAVE(T, 4) TW_STRIDED(T) TW_TRANSPOSE(T, TILE)
TW_ITEM(tw_item1, TW_SQUARES)
TW_ITEM(tw_item2, TW_SQUARES)
TW_ITEM(tw_item4, TW_SQUARES)
TW_ITEM(tw_item8, TW_SQUARES)
TW_ITEM(tw_item16, TW_PLAIN_TILE)

#define TW_ROW(f) {f##_tw_item1, f##_tw_item2, f##_tw_item4, f##_tw_item8, f##_tw_item16}
static const tw_block_t TW_BLOCKS[3][5] = {
    {tw_copy_rows, tw_copy_rows, tw_copy_rows, tw_copy_rows, tw_copy_rows},
    TW_ROW(tw_strided),
    TW_ROW(tw_transpose),
};

/* Walks the blocks of a copy; `movement.pyx` says what the arguments are. */
static void tw_strided_copy(const int64_t *a, int64_t begin, int64_t end)
{
    char *d = (char *)(intptr_t)a[0];
    const char *s = (const char *)(intptr_t)a[1];
    const tw_block_t block = TW_BLOCKS[a[2]][__builtin_ctzll(a[3])];
    const int64_t last = end * a[4] < a[5] ? end * a[4] : a[5];
    const int64_t rows = a[6], cols = a[7], row_block = a[8], col_block = a[9], count = a[14], *dim = a + 15;
    int64_t at[TW_MAX_DIMS], unit = begin * a[4];
    for (int64_t j = count - 1, rest = unit; j >= 0; rest /= dim[3 * j], j--) {
        at[j] = rest % dim[3 * j];
        d += at[j] * dim[3 * j + 1];
        s += at[j] * dim[3 * j + 2];
    }
    for (; unit < last; unit++) {
        const int64_t r = rows - at[count - 2] * row_block, c = cols - at[count - 1] * col_block;
        block(d, s, r < row_block ? r : row_block, c < col_block ? c : col_block, a[10], a[11], a[12], a[13]);
        for (int64_t j = count - 1; j >= 0; j--) {
            d += dim[3 * j + 1];
            s += dim[3 * j + 2];
            if (++at[j] < dim[3 * j]) break;
            d -= at[j] * dim[3 * j + 1];
            s -= at[j] * dim[3 * j + 2];
            at[j] = 0;
        }
    }
}

#define TW_GATHER_CASE(T)                                                                                            \
    case sizeof(T):                                                                                                  \
        for (int64_t i = 0; i < n; i++) ((T *)d)[i] = *(const T *)(s + offsets[i]);                                  \
        return;

/* n blocks of `size` bytes that lie at `offsets` from s, one after the other. */
static inline void tw_gather_run(char *restrict d, const char *restrict s, const int64_t *restrict offsets, int64_t n,
                                 int64_t size)
{
    switch (size) {
        TW_GATHER_CASE(tw_item1)
        TW_GATHER_CASE(tw_item2)
        TW_GATHER_CASE(tw_item4)
        TW_GATHER_CASE(tw_item8)
        TW_GATHER_CASE(tw_item16)
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(d + i * size, s + offsets[i], size);
}

static void tw_gather_blocks(const int64_t *a, int64_t begin, int64_t end)
{
    char *d = (char *)(intptr_t)a[0];
    const char *s = (const char *)(intptr_t)a[1];
    const int64_t *offsets = (const int64_t *)(intptr_t)a[2];
    const int64_t count = a[3], size = a[4], outer = a[5];
    const int64_t last = end * a[6] < a[7] ? end * a[6] : a[7];
    for (int64_t i = begin * a[6]; i < last;) {
        const int64_t first = i % count, left = last - i;
        const int64_t n = count - first < left ? count - first : left;
        tw_gather_run(d + i * size, s + i / count * outer, offsets + first, n, size);
        i += n;
    }
}

#endif
