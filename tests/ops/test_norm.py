"""Normalization by statistics of the input itself, and across channels."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.graph import Fact, Graph, Node
from tilewise.runtime.model import Model, load

SMALL = [(np.float64, 1e-12), (np.float16, 4e-3), (ml_dtypes.bfloat16, 3e-2)]


def floats(*shape, dtype=np.float32, seed=0):
    return (1.5 * np.random.default_rng(seed).standard_normal(shape) + 0.5).astype(dtype)


def standard(x, axes, epsilon):
    """x in float64 with mean 0 and variance 1 over `axes`; its mean and 1 / deviation."""
    epsilon = float(np.float32(epsilon))
    wide = x.astype(np.float64)
    mean = wide.mean(axis=axes, keepdims=True)
    rstd = 1 / np.sqrt(wide.var(axis=axes, keepdims=True) + epsilon)
    return (wide - mean) * rstd, mean, rstd


def layer(axis=-1, epsilon=1e-5):
    def run(x, scale, bias=None):
        y, mean, rstd = standard(x, tuple(range(axis % x.ndim, x.ndim)), epsilon)
        y = y * scale + (0 if bias is None else bias)
        return [y.astype(x.dtype), mean.astype(np.float32), rstd.astype(np.float32)]

    return run


LAYER_SHAPES = [
    ((1,), 0),
    ((3, 1), -1),
    ((3, 5), -1),
    ((3, 5), 0),
    ((2, 3, 4), 1),
    ((2, 3, 4, 5), 2),
    ((2, 3, 4, 5), -1),
    ((7, 96), 1),
    ((3, 197, 33), -1),
    ((2, 9000), 1),
]


@pytest.mark.parametrize(("shape", "axis"), LAYER_SHAPES)
@pytest.mark.parametrize("biased", [False, True])
def test_layer(shape, axis, biased):
    inner = shape[axis % len(shape) :]
    inputs = [floats(*shape), floats(*inner, seed=1)] + ([floats(*inner, seed=2)] if biased else [])
    oracle = layer(axis)
    for outputs in (1, 2, 3):
        some = lambda *a, n=outputs: oracle(*a)[:n]  # noqa: E731
        for constants in ((), (1,)):
            check(
                "LayerNormalization",
                inputs,
                {"axis": axis},
                outputs=outputs,
                constants=constants,
                oracle=some,
                rtol=2e-5,
                atol=2e-5,
                kernel=True,
            )


@pytest.mark.parametrize(
    ("scale", "bias", "constants", "kernel"),
    [
        ((1,), (), (1, 2), True),
        ((1,), (5,), (), False),
        ((1, 4, 5), (4, 5), (), True),
        ((1, 1, 5), (5,), (), False),
        ((4, 1), (4, 5), (1,), True),
        ((4, 1), (1, 4, 5), (), False),
        ((3, 1, 1), (5,), (1, 2), False),
        ((3, 4, 5), (), (1,), False),
    ],
)
def test_layer_broadcasts(scale, bias, constants, kernel):
    inputs = [floats(3, 4, 5), floats(*scale, seed=1), floats(*bias, seed=2)]
    check(
        "LayerNormalization",
        inputs,
        {"axis": 1},
        constants=constants,
        oracle=lambda *a: layer(1)(*a)[0],
        rtol=2e-5,
        atol=2e-5,
        kernel=kernel,
    )


@pytest.mark.parametrize(("dtype", "rtol"), SMALL)
def test_layer_dtypes(dtype, rtol):
    inputs = [floats(3, 20, dtype=dtype), floats(20, dtype=dtype, seed=1), floats(20, dtype=dtype, seed=2)]
    wide = lambda *a: layer(1)(*(v.astype(np.float64) for v in a))  # noqa: E731
    want = lambda *a: [wide(*a)[0].astype(dtype), *wide(*a)[1:]]  # noqa: E731
    check("LayerNormalization", inputs, outputs=3, oracle=want, rtol=max(rtol, 1e-6), atol=rtol, kernel=False)


def test_layer_statistics_in_bfloat16():
    inputs = [floats(3, 20), floats(20, seed=1)]
    want = lambda *a: [layer()(*a)[0], *(s.astype(ml_dtypes.bfloat16) for s in layer()(*a)[1:])]  # noqa: E731
    check("LayerNormalization", inputs, {"stash_type": 16}, outputs=3, oracle=want, rtol=1e-2, atol=1e-5)


def test_large_mean_and_small_variance():
    x = (1000 + floats(4, 300)).astype(np.float32)
    one = np.ones(300, np.float32)
    check("LayerNormalization", [x, one], oracle=lambda *a: layer()(*a)[0], rtol=1e-4, atol=1e-4, kernel=True)
    x = np.full((2, 64), 3.3, np.float32)
    check("LayerNormalization", [x, one[:64]], oracle=lambda x, _: 0 * x, atol=1e-4, kernel=True)


def rms(axis=-1, epsilon=1e-5):
    def run(x, scale):
        wide = x.astype(np.float64)
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (wide / np.sqrt((wide * wide).mean(axis=axes, keepdims=True) + epsilon) * scale).astype(
            scale.dtype
        )

    return run


@pytest.mark.parametrize(("shape", "axis"), LAYER_SHAPES)
def test_rms(shape, axis):
    inputs = [floats(*shape), floats(*shape[axis % len(shape) :], seed=1)]
    attrs = {"axis": axis, "epsilon": 1e-3}
    for constants in ((), (1,)):
        check("RMSNormalization", inputs, attrs, constants=constants, oracle=rms(axis, 1e-3), kernel=True)


@pytest.mark.parametrize(("dtype", "rtol"), SMALL)
def test_rms_dtypes(dtype, rtol):
    inputs = [floats(3, 20, dtype=dtype), floats(20, dtype=dtype, seed=1)]
    check("RMSNormalization", inputs, oracle=rms(), rtol=rtol, atol=rtol, kernel=False)


def test_rms_takes_the_dtype_of_its_scale():
    inputs = [floats(3, 20, dtype=np.float16), floats(20, seed=1)]
    check("RMSNormalization", inputs, oracle=rms(), rtol=1e-3, atol=1e-3)


def groups(count, epsilon=1e-5, by_group=False):
    def run(x, scale, bias):
        rows = x.reshape(x.shape[0], count, -1)
        y = standard(rows, (2,), epsilon)[0].reshape(x.shape)
        if by_group:
            scale, bias = (np.repeat(a, x.shape[1] // count) for a in (scale, bias))
        ones = (-1,) + (1,) * (x.ndim - 2)
        return (y * scale.astype(np.float64).reshape(ones) + bias.astype(np.float64).reshape(ones)).astype(
            x.dtype
        )

    return run


CLOSE = {"rtol": 2e-5, "atol": 2e-5}
PLANE_SHAPES = [(2, 3, 1), (1, 1, 5), (2, 3, 7), (2, 6, 5, 7), (1, 4, 100, 101), (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("shape", PLANE_SHAPES)
@pytest.mark.parametrize("opset", [7, 22])
def test_instance(shape, opset):
    inputs = [floats(*shape), floats(shape[1], seed=1), floats(shape[1], seed=2)]
    attrs = {"epsilon": 1e-3}
    oracle = groups(shape[1], 1e-3)
    check("InstanceNormalization", inputs, attrs, opset=opset, oracle=oracle, kernel=True, **CLOSE)
    check("InstanceNormalization", inputs, opset=opset, oracle=groups(shape[1]), kernel=True, **CLOSE)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((2, 4), 2),
        ((2, 4, 3), 1),
        ((2, 4, 3), 4),
        ((2, 6, 5, 7), 3),
        ((1, 8, 60, 61), 2),
        ((2, 6, 2, 3, 2), 2),
    ],
)
def test_group(shape, count):
    C = shape[1]
    inputs = [floats(*shape), floats(C, seed=1), floats(C, seed=2)]
    check("GroupNormalization", inputs, {"num_groups": count}, oracle=groups(count), kernel=True, **CLOSE)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("shape", "count"), [((2, 4, 3), 2), ((1, 6, 5, 7), 1), ((2, 6, 5, 7), 3), ((2, 3, 4), 3)]
)
def test_group_with_one_scale_a_group(native, shape, count):
    """The form of opsets 18 to 20, which ONNX itself deprecates."""
    values = {"x": floats(*shape), "scale": floats(count, seed=1), "bias": floats(count, seed=2)}
    node = Node("GroupNormalization", list(values), ["y"], {"num_groups": count, "epsilon": 1e-5}, version=18)
    facts = {name: Fact(a.dtype, a.shape) for name, a in values.items()}
    model = Model(Graph(inputs=list(values), outputs=["y"], nodes=[node], facts=facts), native=native)
    want = groups(count, by_group=True)(*values.values())
    np.testing.assert_allclose(model.run(values)["y"], want, **CLOSE)


@pytest.mark.parametrize(("dtype", "rtol"), SMALL)
def test_plane_dtypes(dtype, rtol):
    inputs = [floats(2, 4, 9, dtype=dtype), floats(4, dtype=dtype, seed=1), floats(4, dtype=dtype, seed=2)]
    near = {"rtol": rtol, "atol": rtol, "kernel": False}
    check("InstanceNormalization", inputs, oracle=groups(4), **near)
    check("GroupNormalization", inputs, {"num_groups": 2, "stash_type": 1}, oracle=groups(2), **near)
    check("LpNormalization", inputs[:1], oracle=lp(2, -1), **near)
    check("MeanVarianceNormalization", inputs[:1], {"axes": [0, 2]}, oracle=mean_variance((0, 2)), **near)
    check("LRN", inputs[:1], {"size": 3}, oracle=lrn(3), **near)


def test_nothing_to_normalize():
    x, one = np.zeros((0, 2, 3), np.float32), np.ones(2, np.float32)
    check("InstanceNormalization", [x, one, one], oracle=lambda x, *_: x)
    check("GroupNormalization", [x, one, one], {"num_groups": 1}, oracle=lambda x, *_: x)
    check("LayerNormalization", [x, np.ones(3, np.float32)], oracle=lambda x, *_: x)
    check("MeanVarianceNormalization", [x], {"axes": [2]}, oracle=lambda x: x)
    check("LpNormalization", [x], oracle=lambda x: x)
    check("LRN", [x], {"size": 3}, oracle=lambda x: x)


def mean_variance(axes):
    def run(x):
        wide = x.astype(np.float64)
        deviation = np.sqrt(wide.var(axis=axes, keepdims=True)) + 1e-9
        return ((wide - wide.mean(axis=axes, keepdims=True)) / deviation).astype(x.dtype)

    return run


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize(
    ("shape", "axes", "kernel"),
    [
        ((2, 3, 4, 5), [0, 2, 3], True),
        ((2, 3, 4, 5), None, True),
        ((4, 3, 40, 50), [0, 2, 3], True),
        ((1, 30, 2, 3), [-1, 0, -2], True),
        ((2, 3, 4, 5), [2, 3], True),
        ((2, 3, 4, 5), [0, 1, 2, 3], True),
        ((2, 3, 4, 5), [1], False),
        ((2, 3, 4, 5), [0, 1], False),
        ((6, 7), [0], True),
        ((6, 7), [1], True),
    ],
)
def test_mean_variance(shape, axes, kernel, opset):
    attrs = {} if axes is None else {"axes": axes}
    oracle = mean_variance(tuple(axes or (0, 2, 3)))
    check(
        "MeanVarianceNormalization",
        [floats(*shape)],
        attrs,
        opset=opset,
        oracle=oracle,
        kernel=kernel,
        **CLOSE,
    )


def test_mean_variance_of_equal_elements():
    x = np.full((2, 3, 4, 5), 0.1, np.float32)
    for axes in ([0, 2, 3], [2, 3]):
        y = np.zeros_like(x)
        check("MeanVarianceNormalization", [x], {"axes": axes}, oracle=lambda _, y=y: y, atol=1e-3)


def lp(p, axis):
    def run(x):
        wide = x.astype(np.float64)
        norm = (np.abs(wide) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return np.where(norm == 0, 0, wide / np.where(norm == 0, 1, norm)).astype(x.dtype)

    return run


LP_SHAPES = [
    ((1,), 0),
    ((5,), -1),
    ((3, 4), 0),
    ((3, 4), 1),
    ((300, 3), 1),
    ((2, 500), 1),
    ((2, 60, 5), 1),
    ((2, 5, 20, 21), 1),
    ((2, 3, 1, 4), 2),
]


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("opset", [7, 22])
@pytest.mark.parametrize(("shape", "axis"), LP_SHAPES)
def test_lp(shape, axis, p, opset):
    attrs = {"p": p, "axis": axis}
    check("LpNormalization", [floats(*shape)], attrs, opset=opset, oracle=lp(p, axis), kernel=True)


def test_lp_of_zeros():
    x = np.zeros((2, 3, 4), np.float32)
    x[0, 1] = 2
    for p in (1, 2):
        for axis in range(3):
            check("LpNormalization", [x], {"p": p, "axis": axis}, oracle=lp(p, axis), kernel=True)


def lrn(size, alpha=1e-4, beta=0.75, bias=1.0):
    """Channel by channel, as ONNX defines it; floats as a model file holds them."""
    alpha, beta, bias = (float(np.float32(v)) for v in (alpha, beta, bias))

    def run(x):
        wide = x.astype(np.float64)
        y = np.zeros_like(wide)
        for c in range(x.shape[1]):
            first, last = max(0, c - (size - 1) // 2), min(x.shape[1] - 1, c + -(-(size - 1) // 2))
            total = (wide[:, first : last + 1] ** 2).sum(axis=1)
            y[:, c] = wide[:, c] / (bias + alpha / size * total) ** beta
        return y.astype(x.dtype)

    return run


@pytest.mark.parametrize("opset", [7, 13])
@pytest.mark.parametrize(
    ("shape", "attrs"),
    [
        ((1, 1, 1, 1), {"size": 1}),
        ((2, 5, 3, 4), {"size": 3}),
        ((2, 5, 3, 4), {"size": 5, "alpha": 0.5, "beta": 0.75, "bias": 2.0}),
        ((2, 5, 3, 4), {"size": 4, "alpha": 0.5, "beta": 0.5}),
        ((2, 5, 3, 4), {"size": 2, "alpha": 0.5, "beta": 1.0}),
        ((2, 5, 3, 4), {"size": 11, "alpha": 0.5, "beta": 0.6, "bias": 0.5}),
        ((1, 96, 20, 21), {"size": 5, "alpha": 0.01}),
        ((1, 300, 17, 3), {"size": 7, "alpha": 0.1, "beta": 0.3}),
        ((2, 6), {"size": 3, "alpha": 1.0}),
        ((2, 6, 1100), {"size": 3, "alpha": 1.0}),
        ((2, 3, 2, 3, 4), {"size": 3, "alpha": 1.0, "beta": 2.0}),
    ],
)
def test_lrn(shape, attrs, opset):
    check("LRN", [floats(*shape)], attrs, opset=opset, oracle=lrn(**attrs), kernel=True)


def test_lrn_of_special_values():
    x = floats(1, 7, 40)
    x[0, 2, 3], x[0, 4, 5], x[0, 6, 7], x[0, 0, 9] = np.nan, np.inf, 1e19, 1e-30
    for beta in (0.75, 0.5, 1.0, 0.6):
        attrs = {"size": 3, "alpha": 0.5, "beta": beta}
        with np.errstate(all="ignore"):
            want = lrn(**attrs)(x)
        check("LRN", [x], attrs, oracle=lambda _, want=want: want, rtol=1e-4, kernel=True)


ORT_CASES = [
    ("InstanceNormalization", [(2, 3, 4, 5), (3,), (3,)], {}, 21),
    ("LayerNormalization", [(2, 3, 40), (40,), (40,)], {"epsilon": 1e-3}, 17),
    ("GroupNormalization", [(2, 6, 4, 5), (6,), (6,)], {"num_groups": 3}, 21),
    ("RMSNormalization", [(2, 3, 40), (40,)], {}, 23),
    ("LpNormalization", [(2, 3, 40)], {"p": 1, "axis": 1}, 21),
    ("MeanVarianceNormalization", [(2, 3, 4, 5)], {}, 13),
    ("LRN", [(2, 30, 4, 5)], {"size": 5, "alpha": 0.3}, 13),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "opset"), ORT_CASES)
def test_as_onnxruntime(op, shapes, attrs, opset):
    inputs = [floats(*shape, seed=i) for i, shape in enumerate(shapes)]
    check(op, inputs, attrs, opset=opset, oracle=ort(op, attrs, opset=opset), kernel=True, **CLOSE)


X = (2, 4, 3)
ERRORS = [
    ("LayerNormalization", [X, (4,)], {}, "do not broadcast"),
    (
        "LayerNormalization",
        [(2, 1), (2, 5)],
        {},
        r"expected scale and bias that broadcast to float32\[2, 1\]",
    ),
    ("LayerNormalization", [X, (3,)], {"axis": 3}, r"axis 3 is outside \[-3, 3\)"),
    ("InstanceNormalization", [X, (3,), (4,)], {}, r"expected scale and bias of shape \[4\]"),
    ("InstanceNormalization", [(4,), (4,), (4,)], {}, "expected an input of rank 2 or more"),
    ("GroupNormalization", [X, (4,), (4,)], {"num_groups": 3}, "to divide the 4 channels, got 3"),
    ("GroupNormalization", [X, (4,), (4,)], {"num_groups": 0}, "expected num_groups of at least 1, got 0"),
    ("GroupNormalization", [X, (2,), (4,)], {"num_groups": 2}, r"expected scale and bias of shape \[4\]"),
    ("LpNormalization", [X], {"p": 3}, "expected p to be 1 or 2, got 3"),
    ("LpNormalization", [X], {"axis": -4}, r"axis -4 is outside \[-3, 3\)"),
    ("MeanVarianceNormalization", [X], {"axes": [0, 2, 3]}, r"axis 3 is outside \[-3, 3\)"),
    ("LRN", [(3,)], {"size": 3}, "expected an input of rank 2 or more"),
    ("LRN", [X], {"size": 0}, "expected size of at least 1, got 0"),
]


@pytest.mark.parametrize(("op", "shapes", "attrs", "told"), ERRORS)
def test_errors(op, shapes, attrs, told):
    inputs = [floats(*shape) for shape in shapes]
    with pytest.raises(TilewiseError, match=told):
        load(one_node(op, inputs, attrs).SerializeToString()).run({f"x{i}": a for i, a in enumerate(inputs)})
