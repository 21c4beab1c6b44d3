"""LinearAttention and CausalConvWithState (opset 27) against loops in float64."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

HALVES = [(np.float16, 3e-3), (ml_dtypes.bfloat16, 3e-2)]


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def tokens(batch=2, length=4, q_heads=4, kv_heads=2, d_k=3, d_v=5, dtype=np.float32):
    """query, key, value."""
    return [
        floats(batch, length, q_heads * d_k, dtype=dtype),
        floats(batch, length, kv_heads * d_k, dtype=dtype, seed=1),
        floats(batch, length, kv_heads * d_v, dtype=dtype, seed=2),
    ]


def gates(rule, batch=2, length=4, kv_heads=2, d_k=3, dtype=np.float32, per_key=False, shared=False):
    """decay and beta as the rule wants them."""
    decay = -np.abs(floats(batch, length, kv_heads * d_k if per_key else kv_heads, seed=3)).astype(dtype)
    beta = (1 / (1 + np.exp(-floats(batch, length, 1 if shared else kv_heads, seed=4)))).astype(dtype)
    return [decay if "gated" in rule else None, beta if "delta" in rule else None]


def naive_linear(rule, q_heads, kv_heads, scale=0.0):
    """The recurrence, head by head and token by token."""

    def run(q, k, v, past=None, decay=None, beta=None):
        batch, length = q.shape[:2]
        d_k, d_v = k.shape[2] // kv_heads, v.shape[2] // kv_heads
        y = np.zeros((batch, length, q_heads * d_v))
        states = np.zeros((batch, kv_heads, d_k, d_v)) if past is None else past.astype(np.float64)
        for b in range(batch):
            for g in range(kv_heads):
                s = states[b, g].copy()
                for t in range(length):
                    key = k[b, t, g * d_k : (g + 1) * d_k].astype(np.float64)
                    write = v[b, t, g * d_v : (g + 1) * d_v].astype(np.float64)
                    if "gated" in rule:
                        row = decay[b, t].astype(np.float64)
                        row = (
                            row[g * d_k : (g + 1) * d_k]
                            if len(row) == kv_heads * d_k
                            else np.repeat(row[g], d_k)
                        )
                        s = np.exp(row)[:, None] * s
                    if "delta" in rule:
                        write = float(beta[b, t, g % beta.shape[2]]) * (write - s.T @ key)
                    s = s + np.outer(key, write)
                    for h in range(g * q_heads // kv_heads, (g + 1) * q_heads // kv_heads):
                        query = q[b, t, h * d_k : (h + 1) * d_k].astype(np.float64)
                        y[b, t, h * d_v : (h + 1) * d_v] = (scale or 1 / math.sqrt(d_k)) * (query @ s)
                states[b, g] = s
        return [y.astype(q.dtype), states.astype(q.dtype if past is None else past.dtype)]

    return run


def linear(inputs, rule, q_heads=4, kv_heads=2, scale=0.0, tolerance=1e-5, **attrs):
    attrs |= {"q_num_heads": q_heads, "kv_num_heads": kv_heads, "update_rule": rule, "scale": scale}
    while inputs[-1] is None:
        inputs = inputs[:-1]
    oracle = naive_linear(rule, q_heads, kv_heads, scale)
    check("LinearAttention", inputs, attrs, outputs=2, oracle=oracle, rtol=tolerance, atol=tolerance)


RULES = ["linear", "gated", "delta", "gated_delta"]
SIZES = [
    {},
    {"batch": 1, "length": 1, "q_heads": 1, "kv_heads": 1, "d_k": 1, "d_v": 1},
    {"q_heads": 3, "kv_heads": 3},
    {"q_heads": 6, "kv_heads": 1},
    {"length": 0},
    {"batch": 0},
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_linear_attention(sizes, with_past, per_key, rule):
    full = {"batch": 2, "length": 4, "q_heads": 4, "kv_heads": 2, "d_k": 3, "d_v": 5} | sizes
    past = floats(*(full[n] for n in ("batch", "kv_heads", "d_k", "d_v")), seed=5) if with_past else None
    gate_sizes = {n: full[n] for n in ("batch", "length", "kv_heads", "d_k")}
    inputs = [*tokens(**full), past, *gates(rule, per_key=per_key, **gate_sizes)]
    linear(inputs, rule, full["q_heads"], full["kv_heads"])


def test_linear_attention_scale_shared_beta_and_chunks():
    linear([*tokens(), None, *gates("gated_delta", shared=True)], "gated_delta", scale=0.25, chunk_size=2)


@pytest.mark.parametrize(("dtype", "tolerance"), HALVES)
@pytest.mark.parametrize("rule", ["linear", "gated_delta"])
def test_linear_attention_dtypes(rule, dtype, tolerance):
    inputs = [*tokens(dtype=dtype), None, *gates(rule, dtype=dtype)]
    linear(inputs, rule, tolerance=tolerance)
    inputs[3] = floats(2, 2, 3, 5, seed=5)  # a state of another dtype
    linear(inputs, rule, tolerance=tolerance)


LINEAR_ERRORS = [
    ([*tokens(), None, *gates("gated")[:1]], "linear", {}, "'linear' takes no input decay"),
    (tokens(), "gated", {}, "'gated' needs input decay"),
    ([*tokens(), None, *gates("gated")[:1]], "gated_delta", {}, "'gated_delta' needs input beta"),
    (tokens(), "other", {}, "expected one of linear, gated, delta, gated_delta, got 'other'"),
    (tokens(), "linear", {"q_num_heads": 3}, "multiple of key heads, got 3 and 2"),
    (
        tokens(),
        "linear",
        {"q_num_heads": 8, "kv_num_heads": 4},
        "query: expected a width that 8 heads divide",
    ),
    (tokens(), "linear", {"q_num_heads": 2}, "head size, got 3 and 6"),
    ([tokens()[0][0], *tokens()[1:]], "linear", {}, "input query: expected rank 3"),
    ([*tokens(), floats(2, 2, 5, 3)], "linear", {}, r"past_state: expected shape \[2, 2, 3, 5\]"),
    ([*tokens(), None, floats(2, 4, 3)], "gated", {}, "input decay: expected a width of 6 or 2"),
    ([*tokens(), None, floats(2, 5, 2)], "gated", {}, "input decay: expected shape"),
]


@pytest.mark.parametrize(("inputs", "rule", "attrs", "message"), LINEAR_ERRORS)
def test_linear_attention_errors(inputs, rule, attrs, message):
    attrs = {"q_num_heads": 4, "kv_num_heads": 2, "update_rule": rule} | attrs
    proto = one_node("LinearAttention", inputs, attrs, outputs=2)
    with pytest.raises(TilewiseError, match=message):
        load(proto.SerializeToString()).run({f"x{i}": a for i, a in enumerate(inputs) if a is not None})


def naive_conv(activation):
    def run(x, w, bias=None, past=None):
        N, C, L = x.shape
        k = w.shape[2]
        padded = np.zeros((N, C, k - 1 + L), x.dtype)
        padded[:, :, k - 1 :] = x
        if past is not None:
            padded[:, :, : k - 1] = past
        y = np.zeros((N, C, L))
        for n, c, t in np.ndindex(N, C, L):
            y[n, c, t] = sum(float(padded[n, c, t + i]) * float(w[c, 0, i]) for i in range(k))
            y[n, c, t] += 0 if bias is None else float(bias[c])
            if activation != "none":
                y[n, c, t] /= 1 + math.exp(-y[n, c, t])
        return [y.astype(x.dtype), padded[:, :, L:]]

    return run


CONV_SHAPES = [
    (2, 3, 6, 4),
    (1, 1, 1, 1),
    (2, 3, 5, 1),
    (2, 3, 2, 4),
    (1, 4, 1, 4),
    (2, 3, 0, 3),
    (0, 3, 4, 2),
]


@pytest.mark.parametrize("shape", CONV_SHAPES)
@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("with_past", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_causal_conv(shape, activation, with_past, with_bias):
    N, C, L, k = shape
    bias = floats(C, seed=2) if with_bias else None
    past = floats(N, C, k - 1, seed=3) if with_past else None
    inputs = [floats(N, C, L), floats(C, 1, k, seed=1), bias, past]
    while inputs[-1] is None:
        inputs.pop()
    check("CausalConvWithState", inputs, {"activation": activation}, outputs=2, oracle=naive_conv(activation))


@pytest.mark.parametrize(("dtype", "tolerance"), HALVES)
@pytest.mark.parametrize("activation", ["none", "silu"])
def test_causal_conv_dtypes(activation, dtype, tolerance):
    inputs = [
        floats(2, 3, 9, dtype=dtype),
        floats(3, 1, 4, dtype=dtype, seed=1),
        floats(3, dtype=dtype, seed=2),
        floats(2, 3, 3, dtype=dtype, seed=3),
    ]
    check(
        "CausalConvWithState",
        inputs,
        {"activation": activation},
        outputs=2,
        oracle=naive_conv(activation),
        rtol=tolerance,
        atol=tolerance,
    )


def test_causal_conv_step_by_step_is_the_whole():
    x, w = floats(2, 3, 7), floats(3, 1, 4, seed=1)
    whole = naive_conv("none")(x, w)
    model = load(
        one_node("CausalConvWithState", [x[:, :, :1], w, None, x[:, :, :3]], outputs=2).SerializeToString()
    )
    state = np.zeros((2, 3, 3), np.float32)
    for t in range(7):
        got = model.run({"x0": x[:, :, t : t + 1], "x1": w, "x3": state})
        state = got["y1"]
        np.testing.assert_allclose(got["y0"][:, :, 0], whole[0][:, :, t], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state, whole[1])


CONV_ERRORS = [
    ([floats(2, 3), floats(3, 1, 4)], {}, "input input: expected rank 3"),
    ([floats(2, 3, 6), floats(2, 1, 4)], {}, r"weight: expected shape \[3, 1, \?\]"),
    ([floats(2, 3, 6), floats(3, 2, 4)], {}, "weight: expected shape"),
    ([floats(2, 3, 6), floats(3, 1, 0)], {}, "kernel of at least 1"),
    ([floats(2, 3, 6), floats(3, 1, 4), floats(4)], {}, r"bias: expected shape \[3\]"),
    (
        [floats(2, 3, 6), floats(3, 1, 4), None, floats(2, 3, 4)],
        {},
        r"past_state: expected shape \[2, 3, 3\]",
    ),
    ([floats(2, 3, 6), floats(3, 1, 4)], {"activation": "relu"}, "got 'relu'"),
]


@pytest.mark.parametrize(("inputs", "attrs", "message"), CONV_ERRORS)
def test_causal_conv_errors(inputs, attrs, message):
    proto = one_node("CausalConvWithState", inputs, attrs, outputs=2)
    with pytest.raises(TilewiseError, match=message):
        load(proto.SerializeToString()).run({f"x{i}": a for i, a in enumerate(inputs) if a is not None})
