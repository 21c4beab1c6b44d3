/* Element-wise kernels, stamped out of tables: one row a function, one vectorised loop a form.
 *
 * Names end in the dtype of the operands (`relu_float32`), of both sides for a cast (`cast_float32_int64`), or in the
 * bytes of an element where only data moves (`where_4`). A bool is a byte, 0 or 1.
 */
#ifndef TILEWISE_ELEMENTWISE_H
#define TILEWISE_ELEMENTWISE_H

#include <string.h>

#include "activation.h"
#include "broadcast.h"
#include "vmath_more.h"

typedef void tw_kernel(const int64_t *args, int64_t begin, int64_t end);

typedef struct {
    const char *name;
    tw_kernel *run;
} tw_kernel_row;

/* A loop whose iterations are independent: an output may lie exactly over an input. */
#define TW_EACH(n) _Pragma("GCC ivdep") for (int64_t i = 0; i < (n); i++)

static inline float tw_float_arg(int64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return (float)d;
}

/* Unary functions of x, and of the attributes alpha and beta where the function has them. */
#define TW_UNARY_TABLE(X)                                                                   \
    X(relu, tw_relu(x))                                                                     \
    X(clip, tw_clip(x, alpha, beta))                                                        \
    X(leaky_relu, tw_leaky_relu(x, alpha))                                                  \
    X(sigmoid, tw_sigmoid(x))                                                               \
    X(tanh, tw_tanh(x))                                                                     \
    X(hard_sigmoid, tw_hard_sigmoid(x, alpha, beta))                                        \
    X(hard_swish, tw_hard_swish(x))                                                         \
    X(swish, tw_swish(x, alpha))                                                            \
    X(gelu, tw_gelu(x))                                                                     \
    X(gelu_tanh, tw_gelu_tanh(x))                                                           \
    X(elu, tw_elu(x, alpha))                                                                \
    X(celu, x < 0.0f ? alpha * tw_expm1(x / alpha) : x)                                     \
    X(selu, beta * tw_elu(x, alpha))                                                        \
    X(softplus, tw_softplus(x))                                                             \
    X(mish, tw_mish(x))                                                                     \
    X(softsign, x / (1.0f + fabsf(x)))                                                      \
    X(thresholded_relu, x > alpha ? x : 0.0f)                                               \
    X(shrink, x < -alpha ? x + beta : x > alpha ? x - beta : 0.0f)                          \
    X(abs, fabsf(x))                                                                        \
    X(neg, -x)                                                                              \
    X(ceil, ceilf(x))                                                                       \
    X(floor, floorf(x))                                                                     \
    X(round, rintf(x))                                                                      \
    X(sqrt, sqrtf(x))                                                                       \
    X(square, x * x)                                                                        \
    X(cube, x * x * x)                                                                      \
    X(reciprocal, 1.0f / x)                                                                 \
    X(divide_by, x / alpha)                                                                 \
    X(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x + 0.0f)                                       \
    X(exp, tw_exp(x))                                                                       \
    X(log, tw_log(x))                                                                       \
    X(erf, tw_erf(x))                                                                       \
    X(asin, tw_asin(x))                                                                     \
    X(acos, tw_acos(x))                                                                     \
    X(atan, tw_atan(x))                                                                     \
    X(sinh, tw_sinh(x))                                                                     \
    X(cosh, tw_cosh(x))                                                                     \
    X(asinh, tw_asinh(x))                                                                   \
    X(acosh, tw_acosh(x))                                                                   \
    X(atanh, tw_atanh(x))

/* Functions with a vector form for arguments up to TW_TRIG_LIMIT and libm for chunks that go beyond it. */
#define TW_TRIG_TABLE(X)           \
    X(sin, tw_sin(x), sinf(x))     \
    X(cos, tw_cos(x), cosf(x))     \
    X(tan, tw_tan(x), tanf(x))

/* Unary functions that change the type. */
#define TW_TEST_TABLE(X)                                                                                \
    X(isnan_float32, uint8_t, float, x != x)                                                            \
    X(isinf_float32, uint8_t, float, ((x == INFINITY) & (alpha > 0)) | ((x == -INFINITY) & (beta > 0)))  \
    X(not_bool, uint8_t, uint8_t, x ^ 1)

#define TW_CASTS(X, FROM, S)                     \
    X(FROM, S, float32, float, x)                \
    X(FROM, S, float64, double, x)               \
    X(FROM, S, int8, int8_t, x)                  \
    X(FROM, S, uint8, uint8_t, x)                \
    X(FROM, S, int32, int32_t, x)                \
    X(FROM, S, int64, int64_t, x)                \
    X(FROM, S, bool, uint8_t, x != 0)

#define TW_CAST_TABLE(X)             \
    TW_CASTS(X, float32, float)      \
    TW_CASTS(X, float64, double)     \
    TW_CASTS(X, int8, int8_t)        \
    TW_CASTS(X, uint8, uint8_t)      \
    TW_CASTS(X, int32, int32_t)      \
    TW_CASTS(X, int64, int64_t)      \
    TW_CASTS(X, bool, uint8_t)

