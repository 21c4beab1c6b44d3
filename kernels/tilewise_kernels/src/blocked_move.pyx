# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Channels of channel-blocked images put together anew."""

from libc.stdint cimport int32_t, int64_t, uintptr_t
from tile cimport TW_VW

cdef extern from "blocked_move.h" nogil:
    ctypedef struct tw_move_piece:
        const float *x
        const int32_t *lanes
    void tw_move_lanes(int64_t places, int64_t pieces, const tw_move_piece *piece, float *y)

cdef enum:
    MAX_PIECES = 16
    SOURCES = 7


cdef void blocked_channels(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """Every block of y from lanes of blocks of one or more images.

    args: 0 y, 1 first piece of each block of y [blocks + 1], 2 pieces [.][2] (source, its block), 3 lanes [.][VW] of
    the pieces (int32: which goes to lane l of y, below 0 for none), 4 blocks of y, 5 places, 6 places a task, then
    each source and its blocks. A block has at most VW pieces. Task: (image * blocks + block) * place blocks + pb.
    """
    cdef tw_move_piece[MAX_PIECES] piece
    cdef const int64_t *starts = <const int64_t *><uintptr_t>a[1]
    cdef const int64_t *pieces = <const int64_t *><uintptr_t>a[2]
    cdef const int64_t *source
    cdef int64_t parts = (a[5] + a[6] - 1) // a[6]
    cdef int64_t task, plane, q, k, first, count
    for task in range(begin, end):
        plane = task // parts
        q = task % parts * a[6]
        first = starts[plane % a[4]]
        count = starts[plane % a[4] + 1] - first
        for k in range(count):
            source = a + SOURCES + 2 * pieces[2 * (first + k)]
            piece[k].x = <const float *><uintptr_t>source[0] + (
                (plane // a[4] * source[1] + pieces[2 * (first + k) + 1]) * a[5] + q) * TW_VW
            piece[k].lanes = <const int32_t *><uintptr_t>a[3] + (first + k) * TW_VW
        tw_move_lanes(min(a[6], a[5] - q), count, piece, <float *><uintptr_t>a[0] + (plane * a[5] + q) * TW_VW)


KERNELS = {"blocked_channels": <uintptr_t>&blocked_channels}
