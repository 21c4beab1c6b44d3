# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Matrix products on the register tile. Convolutions are matrix products whose right side lies in the image."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memset
from tile cimport (
    CLIP, TW_MR, TW_VW, lower_bound, number, tw_activate, tw_add_rows, tw_copy_row, tw_dot, tw_dots, tw_tile,
    upper_bound,
)

cdef extern from "tile_rows.h" nogil:
    void tw_tile_rows(int mr, int nv, int64_t k_count, const float *a, int64_t lda, const float *b, const int64_t *off,
                      float *c, int64_t ldc, const float *bias, const float *init, int64_t ldi, float lo, float hi)

cdef extern from "transpose.h" nogil:
    void tw_zip_row(float *dst, const float *a, const float *b, int64_t n)
    void tw_expect(const float *p, int64_t n)
    void tw_turn_over(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows, int64_t columns, float scale,
                      int64_t slack)
    void tw_gather_over(float *dst, int64_t ldd, const float *src, int64_t lds, int64_t rows, int64_t columns,
                        float scale)

cdef enum:
    MAX_MR = 16
    MAX_NR = 32
    K_BLOCK = 512


cdef struct Product:
    const int64_t *runs
    const float *x
    const float *w
    const int64_t *off
    float *y
    const float *bias
    const float *residual
    int64_t k, row_stride, column_stride, residual_row, residual_column, activation
    float alpha, beta, lo, hi


cdef inline void scatter(const float *src, float *dst, int64_t step, int64_t n) noexcept nogil:
    cdef int64_t j
    if step == 1:
        tw_copy_row(dst, src, n, 1, False)
    else:
        for j in range(n):
            dst[j * step] = src[j]


cdef inline void gather(const float *src, int64_t step, float *dst, int64_t n) noexcept nogil:
    cdef int64_t j
    for j in range(n):
        dst[j] = src[j * step]


cdef void gather_residual(Product *p, const float *residual, int64_t mr, int64_t width, const int64_t *run,
                          int64_t count, float *tile) noexcept nogil:
    """The residual as a tile's starting sums, so that the activation comes after it."""
    cdef int64_t i, r
    memset(tile, 0, mr * width * sizeof(float))
    for i in range(mr):
        for r in range(count):
            gather(residual + i * p.residual_row + run[3 * r + 2] * p.residual_column,
                   p.column_stride * p.residual_column, tile + i * width + run[3 * r], run[3 * r + 1])


cdef inline bint stores_in_place(Product *p, const int64_t *run, int64_t count, int64_t width) noexcept nogil:
    """True where a tile may be stored as it comes out of the registers: all of it, side by side, and final."""
    if p.activation > CLIP or p.column_stride != 1 or count != 1 or run[1] != width:
        return False
    return p.residual == NULL or p.residual_column == 1


cdef inline void tile(Product *p, int64_t mr, int64_t nv, const float *w, int64_t lda, const float *x, float *y,
                      int64_t ldy, const float *bias, const float *residual, int64_t ldr) noexcept nogil:
    """The register tile of w: packed for an lda of 0, else rows so far apart."""
    if lda == 0:
        tw_tile(<int>mr, <int>nv, p.k, w, x, p.off, y, ldy, bias, residual, ldr, p.lo, p.hi)
    else:
        tw_tile_rows(<int>mr, <int>nv, p.k, w, lda, x, p.off, y, ldy, bias, residual, ldr, p.lo, p.hi)


cdef inline void tile_panel(Product *p, const float *w, int64_t lda, const int64_t *panel, int64_t row,
                            int64_t mr) noexcept nogil:
    """Rows [row, row + mr) of one panel; w, lda: their tile."""
    cdef float[MAX_MR * MAX_NR] sums
    cdef int64_t nv = panel[1], width = nv * TW_VW, count = panel[3], i, r
    cdef const int64_t *run = p.runs + 3 * panel[2]
    cdef const float *bias = NULL if p.bias == NULL else p.bias + row
    cdef float *y = p.y + row * p.row_stride
    cdef const float *residual = NULL if p.residual == NULL else p.residual + row * p.residual_row
    if stores_in_place(p, run, count, width):
        y += run[2]
        if residual != NULL:
            residual += run[2]
        tile(p, mr, nv, w, lda, p.x + panel[0], y, p.row_stride, bias, residual, p.residual_row)
        return
    if residual != NULL:
        gather_residual(p, residual, mr, width, run, count, sums)
        residual = sums
    tile(p, mr, nv, w, lda, p.x + panel[0], sums, width, bias, residual, width)
    if p.activation > CLIP:
        tw_activate(<int>p.activation, sums, mr * width, p.alpha, p.beta)
    for i in range(mr):
        for r in range(count):
            scatter(sums + i * width + run[3 * r], y + i * p.row_stride + run[3 * r + 2], p.column_stride,
                    run[3 * r + 1])


