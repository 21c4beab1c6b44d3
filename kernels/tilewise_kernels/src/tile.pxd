from libc.stdint cimport int64_t

cdef extern from "tile.h" nogil:
    int TW_VW
    int TW_MR
    int TW_NR
    void tw_tile(int mr, int nv, int64_t k_count, const float *a, const float *b, const int64_t *off, float *c,
                 int64_t ldc, const float *bias, const float *init, int64_t ldi, float lo, float hi)
    void tw_taps(int64_t taps, const float *w, const float *x, const int64_t *off, float *out, int64_t n, float bias)
    void tw_dots(int64_t count, const float *w, int64_t ld, const float *x, int64_t n, float *out)
    void tw_add_rows(float *acc, const float *f, const float *x, int64_t ld, int64_t count, int64_t n)
    void tw_copy_row(float *dst, const float *src, int64_t n, int64_t stride, int loose)
    void tw_zero_row(float *dst, int64_t n, int loose)
    float tw_dot(const float *w, const float *x, int64_t n)

cdef extern from "activation.h" nogil:
    void tw_activate(int code, float *p, int64_t n, float alpha, float beta)

cdef enum Activation:
    NONE = 0
    RELU = 1
    CLIP = 2


cdef inline double number(const int64_t *a) noexcept nogil:
    """The double whose bits stand at `a`."""
    return (<const double *>a)[0]


cdef inline float lower_bound(int64_t code, float alpha) noexcept nogil:
    """The lower bound that a register tile clips to on behalf of an activation."""
    if code == RELU:
        return 0.0
    return alpha if code == CLIP else -(<float>1e39)


cdef inline float upper_bound(int64_t code, float beta) noexcept nogil:
    return beta if code == CLIP else <float>1e39

