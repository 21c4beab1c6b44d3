# cython: language_level=3, freethreading_compatible=True
"""Element-wise kernels of C; `elementwise.h` holds their tables and says what their arguments are."""

from libc.stdint cimport uintptr_t

cdef extern from "elementwise.h" nogil:
    ctypedef struct tw_kernel_row:
        const char *name
        void *run
    const tw_kernel_row TW_KERNELS[]
    int TW_KERNEL_COUNT


KERNELS = {TW_KERNELS[i].name.decode(): <uintptr_t>TW_KERNELS[i].run for i in range(TW_KERNEL_COUNT)}
