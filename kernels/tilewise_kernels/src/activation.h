/* Activations of float32, shared by the element-wise kernels and by the epilogues of convolution and GEMM. */
#ifndef TILEWISE_ACTIVATION_H
#define TILEWISE_ACTIVATION_H

#include "vmath.h"

enum {
    TW_ACT_NONE = 0,
    TW_ACT_RELU = 1,
    TW_ACT_CLIP = 2,        /* to [alpha, beta]; beta wins where alpha > beta */
    TW_ACT_LEAKY_RELU = 3,  /* alpha */
    TW_ACT_SIGMOID = 4,
    TW_ACT_TANH = 5,
    TW_ACT_HARD_SIGMOID = 6, /* alpha, beta */
    TW_ACT_HARD_SWISH = 7,
    TW_ACT_SWISH = 8,       /* x * sigmoid(alpha * x); SiLU for alpha = 1 */
    TW_ACT_GELU = 9,        /* by erf */
    TW_ACT_GELU_TANH = 10,
    TW_ACT_ELU = 11,        /* alpha */
    TW_ACT_SOFTPLUS = 12,
    TW_ACT_MISH = 13
};

TW_INLINE float tw_relu(float x) { return x < 0.0f ? 0.0f : x; }

TW_INLINE float tw_clip(float x, float lo, float hi) { return tw_clamp(x, lo, hi); }

TW_INLINE float tw_leaky_relu(float x, float alpha) { return x < 0.0f ? alpha * x : x; }

TW_INLINE float tw_hard_sigmoid(float x, float alpha, float beta)
{
    return tw_clamp(alpha * x + beta, 0.0f, 1.0f);
}

TW_INLINE float tw_hard_swish(float x) { return x * tw_hard_sigmoid(x, 1.0f / 6.0f, 0.5f); }

/* Below -88 the exponential is infinite and the result 0, where it should be some 1e-37. */
TW_INLINE float tw_swish(float x, float alpha) { return x / (1.0f + tw_exp_normal(-alpha * x)); }

TW_INLINE float tw_gelu(float x) { return 0.5f * x * (1.0f + tw_erf(x * 0.70710678118654752f)); }

TW_INLINE float tw_gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + tw_tanh(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

TW_INLINE float tw_elu(float x, float alpha) { return x < 0.0f ? alpha * tw_expm1(x) : x; }

TW_INLINE float tw_softplus(float x) { return tw_relu(x) + tw_log1p_unit(tw_exp(-fabsf(x))); }

/* x * tanh(softplus(x)), with tanh(log(1 + t)) = (t^2 + 2 t) / (t^2 + 2 t + 2), scaled so that nothing overflows. */
TW_INLINE float tw_mish(float x)
{
    const float e = tw_exp(-fabsf(x));
    const float num = x < 0.0f ? e * e + 2.0f * e : 1.0f + 2.0f * e;
    return x * (num / (num + 2.0f * (x < 0.0f ? 1.0f : e * e)));
}

/* One vectorised loop over p[0..n), in place, of an expression in x. */
#define TW_ACT_LOOP(expr)                 \
    for (int64_t i = 0; i < n; i++) {     \
        const float x = p[i];             \
        p[i] = (expr);                    \
    }                                     \
    break;

/* Apply activation `code` in place to n floats. */
static inline void tw_activate(int code, float *p, int64_t n, float alpha, float beta)
{
    switch (code) {
    case TW_ACT_RELU: TW_ACT_LOOP(tw_relu(x))
    case TW_ACT_CLIP: TW_ACT_LOOP(tw_clip(x, alpha, beta))
    case TW_ACT_LEAKY_RELU: TW_ACT_LOOP(tw_leaky_relu(x, alpha))
    case TW_ACT_SIGMOID: TW_ACT_LOOP(tw_sigmoid(x))
    case TW_ACT_TANH: TW_ACT_LOOP(tw_tanh(x))
    case TW_ACT_HARD_SIGMOID: TW_ACT_LOOP(tw_hard_sigmoid(x, alpha, beta))
    case TW_ACT_HARD_SWISH: TW_ACT_LOOP(tw_hard_swish(x))
    case TW_ACT_SWISH: TW_ACT_LOOP(tw_swish(x, alpha))
    case TW_ACT_GELU: TW_ACT_LOOP(tw_gelu(x))
    case TW_ACT_GELU_TANH: TW_ACT_LOOP(tw_gelu_tanh(x))
    case TW_ACT_ELU: TW_ACT_LOOP(tw_elu(x, alpha))
    case TW_ACT_SOFTPLUS: TW_ACT_LOOP(tw_softplus(x))
    case TW_ACT_MISH: TW_ACT_LOOP(tw_mish(x))
    default: break;
    }
}

#undef TW_ACT_LOOP

#endif