/* Binary functions of x and y: name, type of the result, type of the operands, expression. */
#define TW_COMPARISONS(X, D, T)                        \
    X(equal_##D, uint8_t, T, x == y)                   \
    X(less_##D, uint8_t, T, x < y)                     \
    X(less_or_equal_##D, uint8_t, T, x <= y)

#define TW_FLOAT_BINARIES(X, D, T)                     \
    X(add_##D, T, T, x + y)                            \
    X(sub_##D, T, T, x - y)                            \
    X(mul_##D, T, T, x * y)                            \
    X(div_##D, T, T, x / y)                            \
    X(max_##D, T, T, (x > y) | (x != x) ? x : y)       \
    X(min_##D, T, T, (x < y) | (x != x) ? x : y)

#define TW_INT_BINARIES(X, D, T, U) /* sums and products wrap, hence unsigned */ \
    X(add_##D, U, U, x + y)                            \
    X(sub_##D, U, U, x - y)                            \
    X(mul_##D, U, U, x * y)                            \
    X(max_##D, T, T, x > y ? x : y)                    \
    X(min_##D, T, T, x < y ? x : y)

#define TW_BINARY_TABLE(X)                             \
    TW_FLOAT_BINARIES(X, float32, float)               \
    TW_FLOAT_BINARIES(X, float64, double)              \
    TW_INT_BINARIES(X, int32, int32_t, uint32_t)       \
    TW_INT_BINARIES(X, int64, int64_t, uint64_t)       \
    TW_COMPARISONS(X, float32, float)                  \
    TW_COMPARISONS(X, float64, double)                 \
    TW_COMPARISONS(X, int32, int32_t)                  \
    TW_COMPARISONS(X, int64, int64_t)                  \
    X(pow_float32, float, float, tw_pow(x, y))         \
    X(prelu_float32, float, float, x < 0.0f ? x * y : x) \
    X(equal_bool, uint8_t, uint8_t, x == y)            \
    X(and_bool, uint8_t, uint8_t, x & y)               \
    X(or_bool, uint8_t, uint8_t, x | y)                \
    X(xor_bool, uint8_t, uint8_t, x ^ y)

#define TW_WHERE_TABLE(X) X(1, uint8_t) X(2, uint16_t) X(4, uint32_t) X(8, uint64_t)

/* args of unary kernels: dst, src, size, grain, alpha, beta; task i computes `grain` elements from i * grain on. */
#define TW_MAP_PROLOGUE(OUT, IN)                                            \
    const int64_t lo = begin * a[3];                                        \
    const int64_t n = (end * a[3] < a[2] ? end * a[3] : a[2]) - lo;         \
    OUT *dst = (OUT *)(uintptr_t)a[0] + lo;                                 \
    const IN *src = (const IN *)(uintptr_t)a[1] + lo;

#define TW_DEFINE_MAP(name, OUT, IN, expr)                                  \
    static void name(const int64_t *a, int64_t begin, int64_t end)          \
    {                                                                       \
        TW_MAP_PROLOGUE(OUT, IN)                                            \
        const float alpha = tw_float_arg(a[4]), beta = tw_float_arg(a[5]);  \
        (void)alpha, (void)beta;                                            \
        TW_EACH(n) {                                                        \
            const IN x = src[i];                                            \
            dst[i] = (OUT)(expr);                                           \
        }                                                                   \
    }

#define TW_DEFINE_UNARY(name, expr) TW_DEFINE_MAP(tw_k_##name##_float32, float, float, expr)
#define TW_DEFINE_TEST(name, OUT, IN, expr) TW_DEFINE_MAP(tw_k_##name, OUT, IN, expr)
#define TW_DEFINE_CAST(FROM, S, TO, D, expr) TW_DEFINE_MAP(tw_k_cast_##FROM##_##TO, D, S, expr)

#define TW_DEFINE_TRIG(name, expr, libm)                                            \
    static void tw_k_##name##_float32(const int64_t *a, int64_t begin, int64_t end) \
    {                                                                               \
        TW_MAP_PROLOGUE(float, float)                                               \
        int beyond = 0;                                                             \
        for (int64_t i = 0; i < n; i++) beyond |= fabsf(src[i]) > TW_TRIG_LIMIT;    \
        if (beyond) {                                                               \
            for (int64_t i = 0; i < n; i++) {                                       \
                const float x = src[i];                                             \
                dst[i] = libm;                                                      \
            }                                                                       \
            return;                                                                 \
        }                                                                           \
        TW_EACH(n) {                                                                \
            const float x = src[i];                                                 \
            dst[i] = expr;                                                          \
        }                                                                           \
    }

/* args of binary kernels: dst, x, y, then the walk of broadcast.h. */
#define TW_BINARY_FORM(OUT, X_AT, Y_AT, expr) \
    TW_EACH(n) {                              \
        const X_AT;                           \
        const Y_AT;                           \
        z[i] = (OUT)(expr);                   \
    }

#define TW_DEFINE_BINARY(name, OUT, IN, expr)                                                   \
    static void tw_row_##name(void *out, const void *const *in, const int64_t *step, int64_t n) \
    {                                                                                           \
        OUT *z = (OUT *)out;                                                                    \
        const IN *p = (const IN *)in[0], *q = (const IN *)in[1];                                \
        const IN p0 = *p, q0 = *q;                                                              \
        if (step[0] && step[1]) TW_BINARY_FORM(OUT, IN x = p[i], IN y = q[i], expr)             \
        else if (step[0]) TW_BINARY_FORM(OUT, IN x = p[i], IN y = q0, expr)                     \
        else if (step[1]) TW_BINARY_FORM(OUT, IN x = p0, IN y = q[i], expr)                     \
        else TW_BINARY_FORM(OUT, IN x = p0, IN y = q0, expr)                                    \
    }                                                                                           \
    static void tw_k_##name(const int64_t *a, int64_t begin, int64_t end)                       \
    {                                                                                           \
        static const int64_t sizes[2] = {sizeof(IN), sizeof(IN)};                               \
        tw_walk(a, begin, end, 2, sizeof(OUT), sizes, tw_row_##name);                           \
    }

/* args of where kernels: dst, condition, x, y, then the walk of broadcast.h. */
#define TW_WHERE_FORM(X_AT, Y_AT)            \
    TW_EACH(n) {                             \
        const __typeof__(*z) x = X_AT;       \
        const __typeof__(*z) y = Y_AT;       \
        z[i] = c[i] ? x : y;                 \
    }

#define TW_DEFINE_WHERE(SIZE, T)                                                                    \
    static void tw_row_where_##SIZE(void *out, const void *const *in, const int64_t *step, int64_t n) \
    {                                                                                               \
        T *z = (T *)out;                                                                            \
        const uint8_t *c = (const uint8_t *)in[0];                                                  \
        const T *p = (const T *)in[1], *q = (const T *)in[2];                                       \
        const T p0 = *p, q0 = *q;                                                                   \
        if (!step[0]) {                                                                             \
            const int k = *c ? 1 : 2;                                                               \
            const T *s = *c ? p : q;                                                                \
            const T s0 = *s;                                                                        \
            if (step[k]) TW_EACH(n) z[i] = s[i];                                                    \
            else TW_EACH(n) z[i] = s0;                                                              \
        }                                                                                           \
        else if (step[1] && step[2]) TW_WHERE_FORM(p[i], q[i])                                      \
        else if (step[1]) TW_WHERE_FORM(p[i], q0)                                                   \
        else if (step[2]) TW_WHERE_FORM(p0, q[i])                                                   \
        else TW_WHERE_FORM(p0, q0)                                                                  \
    }                                                                                               \
    static void tw_k_where_##SIZE(const int64_t *a, int64_t begin, int64_t end)                     \
    {                                                                                               \
        static const int64_t sizes[3] = {1, sizeof(T), sizeof(T)};                                  \
        tw_walk(a, begin, end, 3, sizeof(T), sizes, tw_row_where_##SIZE);                           \
    }

TW_UNARY_TABLE(TW_DEFINE_UNARY)
TW_TRIG_TABLE(TW_DEFINE_TRIG)
TW_TEST_TABLE(TW_DEFINE_TEST)
TW_CAST_TABLE(TW_DEFINE_CAST)
TW_BINARY_TABLE(TW_DEFINE_BINARY)
TW_WHERE_TABLE(TW_DEFINE_WHERE)

#define TW_UNARY_ROW(name, expr) {#name "_float32", tw_k_##name##_float32},
#define TW_TRIG_ROW(name, expr, libm) TW_UNARY_ROW(name, expr)
#define TW_NAMED_ROW(name, OUT, IN, expr) {#name, tw_k_##name},
#define TW_CAST_ROW(FROM, S, TO, D, expr) {"cast_" #FROM "_" #TO, tw_k_cast_##FROM##_##TO},
#define TW_WHERE_ROW(SIZE, T) {"where_" #SIZE, tw_k_where_##SIZE},

static const tw_kernel_row TW_KERNELS[] = {
    TW_UNARY_TABLE(TW_UNARY_ROW) TW_TRIG_TABLE(TW_TRIG_ROW) TW_TEST_TABLE(TW_NAMED_ROW)
    TW_CAST_TABLE(TW_CAST_ROW) TW_BINARY_TABLE(TW_NAMED_ROW) TW_WHERE_TABLE(TW_WHERE_ROW)
};

enum { TW_KERNEL_COUNT = sizeof TW_KERNELS / sizeof *TW_KERNELS };

#endif
