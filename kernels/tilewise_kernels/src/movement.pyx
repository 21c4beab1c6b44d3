# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Kernels that move bytes and compute nothing."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from "movement.h" nogil:
    void tw_strided_copy(const int64_t *a, int64_t begin, int64_t end)
    void tw_gather_blocks(const int64_t *a, int64_t begin, int64_t end)


cdef void copy(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: dst, src, nbytes, grain; task i copies `grain` bytes from i * grain on."""
    cdef int64_t lo = begin * a[3]
    cdef int64_t hi = min(end * a[3], a[2])
    memcpy(<char *><uintptr_t>a[0] + lo, <const char *><uintptr_t>a[1] + lo, hi - lo)


cdef void strided_copy(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """One array to another of the same shape, all strides in bytes; a source stride may be 0 or negative.

    args: dst, src, mode, item, grain, units, rows, cols, row_block, col_block, dst_row, dst_col, src_row, src_col,
    count, then `count` times (length, dst_stride, src_stride).
    Blocks of at most row_block by col_block elements of `item` (1, 2, 4, 8, 16) bytes are the units; task i copies
    units [i * grain, (i + 1) * grain). They are numbered row-major over `count` (2 to 32) dims, the last two of which
    count blocks of rows and of columns.
    mode: 0, columns are contiguous in both; 2, columns in dst and rows in src (a transposition); 1, anything.
    """
    tw_strided_copy(a, begin, end)


cdef void gather_blocks(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Blocks of `size` bytes from offsets in a table, checked by the caller.

    args: dst, src, offsets, count, size, outer, grain, total. Block i of `total` comes from
    src + i // count * outer + offsets[i % count]; task i copies `grain` blocks. Offsets are int64, in bytes.
    """
    tw_gather_blocks(a, begin, end)


KERNELS = {
    "copy": <uintptr_t>&copy,
    "strided_copy": <uintptr_t>&strided_copy,
    "gather_blocks": <uintptr_t>&gather_blocks,
}
