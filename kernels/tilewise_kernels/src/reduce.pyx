# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Reductions of float32 along one axis of (outer, rows, inner), and what maps by them: softmax, Lp normalization.

A kernel is cut into items, the same way for all of them, by four numbers of its arguments: `form`, `width`, `items` and
`grain` (items a task). SHORT: an item is `width` outer indices, whose few floats each are transposed side by side.
LONG: an item is one block of consecutive floats, folded to `width` columns. COLUMNS: an item is `width` columns of a
block.
"""

from columns cimport (
    TW_ABS, TW_EXP, TW_MAP_DIV, TW_MAP_EXP, TW_MAP_LOG, TW_MAP_MUL, TW_MAX, TW_MAX_WIDTH, TW_SQUARE, TW_SUM, tw_arg,
    tw_log, tw_lp_row, tw_map, tw_reduce, tw_softmax_row, tw_spread, tw_view,
)
from libc.math cimport INFINITY, fabsf, sqrtf
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.string cimport memset

cdef enum:
    SHORT = 0
    LONG = 1
    COLUMNS = 2
    BUFFER_FLOATS = 4096    # of the transposed blocks of an item

cdef enum Finish:
    NOTHING = 0
    DIVIDE = 1              # by a number
    ROOT = 2
    LOGARITHM = 3

ctypedef void (*fold_t)(float *acc, const float *x, const tw_view *v, const int64_t *a) noexcept nogil
ctypedef void (*map_t)(float *y, const float *x, const tw_view *v, const int64_t *a) noexcept nogil


cdef inline void transpose(float *dst, const float *src, int64_t rows, int64_t columns) noexcept nogil:
    """dst[column, row] = src[row, column]."""
    cdef int64_t i, j
    for i in range(rows):
        for j in range(columns):
            dst[j * rows + i] = src[i * columns + j]


cdef inline tw_view view_of(int64_t form, int64_t rows, int64_t inner, int64_t width) noexcept nogil:
    """The view of a block of `rows` rows of `inner` floats, or of `width` of its columns."""
    cdef tw_view v
    if form == LONG:
        v.rows = rows * inner // width
        v.tail = rows * inner % width
        v.period = inner
        v.ld = width
    else:
        v.rows = rows
        v.tail = 0
        v.period = width
        v.ld = inner
    v.w = width
    return v


cdef inline void put(void *y, int64_t at, const float *acc, int64_t stride, int64_t n, bint indices) noexcept nogil:
    """Store n results, found `stride` apart, as floats, or as int64 where they are int32 positions."""
    cdef int64_t i
    if indices:
        for i in range(n):
            (<int64_t *>y)[at + i] = (<const int32_t *>acc)[i * stride]
    else:
        for i in range(n):
            (<float *>y)[at + i] = acc[i * stride]


cdef inline void fold_items(const int64_t *a, int64_t begin, int64_t end, fold_t fold, bint indices) noexcept nogil:
    """Call `fold` for each item and store its results.

    args: 0 y, 1 x, 2 outer, 3 rows, 4 inner, 5 form, 6 width, 7 items, 8 grain, 9 rows of a part; y is [outer, parts,
    inner], where a part is the reduction of some of the rows.
    """
    cdef float acc[TW_MAX_WIDTH]
    cdef float buffer[BUFFER_FLOATS]
    cdef void *y = <void *><uintptr_t>a[0]
    cdef const float *x = <const float *><uintptr_t>a[1]
    cdef int64_t rows = a[3], inner = a[4], width = a[6], block = rows * inner
    cdef int64_t parts = (rows + a[9] - 1) // a[9]
    cdef int64_t tiles = (inner + width - 1) // width if a[5] == COLUMNS else 1
    cdef int64_t item, i, n, column, part, first
    cdef tw_view v
    for item in range(begin * a[8], min(end * a[8], a[7])):
        if a[5] == SHORT:
            first = item * width
            n = min(width, a[2] - first)
            transpose(buffer, x + first * block, n, block)
            v = view_of(COLUMNS, rows, inner * n, inner * n)
            fold(acc, buffer, &v, a)
            for i in range(n):
                put(y, (first + i) * inner, acc + i, n, inner, indices)
            continue
        column = item % tiles * width
        part = item // tiles % parts
        first = item // tiles // parts
        n = min(a[9], rows - part * a[9])
        v = view_of(a[5], n, inner, min(width, inner - column) if a[5] == COLUMNS else width)
        fold(acc, x + (first * rows + part * a[9]) * inner + column, &v, a)
        put(y, (first * parts + part) * inner + column, acc, 1, v.period, indices)


cdef inline void map_items(const int64_t *a, int64_t begin, int64_t end, map_t apply) noexcept nogil:
    """Call `apply` for each item.

    args: 0 y, 1 x, 2 outer, 3 rows, 4 inner, 5 form, 6 width, 7 items, 8 grain; y is as large as x and may be x.
    """
    cdef float buffer[BUFFER_FLOATS]
    cdef float *y = <float *><uintptr_t>a[0]
    cdef const float *x = <const float *><uintptr_t>a[1]
    cdef int64_t rows = a[3], inner = a[4], width = a[6], block = rows * inner
    cdef int64_t tiles = (inner + width - 1) // width if a[5] == COLUMNS else 1
    cdef int64_t item, n, at
    cdef tw_view v
    for item in range(begin * a[8], min(end * a[8], a[7])):
        if a[5] == SHORT:
            at = item * width * block
            n = min(width, a[2] - item * width)
            transpose(buffer, x + at, n, block)
            v = view_of(COLUMNS, rows, inner * n, inner * n)
            apply(buffer, buffer, &v, a)
            transpose(y + at, buffer, block, n)
            continue
        n = item % tiles * width
        v = view_of(a[5], rows, inner, min(width, inner - n) if a[5] == COLUMNS else width)
        at = item // tiles * block + n
        apply(y + at, x + at, &v, a)


cdef void fold_plain(float *acc, const float *x, const tw_view *v, const int64_t *a) noexcept nogil:
    cdef int64_t j
    cdef float n
    tw_reduce(<int>a[10], acc, x, NULL, v)
    if a[11] == DIVIDE:
        n = <float>(<const double *>(a + 12))[0]
        for j in range(v.period):
            acc[j] = acc[j] / n
    elif a[11] == ROOT:
        for j in range(v.period):
            acc[j] = sqrtf(acc[j])
    elif a[11] == LOGARITHM:
        for j in range(v.period):
            acc[j] = tw_log(acc[j])


cdef void fold_log_sum_exp(float *acc, const float *x, const tw_view *v, const int64_t *a) noexcept nogil:
    cdef float top[TW_MAX_WIDTH]
    cdef int64_t j
    tw_reduce(TW_MAX, top, x, NULL, v)
    for j in range(v.period):
        top[j] = top[j] if fabsf(top[j]) < <float>INFINITY else 0
    tw_spread(top, v)
    tw_reduce(TW_EXP, acc, x, top, v)
    for j in range(v.period):
        acc[j] = tw_log(acc[j]) + top[j]


cdef void fold_arg(float *acc, const float *x, const tw_view *v, const int64_t *a) noexcept nogil:
    tw_arg(<int32_t *>acc, x, <float>a[10], <int>a[11], v)


cdef void map_softmax(float *y, const float *x, const tw_view *v, const int64_t *a) noexcept nogil:
    cdef float top[TW_MAX_WIDTH]
    cdef float total[TW_MAX_WIDTH]
    cdef int64_t j
    if a[5] == LONG and v.period == 1:
        tw_softmax_row(y, x, a[3], <int>a[9])
        return
    tw_reduce(TW_MAX, top, x, NULL, v)
    tw_spread(top, v)
    if a[9]:
        tw_reduce(TW_EXP, total, x, top, v)
        for j in range(v.period):
            total[j] = tw_log(total[j])
        tw_spread(total, v)
        tw_map(TW_MAP_LOG, y, x, top, total, v)
        return
    tw_map(TW_MAP_EXP, y, x, top, NULL, v)
    tw_reduce(TW_SUM, total, y, NULL, v)
    for j in range(v.period):
        total[j] = 1 / total[j]
    tw_spread(total, v)
    tw_map(TW_MAP_MUL, y, y, total, NULL, v)


cdef void map_lp(float *y, const float *x, const tw_view *v, const int64_t *a) noexcept nogil:
    cdef float total[TW_MAX_WIDTH]
    cdef int64_t j
    if a[5] == LONG and v.period == 1:
        tw_lp_row(y, x, a[3], a[9])
        return
    tw_reduce(TW_ABS if a[9] == 1 else TW_SQUARE, total, x, NULL, v)
    if a[9] == 2:
        for j in range(v.period):
            total[j] = sqrtf(total[j])
    tw_spread(total, v)
    tw_map(TW_MAP_DIV, y, x, total, NULL, v)


cdef void reduce(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: 0-9 as `fold_items`, 10 how a row is taken (columns.h), 11 Finish, 12 the divisor (a double)."""
    fold_items(a, begin, end, fold_plain, False)


