from libc.stdint cimport int32_t, int64_t

cdef extern from "columns.h" nogil:
    enum:
        TW_MAX_WIDTH
        TW_SUM
        TW_MAX
        TW_ABS
        TW_SQUARE
        TW_EXP
        TW_DEVIATION
        TW_MAP_EXP
        TW_MAP_MUL
        TW_MAP_DIV
        TW_MAP_LOG
    ctypedef struct tw_view:
        int64_t rows
        int64_t ld
        int64_t w
        int64_t tail
        int64_t period
    void tw_spread(float *acc, const tw_view *v)
    void tw_reduce(int op, float *acc, const float *x, const float *m, const tw_view *v)
    void tw_map(int op, float *y, const float *x, const float *m, const float *k, const tw_view *v)
    void tw_softmax_row(float *y, const float *x, int64_t n, int logarithm)
    void tw_lp_row(float *y, const float *x, int64_t n, int64_t p)
    float tw_log(float x)
    void tw_arg(int32_t *where, const float *x, float sign, int last, const tw_view *v)
