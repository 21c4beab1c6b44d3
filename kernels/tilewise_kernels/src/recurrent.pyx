# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Recurrent cells of float32."""

from libc.stdint cimport int64_t, uintptr_t

cdef extern from "recurrent.h" nogil:
    ctypedef struct tw_recurrent:
        pass
    void tw_recurrent_task(const tw_recurrent *a, int64_t task)


cdef void recurrent(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """All time steps of an RNN, GRU or LSTM whose input is already multiplied by W.

    args: 0 kind (0 RNN, 1 GRU, 2 GRU linear before reset, 3 LSTM, 4 LSTM with coupled gates), 1 x W' [.][gates][hidden],
    2 R' [directions][panels][hidden][TW_NR], 3 bias [directions][2][gates][hidden] or 0, 4 peepholes
    [directions][3][hidden] or 0, 5-6 initial h and c or 0, 7 lengths (int32) or 0, 8 activations [directions][3]
    (code, alpha, beta; float64), 9 offsets [hidden] of the panels' rows, 10 y or 0, 11-12 last h and c or 0, 13 scratch,
    14 bits of the directions that walk backward, 15 steps, 16 batch, 17 hidden, 18 sequences a task, 19 rows of a tile,
    20 panels, 21 of these the last ones, a GRU's hidden gate, 22 floats of scratch a task, 23-25 strides of x
    (direction, time, sequence), 26-28 of y, 29-30 of the states (direction, sequence), 31 clip.
    Gates are in ONNX's order; all strides count floats. A length out of range, which a kernel cannot refuse, makes NaN
    of its sequence; one of 0 makes its last states 0. Task: direction * chunks of the batch + chunk.
    """
    cdef int64_t task
    for task in range(begin, end):
        tw_recurrent_task(<const tw_recurrent *>a, task)


KERNELS = {"recurrent": <uintptr_t>&recurrent}
