# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""The peak of a core's arithmetic, to hold the other kernels against."""

from libc.stdint cimport int64_t, uintptr_t
from tile cimport number

cdef extern from "peak.h" nogil:
    float tw_fma_chains(int64_t turns, float start, float factor, float term)


cdef void fma_chains(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """A task: turns of 12 vectors v, from its number on, through v * factor + term; and the sum of all their lanes.

    args: 0 sums, float32 [tasks], 1 turns, 2 factor, 3 term.
    """
    cdef float *sums = <float *><uintptr_t>a[0]
    cdef int64_t task
    for task in range(begin, end):
        sums[task] = tw_fma_chains(a[1], <float>task, <float>number(a + 2), <float>number(a + 3))


KERNELS = {"fma_chains": <uintptr_t>&fma_chains}