cdef void set_product(Product *p, const int64_t *a) noexcept nogil:
    """What all tasks of a product share, from the arguments of `tile_gemm`."""
    p.runs = <const int64_t *><uintptr_t>a[7]
    p.off = <const int64_t *><uintptr_t>a[2]
    p.k = a[8]
    p.row_stride = a[20]
    p.column_stride = a[21]
    p.residual_row = a[26]
    p.residual_column = a[27]
    p.activation = a[22]
    p.alpha = <float>number(a + 23)
    p.beta = <float>number(a + 24)
    p.lo = lower_bound(p.activation, p.alpha)
    p.hi = upper_bound(p.activation, p.beta)


cdef void tile_gemm(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, g, row, columns] = act(sum_k w[n, g, row, k] * x[n, g, off[k] + columns] + bias[g, row] + residual).

    args: 0 x, 1 w (tiles of `mr` rows, each [k][rows]), 2 offsets [k], 3 y, 4 bias or 0, 5 residual or 0,
    6 panels [.][4] (x offset, vectors, first run, runs), 7 runs [.][3] (column in the panel, length, y offset),
    8 k, 9 rows a group, 10 groups, 11 panels, 12 panels a task, 13 row tiles a task, 14 mr,
    15-16 x strides of n and group, 17-18 w strides of n and group, 19-21 y strides of n, row and column,
    22 activation, 23-24 its alpha and beta, 25-26 residual strides of n and row, 27 residual column stride in units of
    y's (0 or 1). Task: (((n * groups + g) * panel blocks + pb) * row blocks + rb).
    All strides count floats.
    """
    cdef Product p
    cdef int64_t tiles = (a[9] + a[14] - 1) // a[14]
    cdef int64_t row_blocks = (tiles + a[13] - 1) // a[13]
    cdef int64_t panel_blocks = (a[11] + a[12] - 1) // a[12]
    cdef int64_t task, rb, pb, g, n, t, i, row, mr
    cdef const int64_t *panels = <const int64_t *><uintptr_t>a[6]
    set_product(&p, a)
    for task in range(begin, end):
        rb = task % row_blocks
        pb = (task // row_blocks) % panel_blocks
        g = (task // (row_blocks * panel_blocks)) % a[10]
        n = task // (row_blocks * panel_blocks * a[10])
        p.x = <const float *><uintptr_t>a[0] + n * a[15] + g * a[16]
        p.w = <const float *><uintptr_t>a[1] + n * a[17] + g * a[18]
        p.y = <float *><uintptr_t>a[3] + n * a[19] + g * a[9] * a[20]
        p.bias = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + g * a[9]
        p.residual = NULL if a[5] == 0 else <const float *><uintptr_t>a[5] + n * a[25] + g * a[9] * a[26]
        for t in range(rb * a[13], min((rb + 1) * a[13], tiles)):
            row = t * a[14]
            mr = min(a[14], a[9] - row)
            for i in range(pb * a[12], min((pb + 1) * a[12], a[11])):
                tile_panel(&p, p.w + row * p.k, 0, panels + 4 * i, row, mr)


cdef struct Zip:
    const float *x
    const float *w
    const int64_t *off
    const float *bias
    const int64_t *runs
    int64_t row_stride


cdef void zip_panel(Zip *p, const int64_t *panel, const int64_t *pair, int64_t row, int64_t mr, float *y) noexcept nogil:
    """Two tiles of one panel, their columns taking turns in y."""
    cdef float[MAX_MR * MAX_NR] even
    cdef float[MAX_MR * MAX_NR] odd
    cdef float[2 * MAX_NR] both
    cdef int64_t nv = panel[1], width = nv * TW_VW, i, r
    cdef const int64_t *run = p.runs + 3 * panel[2]
    cdef const float *x = p.x + panel[0]
    cdef float lo = lower_bound(0, 0), hi = upper_bound(0, 0)
    for i in range(mr):
        for r in range(panel[3]):
            tw_expect(y + i * p.row_stride + run[3 * r + 2], run[3 * r + 1])
    tw_tile(<int>mr, <int>nv, pair[2], p.w + pair[0] + row * pair[2], x, p.off + pair[1], even, width, p.bias, NULL, 0,
            lo, hi)
    tw_tile(<int>mr, <int>nv, pair[5], p.w + pair[3] + row * pair[5], x, p.off + pair[4], odd, width, p.bias, NULL, 0,
            lo, hi)
    for i in range(mr):
        if panel[3] == 1 and run[1] == 2 * width:
            tw_zip_row(y + run[2], even + i * width, odd + i * width, width)
        else:
            tw_zip_row(both, even + i * width, odd + i * width, width)
            for r in range(panel[3]):
                tw_copy_row(y + run[3 * r + 2], both + 2 * run[3 * r], run[3 * r + 1], 1, False)
        y += p.row_stride


cdef void tile_gemm_zip(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[n, g, row, at + 2 * column + p] = sum_k w_p[g, row, k] * x[n, g, off_p[k] + column] + bias[g, row], p 0 and 1.

    args: 0 x, 1 w, 2 offsets, 3 y, 4 bias or 0, 5 panels [.][4] and 6 runs [.][3] as in `tile_gemm`, but a run's length
    counts floats of y, 7 pairs, 8 [pairs][7]: where w and offsets of p = 0 begin, their k, the same for p = 1, at;
    9 rows a group, 10 groups, 11 panels, 12 panels a task, 13 row tiles a task, 14 mr, 15-16 x strides of n and group,
    17-18 y strides of n and row. w of a pair's p: [group][tiles]. Task as in `tile_gemm`.
    """
    cdef int64_t tiles = (a[9] + a[14] - 1) // a[14]
    cdef int64_t row_blocks = (tiles + a[13] - 1) // a[13]
    cdef int64_t panel_blocks = (a[11] + a[12] - 1) // a[12]
    cdef int64_t task, rb, pb, g, n, t, i, j, row
    cdef const int64_t *panels = <const int64_t *><uintptr_t>a[5]
    cdef const int64_t *pairs = <const int64_t *><uintptr_t>a[8]
    cdef float *y
    cdef Zip p
    p.w = <const float *><uintptr_t>a[1]
    p.off = <const int64_t *><uintptr_t>a[2]
    p.runs = <const int64_t *><uintptr_t>a[6]
    p.row_stride = a[18]
    for task in range(begin, end):
        rb = task % row_blocks
        pb = (task // row_blocks) % panel_blocks
        g = (task // (row_blocks * panel_blocks)) % a[10]
        n = task // (row_blocks * panel_blocks * a[10])
        p.x = <const float *><uintptr_t>a[0] + n * a[15] + g * a[16]
        y = <float *><uintptr_t>a[3] + n * a[17] + g * a[9] * a[18]
        for i in range(pb * a[12], min((pb + 1) * a[12], a[11])):
            for j in range(a[7]):
                for t in range(rb * a[13], min((rb + 1) * a[13], tiles)):
                    row = t * a[14]
                    p.bias = NULL if a[4] == 0 else <const float *><uintptr_t>a[4] + g * a[9] + row
                    zip_panel(&p, panels + 4 * i, pairs + 7 * j, g * a[9] + row, min(a[14], a[9] - row),
                              y + row * a[18] + pairs[7 * j + 6])


cdef inline void pack(float *dst, int64_t pitch, const float *src, int64_t step, int64_t k_step, int64_t count,
                      int64_t k, float scale, int64_t slack) noexcept nogil:
    """dst[i * pitch + j] = scale * src[j * step + i * k_step] for j in [0, count) and i in [0, k).

    slack: floats behind dst that may be written.
    """
    cdef int64_t i, j
    if k_step == 1:
        tw_turn_over(dst, pitch, src, step, count, k, scale, slack)
    elif step == 1:
        tw_gather_over(dst, pitch, src, k_step, count, k, scale)
    else:
        for i in range(k):
            for j in range(count):
                dst[i * pitch + j] = scale * src[j * step + i * k_step]


cdef void pack_rows(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """A matrix of each of n images as the row tiles that `tile_gemm` takes for `w`.

    args: 0 dst, 1 src, 2 rows, 3 k, 4 mr, 5 row stride, 6 k stride, 7 image stride of src, 8 scale.
    Task: image * tiles + tile.
    """
    cdef int64_t tiles = (a[2] + a[4] - 1) // a[4]
    cdef int64_t task, row, mr
    for task in range(begin, end):
        row = (task % tiles) * a[4]
        mr = min(a[4], a[2] - row)
        pack(<float *><uintptr_t>a[0] + (task // tiles) * a[2] * a[3] + row * a[3], mr,
             <const float *><uintptr_t>a[1] + (task // tiles) * a[7] + row * a[5], a[5], a[6], mr, a[3],
             <float>number(a + 8), 0)


cdef void pack_columns(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """A matrix of each of n images as panels [panel][k][width], the last one filled up with zeros.

    args: 0 dst, 1 src, 2 columns, 3 k, 4 width, 5 column stride, 6 k stride, 7 image stride of src.
    Task: image * panels + panel.
    """
    cdef int64_t panels = (a[2] + a[4] - 1) // a[4]
    cdef int64_t task, column, width
    cdef float *dst
    for task in range(begin, end):
        column = (task % panels) * a[4]
        width = min(a[4], a[2] - column)
        dst = <float *><uintptr_t>a[0] + task * a[4] * a[3]
        if width < a[4]:
            memset(dst, 0, a[3] * a[4] * sizeof(float))
        pack(dst, a[4], <const float *><uintptr_t>a[1] + (task // panels) * a[7] + column * a[5], a[5], a[6], width,
             a[3], 1, 0)


cdef void matmul_part(Product *p, const int64_t *a, int64_t image, int64_t first, int64_t k) noexcept nogil:
    """`p` for [first, first + k) of all a[8] rows of the right side: sums go on in y, and are final behind the last."""
    p.w = <const float *><uintptr_t>a[1] + image * a[17] + first * a[29]
    p.off = <const int64_t *><uintptr_t>a[2] + first
    p.k = k
    if first == 0:
        p.residual = NULL if a[5] == 0 else <const float *><uintptr_t>a[5] + image * a[25]
        p.bias = <const float *><uintptr_t>a[4]
        p.residual_row = a[26]
        p.residual_column = a[27]
    else:
        p.residual = p.y
        p.bias = NULL
        p.residual_row = p.row_stride
        p.residual_column = 1
    p.activation = a[22] if first + k == a[8] else 0
    p.lo = lower_bound(p.activation, p.alpha)
    p.hi = upper_bound(p.activation, p.beta)


cdef void tile_matmul(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """`tile_gemm` of one group, of w as it lies: packed tile by tile or read in place, some of k at once.

    args: 0 to 27 as for `tile_gemm`, with 1 group and y's column stride 1, 28-29 w strides of row and k, 30 scale of w,
    31 k at once, at most K_BLOCK, 32 0 or w's row stride to read rows as they lie, of k stride 1 and scale 1.
    """
    cdef float[MAX_MR * K_BLOCK + MAX_NR] packed
    cdef Product p
    cdef int64_t tiles = (a[9] + a[14] - 1) // a[14]
    cdef int64_t row_blocks = (tiles + a[13] - 1) // a[13]
    cdef int64_t panel_blocks = (a[11] + a[12] - 1) // a[12]
    cdef int64_t task, rb, pb, n, first, k, t, i, row, mr
    cdef const float *w
    cdef const int64_t *panels = <const int64_t *><uintptr_t>a[6]
    set_product(&p, a)
    for task in range(begin, end):
        rb = task % row_blocks
        pb = (task // row_blocks) % panel_blocks
        n = task // (row_blocks * panel_blocks)
        p.x = <const float *><uintptr_t>a[0] + n * a[15]
        p.y = <float *><uintptr_t>a[3] + n * a[19]
        first = 0
        while first < a[8]:
            k = min(a[31], a[8] - first)
            matmul_part(&p, a, n, first, k)
            for t in range(rb * a[13], min((rb + 1) * a[13], tiles)):
                row = t * a[14]
                mr = min(a[14], a[9] - row)
                w = p.w + row * a[28]
                if a[32] == 0:
                    pack(packed, mr, w, a[28], a[29], mr, k, <float>number(a + 30), MAX_NR)
                    w = packed
                for i in range(pb * a[12], min((pb + 1) * a[12], a[11])):
                    tile_panel(&p, w, a[32], panels + 4 * i, row, mr)
            first += k


cdef inline void dots(const int64_t *a, int64_t begin, int64_t end, int64_t m_step, int64_t row_step) noexcept nogil:
    """`gemv` with steps in y from m to m and from row to row."""
    cdef const float *x = <const float *><uintptr_t>a[0]
    cdef const float *w = <const float *><uintptr_t>a[1]
    cdef const float *bias = <const float *><uintptr_t>a[3]
    cdef float *y = <float *><uintptr_t>a[2]
    cdef float *to
    cdef int64_t k = a[6], m, row, i, r, count, rows, last = min(end * a[7], a[5])
    cdef float scale = <float>number(a + 8)
    cdef float[16] sums
    row = begin * a[7]
    while row < last:
        rows = min(<int64_t>4, last - row)
        m = 0
        while m < a[4]:
            count = min(<int64_t>4, a[4] - m)
            if rows == 4:
                tw_dots(count, w + row * k, k, x + m * k, k, sums)
            else:
                for i in range(count):
                    for r in range(rows):
                        sums[4 * i + r] = tw_dot(w + (row + r) * k, x + (m + i) * k, k)
            for i in range(count):
                for r in range(rows):
                    to = y + (m + i) * m_step + (row + r) * row_step
                    to[0] = scale * sums[4 * i + r]
                    if bias != NULL:
                        to[0] += bias[(m + i) * a[9] + (row + r) * a[10]]
            m += 4
        row += 4


cdef void gemv(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[m, row] = act(scale * sum_k w[row, k] * x[m, k] + bias[m, row]), for few m.

    args: 0 x, 1 w [rows][k], 2 y, 3 bias or 0, 4 m, 5 rows, 6 k, 7 rows a task, 8 scale, 9 bias row stride (m),
    10 bias column stride (row), 11 activation, 12-13 its alpha and beta.
    """
    cdef int64_t m, row = begin * a[7], last = min(end * a[7], a[5])
    dots(a, begin, end, a[5], 1)
    if a[11] != 0:
        for m in range(a[4]):
            tw_activate(<int>a[11], <float *><uintptr_t>a[2] + m * a[5] + row, last - row, <float>number(a + 12),
                        <float>number(a + 13))


cdef void gemv_turned(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """The same with y [rows][m]."""
    cdef int64_t row = begin * a[7], last = min(end * a[7], a[5])
    dots(a, begin, end, 1, a[4])
    if a[11] != 0:
        tw_activate(<int>a[11], <float *><uintptr_t>a[2] + row * a[4], (last - row) * a[4], <float>number(a + 12),
                    <float>number(a + 13))


cdef void gevm(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """y[m, j] = bias[m, j] + scale * sum_k x[m, k] * b[k, j], for few m and b as it lies, row by row.

    args: 0 x [m][k], 1 b [k][n], 2 y [m][n], 3 bias or 0, 4 m, 5 n, 6 k, 7 columns a task, 8 scale,
    9-10 bias strides of m and j (0 or 1), 11 activation, 12-13 its alpha and beta.
    """
    cdef const float *x = <const float *><uintptr_t>a[0]
    cdef const float *bias = <const float *><uintptr_t>a[3]
    cdef int64_t n = a[5], k = a[6], task, first, count, m, i, j
    cdef float scale = <float>number(a + 8)
    cdef float[8] f
    cdef float *y
    for task in range(begin, end):
        first = task * a[7]
        count = min(a[7], n - first)
        for m in range(a[4]):
            y = <float *><uintptr_t>a[2] + m * n + first
            for j in range(count):
                y[j] = 0 if bias == NULL else bias[m * a[9] + (first + j) * a[10]]
        i = 0
        while i < k:
            for m in range(a[4]):
                for j in range(min(<int64_t>8, k - i)):
                    f[j] = scale * x[m * k + i + j]
                tw_add_rows(<float *><uintptr_t>a[2] + m * n + first, f, <const float *><uintptr_t>a[1] + i * n + first,
                            n, min(<int64_t>8, k - i), count)
            i += 8
        if a[11] != 0:
            for m in range(a[4]):
                tw_activate(<int>a[11], <float *><uintptr_t>a[2] + m * n + first, count, <float>number(a + 12),
                            <float>number(a + 13))


KERNELS = {
    "tile_gemm": <uintptr_t>&tile_gemm,
    "tile_matmul": <uintptr_t>&tile_matmul,
    "tile_gemm_zip": <uintptr_t>&tile_gemm_zip,
    "pack_rows": <uintptr_t>&pack_rows,
    "pack_columns": <uintptr_t>&pack_columns,
    "gemv": <uintptr_t>&gemv,
    "gemv_turned": <uintptr_t>&gemv_turned,
    "gevm": <uintptr_t>&gevm,
}
TILE_ROWS = TW_MR
VECTOR_FLOATS = TW_VW
