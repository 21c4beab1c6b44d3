# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Kernels that move bytes and compute nothing."""

from libc.stdint cimport int64_t, uintptr_t
from libc.string cimport memcpy


cdef void copy(const int64_t *a, int64_t begin, int64_t end) noexcept nogil:
    """args: dst, src, nbytes, grain; task i copies `grain` bytes from i * grain on."""
    cdef int64_t lo = begin * a[3]
    cdef int64_t hi = min(end * a[3], a[2])
    memcpy(<char *><uintptr_t>a[0] + lo, <const char *><uintptr_t>a[1] + lo, hi - lo)


KERNELS = {"copy": <uintptr_t>&copy}
