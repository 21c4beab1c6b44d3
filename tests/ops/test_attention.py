"""Attention (opsets 23, 24, 25) against loops in float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.attention_oracle import naive_attention
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

INF = np.inf


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def qkv(q_heads=2, kv_heads=2, q_len=3, kv_len=5, head=4, v_head=6, batch=2, dtype=np.float32):
    return [
        floats(batch, q_heads, q_len, head, dtype=dtype),
        floats(batch, kv_heads, kv_len, head, dtype=dtype, seed=1),
        floats(batch, kv_heads, kv_len, v_head, dtype=dtype, seed=2),
    ]


def packed(q_heads=2, kv_heads=2, q_len=3, kv_len=5, head=4, v_head=6, batch=2):
    return [
        floats(batch, q_len, q_heads * head),
        floats(batch, kv_len, kv_heads * head, seed=1),
        floats(batch, kv_len, kv_heads * v_head, seed=2),
    ]


def bools(*shape):
    """A mask in which the first key is always seen."""
    mask = np.random.default_rng(len(shape)).random(shape) < 0.5
    mask[..., 0] = True
    return mask


def case(inputs, attrs=None, opset=25, outputs=1, **options):
    attrs = attrs or {}
    oracle = naive_attention(opset, **attrs)
    check(
        "Attention",
        inputs,
        attrs,
        opset=opset,
        outputs=outputs,
        oracle=lambda *arrays: oracle(*arrays)[:outputs],
        **options,
    )


SIZES = [
    {},
    {"q_len": 1, "kv_len": 1, "head": 1, "v_head": 1, "q_heads": 1, "kv_heads": 1, "batch": 1},
    {"q_heads": 1, "kv_heads": 1},
    {"q_heads": 6, "kv_heads": 2},
    {"q_heads": 4, "kv_heads": 1},
    {"q_len": 1, "kv_len": 9},
    {"q_len": 7, "kv_len": 1},
    {"q_len": 33, "kv_len": 70, "head": 16, "v_head": 24, "q_heads": 3, "kv_heads": 3},
    {"q_len": 5, "kv_len": 40, "head": 7, "v_head": 3, "q_heads": 6, "kv_heads": 3},
    {"batch": 0},
    {"q_len": 0},
]


@pytest.mark.parametrize("opset", [23, 24, 25])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(sizes, opset):
    case(qkv(**sizes), opset=opset, outputs=3, kernel=0 not in sizes.values())


@pytest.mark.parametrize("opset", [23, 25])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_packed_heads(sizes, opset):
    heads = {"q_num_heads": sizes.get("q_heads", 2), "kv_num_heads": sizes.get("kv_heads", 2)}
    case(packed(**sizes), heads, opset=opset, outputs=3, kernel=0 not in sizes.values())


def test_heads_may_be_told_for_rank_4_before_opset_25():
    case(qkv(), {"q_num_heads": 2, "kv_num_heads": 2}, opset=24)


def test_no_keys_yield_zeros():
    case(qkv(kv_len=0), outputs=4)


OPTIONS = [
    {"scale": 0.3},
    {"scale": 0.0},
    {"scale": -0.5},
    {"softcap": 0.7},
    {"is_causal": 1},
    {"left_window_size": 1},
    {"right_window_size": 0},
    {"left_window_size": 0, "right_window_size": 2},
    {"is_causal": 1, "left_window_size": 2, "right_window_size": 3},
    {"is_causal": 1, "softcap": 1.5, "scale": 2.0},
    {"softmax_precision": 11},
]


@pytest.mark.parametrize("attrs", OPTIONS, ids=str)
def test_options(attrs):
    kernel = attrs.get("softmax_precision", 1) == 1
    case(qkv(), attrs, kernel=kernel)
    case(qkv(q_len=6, kv_len=4, q_heads=4), attrs, kernel=kernel)


@pytest.mark.parametrize("attrs", OPTIONS, ids=str)
def test_options_with_a_past(attrs):
    past = [floats(2, 2, 3, 4, seed=3), floats(2, 2, 3, 6, seed=4)]
    kernel = attrs.get("softmax_precision", 1) == 1
    case([*qkv(q_heads=4), None, *past], attrs, outputs=3, kernel=kernel)
    case([*qkv(q_heads=4), None, *past], attrs, kernel=kernel)


@pytest.mark.parametrize("attrs", OPTIONS, ids=str)
@pytest.mark.parametrize("nonpad", [[5, 5], [3, 1], [0, 4]], ids=str)
def test_options_with_padded_keys(attrs, nonpad):
    inputs = [*qkv(), None, None, None, np.array(nonpad)]
    case(inputs, attrs, kernel=False)
    case(inputs, attrs, constants=[6], kernel=attrs.get("softmax_precision", 1) == 1)


def test_empty_past():
    case([*qkv(), None, floats(2, 2, 0, 4), floats(2, 2, 0, 6)], {"is_causal": 1}, outputs=3)


def test_packed_heads_with_a_past():
    past = [floats(2, 1, 4, 4, seed=3), floats(2, 1, 4, 6, seed=4)]
    attrs = {"q_num_heads": 2, "kv_num_heads": 1, "is_causal": 1}
    case([*packed(kv_heads=1), None, *past], attrs, outputs=3, kernel=True)
    case([*packed(kv_heads=1), None, *past], attrs, outputs=4, kernel=False)


MASKS = [(5,), (1, 5), (3, 5), (3, 1, 5), (3, 3, 5), (1, 1, 1, 5), (2, 1, 3, 5), (2, 3, 3, 5)]


@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1, "softcap": 2.0}], ids=str)
@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("kind", ["bool", "float", "int"])
def test_masks(kind, shape, attrs):
    mask = bools(*shape) if kind == "bool" else floats(*shape, seed=5)
    mask = np.round(mask).astype(np.int8) if kind == "int" else mask
    case([*qkv(q_heads=3, kv_heads=3), mask], attrs, kernel=kind != "int")
    case([*qkv(q_heads=3, kv_heads=3), mask], attrs, constants=[3], kernel=True)


def test_masks_that_broadcast_along_keys():
    case([*qkv(), floats(3, 1, seed=5)], opset=23)
    case([*qkv(), np.array(2.0, np.float32)], opset=23)
    case([*qkv(), np.array(2.0, np.float32)], opset=25)


@pytest.mark.parametrize("opset", [24, 25])
@pytest.mark.parametrize("width", [1, 4])
def test_masks_shorter_than_keys_end_in_minus_infinity(width, opset):
    case([*qkv(), floats(3, width, seed=5)], opset=opset)
    case([*qkv(), bools(3, width)], {"is_causal": 1}, opset=opset)
    nonpad = np.array([width, 1])
    case([*qkv(), bools(3, width), None, None, nonpad], opset=opset)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("opset", [23, 25])
@pytest.mark.parametrize("mask", [None, bools(3, 5), floats(2, 1, 3, 5)], ids=["none", "bool", "float"])
def test_scores_shown(mask, opset, mode):
    attrs = {"qk_matmul_output_mode": mode, "softcap": 1.5, "is_causal": 1}
    inputs = qkv() if mask is None else [*qkv(), mask]
    case(inputs, attrs, opset=opset, outputs=4)


@pytest.mark.parametrize("fill", [np.array(False), np.float32(-INF)])
def test_queries_that_see_no_key_yield_zeros(fill):
    mask = np.ones((3, 5), bool) if fill.dtype == bool else floats(3, 5, seed=5)
    mask[1] = fill
    case([*qkv(), mask], {"qk_matmul_output_mode": 3}, outputs=4)
    case([*qkv(), mask], kernel=True)
    case([*qkv(), mask], constants=[3], kernel=True)
    case([*qkv(kv_len=1), mask[:, :1]], kernel=True)


def test_nan_is_carried():
    q, k, v = qkv()
    q[0, 1, 2] = np.nan
    case([q, k, v, bools(3, 5)], kernel=True)


def test_infinite_scores_do_no_harm_where_no_key_is_seen():
    q, k, v = qkv()
    k[:, :, 2] = INF
    check(
        "Attention",
        [q, k, v, np.zeros((3, 5), bool)],
        opset=25,
        oracle=lambda q, k, v, mask: np.zeros((2, 2, 3, 6), np.float32),
    )


HALVES = [(np.float16, 2e-3), (ml_dtypes.bfloat16, 2e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), *HALVES])
@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1, "softcap": 2.0}, {"softmax_precision": 11}], ids=str)
def test_dtypes(dtype, tolerance, attrs):
    case(qkv(dtype=dtype), attrs, outputs=4, rtol=tolerance, atol=tolerance)
    mask = floats(3, 5, seed=5).astype(dtype)
    case([*qkv(dtype=dtype), mask], attrs, rtol=2 * tolerance, atol=2 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), HALVES)
def test_long_rows_in_half_precision(dtype, tolerance):
    case(qkv(kv_len=700, batch=1, dtype=dtype), rtol=10 * tolerance, atol=10 * tolerance)


def test_values_of_another_dtype():
    q, k, v = qkv()
    y = naive_attention()(q.astype(np.float16), k.astype(np.float16), v)
    check(
        "Attention",
        [q.astype(np.float16), k.astype(np.float16), v],
        opset=25,
        outputs=3,
        oracle=lambda *_: [y[0], y[1], v],
        rtol=2e-3,
        atol=2e-3,
    )


RUNTIME = [({}, {}), ({"q_heads": 4}, {}), ({}, {"is_causal": 1}), ({"q_heads": 4}, {"softcap": 1.5})]


@pytest.mark.parametrize(("sizes", "attrs"), RUNTIME)
def test_onnx_runtime_agrees(sizes, attrs):
    inputs = qkv(q_len=5, **sizes)
    check("Attention", inputs, attrs, opset=23, oracle=ort("Attention", attrs, opset=23))


ERRORS = [
    ([*qkv()[:2], floats(2, 2, 4, 6)], {}, "length of K and V, got 4 and 5"),
    ([floats(2, 2, 3, 5), *qkv()[1:]], {}, "head size of Q and K, got 4 and 5"),
    ([floats(3, 2, 3, 4), *qkv()[1:]], {}, "batch size of Q, K and V, got 2 and 3"),
    (qkv(q_heads=3), {}, "multiple of key heads, got 3 and 2"),
    ([floats(2, 3, 8), *qkv()[1:]], {}, "all of rank 3 or all of rank 4"),
    (packed(), {}, "q_num_heads: expected at least 1 with inputs of rank 3, got None"),
    (packed(), {"q_num_heads": 3, "kv_num_heads": 2}, "input Q: expected a width that 3 heads divide, got 8"),
    (qkv(), {"q_num_heads": 2, "kv_num_heads": 2}, "is for inputs of rank 3"),
    ([*qkv(), floats(4, 5)], {}, r"attn_mask: expected a shape that broadcasts to \[2, 2, 3, 5\]"),
    ([*qkv(), floats(3, 6)], {}, "attn_mask: expected a shape"),
    ([*qkv(), None, floats(2, 2, 1, 4)], {}, "past_key and past_value together"),
    ([*qkv(), None, floats(2, 1, 1, 4), floats(2, 2, 1, 6)], {}, "past_key: expected shape"),
    ([*qkv(), None, floats(2, 2, 1, 4), floats(2, 2, 2, 6)], {}, "length of past_key and past_value"),
    ([*qkv(), None, None, None, np.array([1])], {}, r"nonpad_kv_seqlen: expected shape \[2\]"),
    (
        [*qkv(), None, floats(2, 2, 1, 4), floats(2, 2, 1, 6), np.array([1, 1])],
        {},
        "either past_key and past_value or nonpad_kv_seqlen",
    ),
    ([qkv()[0], floats(2, 2, 5, 4, dtype=np.float64), qkv()[2]], {}, "one type"),
    (qkv(), {"qk_matmul_output_mode": 4}, "expected 0 to 3, got 4"),
    (qkv(), {"softmax_precision": 7}, "softmax_precision"),
    (qkv(), {"left_window_size": -2}, "left_window_size"),
]


@pytest.mark.parametrize(("inputs", "attrs", "message"), ERRORS)
def test_errors(inputs, attrs, message):
    proto = one_node("Attention", inputs, attrs, opset=25)
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None}
    with pytest.raises(TilewiseError, match=message):
        load(proto.SerializeToString()).run(feeds)