cdef void reduce_log_sum_exp(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: 0-9 as `fold_items`."""
    fold_items(a, begin, end, fold_log_sum_exp, False)


cdef void arg_max(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y holds int64. args: 0-9 as `fold_items` (one part), 10 sign (-1: least), 11 last of equals."""
    fold_items(a, begin, end, fold_arg, True)


cdef void softmax(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: 0-8 as `map_items`, 9 whether the logarithm is wanted (then y must not be x)."""
    map_items(a, begin, end, map_softmax)


cdef void lp_normalize(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: 0-8 as `map_items`, 9 p (1 or 2)."""
    map_items(a, begin, end, map_lp)


cdef void hardmax(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[o, index[o, i], i] = 1 and 0 elsewhere.

    args: 0 y, 1 index (int64), 2 outer, 3 rows, 4 inner, 5 outer a task.
    """
    cdef int64_t o, i, block = a[3] * a[4]
    cdef float *y
    cdef const int64_t *index
    for o in range(begin * a[5], min(end * a[5], a[2])):
        y = <float *><uintptr_t>a[0] + o * block
        index = <const int64_t *><uintptr_t>a[1] + o * a[4]
        memset(y, 0, block * sizeof(float))
        for i in range(a[4]):
            y[index[i] * a[4] + i] = 1


cdef inline void scan_row(float *y, const float *x, int64_t n, int64_t step, bint exclusive,
                          bint product) noexcept nogil:
    """Running sums or products of n floats, `step` apart."""
    cdef float total = <float>product, before
    cdef int64_t i
    for i in range(n):
        before = total
        total = total * x[i * step] if product else total + x[i * step]
        y[i * step] = before if exclusive else total


cdef inline void scan_columns(float *y, const float *x, int64_t rows, int64_t step, int64_t w, bint exclusive,
                              bint product) noexcept nogil:
    """Running sums or products down `w` columns; rows are `step` floats apart."""
    cdef int64_t r, j
    cdef const float *before
    for j in range(w):
        y[j] = <float>product if exclusive else x[j]
    if not exclusive:
        x += step
    for r in range(1, rows):
        before = y
        y += step
        if product:
            for j in range(w):
                y[j] = before[j] * x[j]
        else:
            for j in range(w):
                y[j] = before[j] + x[j]
        x += step


cdef void scan(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Running sums or products along rows; an item is `width` columns of a block.

    args: 0 y, 1 x, 2 outer, 3 rows, 4 inner, 5 width, 6 grain, 7 exclusive, 8 reverse, 9 product.
    """
    cdef int64_t rows = a[3], inner = a[4], width = a[5]
    cdef int64_t tiles = (inner + width - 1) // width
    cdef int64_t item, column, at
    for item in range(begin * a[6], min(end * a[6], a[2] * tiles)):
        column = item % tiles * width
        at = item // tiles * rows * inner + column
        if a[8]:
            at += (rows - 1) * inner
        if inner == 1:
            scan_row(<float *><uintptr_t>a[0] + at, <const float *><uintptr_t>a[1] + at, rows, -1 if a[8] else 1, a[7],
                     a[9])
            continue
        scan_columns(<float *><uintptr_t>a[0] + at, <const float *><uintptr_t>a[1] + at, rows,
                     -inner if a[8] else inner, min(width, inner - column), a[7], a[9])


KERNELS = {
    "arg_max": <uintptr_t>&arg_max,
    "hardmax": <uintptr_t>&hardmax,
    "lp_normalize": <uintptr_t>&lp_normalize,
    "reduce": <uintptr_t>&reduce,
    "reduce_log_sum_exp": <uintptr_t>&reduce_log_sum_exp,
    "scan": <uintptr_t>&scan,
    "softmax": <uintptr_t>&softmax,
}
