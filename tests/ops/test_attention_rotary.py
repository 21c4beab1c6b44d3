"""RotaryEmbedding (opset 23) as products of complex numbers, and SwiGLU (opset 28)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

DTYPES = [(np.float16, 2e-3), (ml_dtypes.bfloat16, 2e-2)]


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def turned(interleaved=0, num_heads=0, rotary_embedding_dim=0):
    """Every pair of a head as a complex number, times cos + i sin, in complex128."""

    def run(x, cos, sin, ids=None):
        heads = x if x.ndim == 4 else np.stack(np.split(x, num_heads, axis=2), axis=1)
        turn = cos.astype(np.float64) + 1j * sin.astype(np.float64)
        y = heads.astype(np.float64)
        dim = rotary_embedding_dim or heads.shape[3]
        for b, h, t, p in np.ndindex(*heads.shape[:3], dim // 2):
            i, j = (2 * p, 2 * p + 1) if interleaved else (p, p + dim // 2)
            factor = turn[b, t, p] if ids is None else turn[ids[b, t], p]
            z = (y[b, h, t, i] + 1j * y[b, h, t, j]) * factor
            y[b, h, t, i], y[b, h, t, j] = z.real, z.imag
        if x.ndim == 3:
            y = np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)
        return y.astype(x.dtype)

    return run


def inputs_of(shape, pairs, with_ids, num_heads=0, dtype=np.float32):
    batch, length = shape[0], shape[2] if len(shape) == 4 else shape[1]
    cache = (50, pairs) if with_ids else (batch, length, pairs)
    arrays = [floats(*shape, dtype=dtype), *(floats(*cache, dtype=dtype, seed=s) for s in (1, 2))]
    if with_ids:
        arrays.append(np.random.default_rng(3).integers(0, 50, (batch, length)))
    return arrays


CASES = [
    ((2, 3, 4, 8), 0, {}),
    ((2, 3, 4, 8), 4, {}),
    ((2, 3, 4, 7), 2, {}),
    ((1, 1, 1, 2), 0, {}),
    ((2, 5, 12), 0, {"num_heads": 3}),
    ((2, 5, 12), 2, {"num_heads": 3}),
    ((2, 5, 12), 0, {"num_heads": 1}),
    ((2, 3, 0, 8), 0, {}),
    ((0, 3, 4, 8), 0, {}),
    ((2, 9, 33, 64), 32, {}),
]


@pytest.mark.parametrize("opset", [23, 28])
@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(("shape", "dim", "attrs"), CASES, ids=str)
def test_rotary(shape, dim, attrs, interleaved, with_ids, opset):
    attrs = {**attrs, "interleaved": interleaved, "rotary_embedding_dim": dim}
    size = shape[3] if len(shape) == 4 else shape[2] // attrs["num_heads"]
    check(
        "RotaryEmbedding",
        inputs_of(shape, (dim or size) // 2, with_ids),
        attrs,
        opset=opset,
        oracle=turned(**attrs),
    )


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_dtypes(interleaved, dtype, tolerance):
    arrays = inputs_of((2, 3, 4, 8), 4, True, dtype=dtype)
    attrs = {"interleaved": interleaved}
    check("RotaryEmbedding", arrays, attrs, oracle=turned(**attrs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_as_onnx_runtime(interleaved):
    attrs = {"interleaved": interleaved}
    arrays = inputs_of((2, 3, 4, 8), 4, True)
    check("RotaryEmbedding", arrays, attrs, oracle=ort("RotaryEmbedding", attrs, opset=23))


ROTARY_ERRORS = [
    ((2, 5, 12), 2, {}, False, "num_heads: expected at least 1"),
    ((2, 5, 12), 2, {"num_heads": 5}, False, "a width that 5 heads divide, got 12"),
    ((2, 3, 4, 7), 3, {}, False, "an even number of elements to rotate"),
    ((2, 3, 4, 8), 5, {"rotary_embedding_dim": 10}, False, "at most 8"),
    ((2, 3, 4, 8), 3, {}, False, r"cos_cache: expected shape \[2, 4, 4\]"),
    ((2, 3, 4, 8), 3, {}, True, r"cos_cache: expected shape \[\?, 4\]"),
    ((4, 8), 4, {}, False, "expected rank 3 or 4"),
]


@pytest.mark.parametrize(("shape", "pairs", "attrs", "with_ids", "message"), ROTARY_ERRORS)
def test_rotary_errors(shape, pairs, attrs, with_ids, message):
    arrays = inputs_of(shape, pairs, with_ids)
    proto = one_node("RotaryEmbedding", arrays, attrs)
    with pytest.raises(TilewiseError, match=message):
        load(proto.SerializeToString()).run({f"x{i}": a for i, a in enumerate(arrays)})


@pytest.mark.parametrize("position", [-1, 50])
def test_rotary_refuses_positions_outside_the_caches(position):
    arrays = inputs_of((2, 3, 4, 8), 4, True)
    arrays[3][0, 1] = position
    proto = one_node("RotaryEmbedding", arrays)
    with pytest.raises(TilewiseError, match="position_ids: expected 0 to 49"):
        load(proto.SerializeToString()).run({f"x{i}": a for i, a in enumerate(arrays)})


def swiglu(alpha=1.0):
    def run(a, b):
        x = a.astype(np.float64)
        with np.errstate(over="ignore"):
            return (x / (1 + np.exp(-alpha * x)) * b.astype(np.float64)).astype(a.dtype)

    return run


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4, 5), (2, 0), (33, 1025)])
@pytest.mark.parametrize("attrs", [{}, {"alpha": 0.5}, {"alpha": -1.702}], ids=str)
def test_swiglu(shape, attrs):
    a, b = 3 * floats(*shape), floats(*shape, seed=1)
    kernel = None if 0 in shape else True
    check("SwiGLU", [np.asarray(a), np.asarray(b)], attrs, oracle=swiglu(**attrs), kernel=kernel)


def test_swiglu_of_large_and_special_values():
    a = np.array([-1e4, -90, 0.0, 90, 1e4, np.nan], np.float32)
    check("SwiGLU", [a, np.ones(6, np.float32)], oracle=swiglu(), kernel=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), *DTYPES])
def test_swiglu_dtypes(dtype, tolerance):
    arrays = [floats(4, 5, dtype=dtype), floats(4, 5, dtype=dtype, seed=1)]
    check("SwiGLU", arrays, oracle=swiglu(), rtol=tolerance, atol=tolerance)


def test_swiglu_of_one_tensor_twice():
    x = floats(3, 70000)
    proto = one_node("SwiGLU", [x, x])
    proto.graph.node[0].input[1] = "x0"
    del proto.graph.input[1]
    got = load(proto.SerializeToString()).run({"x0": x})["y0"]
    np.testing.assert_allclose(got, swiglu()(x, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("other", [(4,), (1, 4), (3, 1)])
def test_swiglu_does_not_broadcast(other):
    a, b = floats(3, 4), floats(*other, seed=1)
    with pytest.raises(TilewiseError, match="shape"):
        load(one_node("SwiGLU", [a, b]).SerializeToString()).run({"x0": a, "x1": b})
