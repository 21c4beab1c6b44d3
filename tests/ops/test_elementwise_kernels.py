"""The element-wise kernels themselves: error bounds, the broadcast walk, tasks that do not matter to the result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewise_kernels
from tests.ops.elementwise_cases import erf, sigmoid, softplus
from tilewise.ops import activation
from tilewise.ops import unary as functions
from tilewise.ops.elementwise import Unary, merge_axes
from tilewise.ops.lowering import chunks, float_bits

if not tilewise_kernels.NATIVE:
    pytest.skip("this build has no native kernels", allow_module_level=True)

GRAIN = 256


def run(kernel: str, tasks: int, *args: object, order=None) -> None:
    """Every task of a kernel, in the order given, alone."""
    from tilewise_kernels import _executor

    words = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in args]
    packed = np.array([float_bits(w) if isinstance(w, float) else w for w in words], np.int64)
    for task in order or range(tasks):
        _executor.call(tilewise_kernels.address(kernel), packed, task, task + 1)


def unary(kernel: str, x: np.ndarray, alpha: float = 0.0, beta: float = 0.0) -> np.ndarray:
    y = np.empty_like(x)
    run(kernel, chunks(x.size, 1 << 16), y, x, x.size, 1 << 16, alpha, beta)
    return y


def walk(kernel: str, operands, out: np.ndarray, grain: int = GRAIN, order=None) -> np.ndarray:
    dims, strides = merge_axes(out.shape, [x.shape for x in operands])
    flat = list(itertools.chain(*strides))
    run(
        kernel,
        chunks(out.size, grain),
        out,
        *operands,
        out.size,
        grain,
        len(dims),
        *dims,
        *flat,
        order=order,
    )
    return out


def all_magnitudes() -> np.ndarray:
    """Every 4001st float32, NaN left out, and a denser grid where most functions bend."""
    bits = np.arange(0, 1 << 32, 4001, dtype=np.uint64).astype(np.uint32).view(np.float32)
    grids = [np.linspace(-r, r, 100001, dtype=np.float32) for r in (0.01, 1.1, 20, 120)]
    edges = np.float32([0, -0.0, np.inf, -np.inf, 1, -1])
    return np.concatenate([bits[~np.isnan(bits)], *grids, edges])


def errors_in_ulp(y: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the exact value, subnormals' unit below the smallest normal one."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
        np.testing.assert_array_equal(y[~finite], rounded[~finite])
        unit = np.spacing(np.abs(rounded[finite])).astype(np.float64)
        return np.abs(y[finite].astype(np.float64) - exact[finite]) / unit


BOUNDS = {  # kernel: (function in float64, units in the last place)
    "exp": (np.exp, 1.5),
    "log": (np.log, 1.5),
    "sigmoid": (sigmoid, 3),
    "tanh": (np.tanh, 2),
    "erf": (erf, 1.5),
    "softplus": (softplus, 2.5),
    "elu": (lambda x: np.where(x < 0, np.expm1(x), x), 1.5),
    "sqrt": (np.sqrt, 0.51),
    "reciprocal": (np.reciprocal, 0.51),
    "sin": (np.sin, 1),
    "cos": (np.cos, 1),
    "tan": (np.tan, 1.5),
    "asin": (np.arcsin, 3),
    "acos": (np.arccos, 2),
    "atan": (np.arctan, 3.5),
    "sinh": (np.sinh, 2.5),
    "cosh": (np.cosh, 2),
    "asinh": (np.arcsinh, 1),
    "acosh": (np.arccosh, 1),
    "atanh": (np.arctanh, 1),
}


@pytest.mark.parametrize("kernel", BOUNDS)
def test_error_bounds(kernel):
    function, bound = BOUNDS[kernel]
    x = all_magnitudes()
    if kernel in ("sin", "cos", "tan"):
        x = x[np.abs(x) <= 1e6]
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
    assert errors_in_ulp(unary(f"{kernel}_float32", x, 1.0, 1.0), exact).max() <= bound


@pytest.mark.parametrize(("kernel", "function"), [("sin", np.sin), ("cos", np.cos), ("tan", np.tan)])
def test_large_arguments(kernel, function):
    x = all_magnitudes()
    x = x[np.isfinite(x)]
    assert errors_in_ulp(unary(f"{kernel}_float32", x), function(x.astype(np.float64))).max() <= 1.5


def test_pow_error_bound():
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-80, 80, 200000)).astype(np.float32)
    y = rng.uniform(-3, 3, x.size).astype(np.float32)
    near, steep = (
        rng.uniform(0.9, 1.1, 100000).astype(np.float32),
        rng.uniform(-800, 800, 100000).astype(np.float32),
    )
    x, y = np.concatenate([x, near]), np.concatenate([y, steep])
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert errors_in_ulp(walk("pow_float32", [x, y], np.empty_like(x)), exact).max() <= 0.52


UNARY = sorted(
    {
        c.kernel
        for module in (activation, functions)
        for c in vars(module).values()
        if isinstance(c, type)
        and issubclass(c, Unary)
        and isinstance(c.kernel, str)
        and c.accepts & {"float32"}
    }
    - {"", "isinf", "isnan"}
)


@pytest.mark.parametrize("kernel", [*UNARY, "gelu", "gelu_tanh", "square", "cube", "divide_by"])
def test_unary_in_place(kernel):
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    expected = unary(f"{kernel}_float32", x, 1.0, 1.0)
    run(f"{kernel}_float32", 1, x, x, x.size, x.size, 1.0, 1.0)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("kernel", ["add", "sub", "mul", "div", "max", "min", "pow", "prelu"])
@pytest.mark.parametrize("columns", [5, 50])
def test_binary_in_place(kernel, columns):
    x = np.linspace(0.1, 3, 1000, dtype=np.float32).reshape(-1, columns)
    other = np.linspace(-2, 2, columns, dtype=np.float32)
    expected = walk(f"{kernel}_float32", [x, other], np.empty_like(x))
    np.testing.assert_array_equal(walk(f"{kernel}_float32", [x, other], x), expected)


DIM = st.sampled_from([1, 2, 3, 4, 5, 31, 32, 33, 40])


@st.composite
def broadcast_shapes(draw, operands: int):
    out = draw(st.lists(DIM, max_size=4).filter(lambda s: np.prod(s) < 20000))
    shapes = []
    for _ in range(operands):
        kept = [d if draw(st.booleans()) else 1 for d in out]
        shapes.append(tuple(kept[draw(st.integers(0, len(out))) :]))
    return shapes


@settings(max_examples=150, deadline=None)
@given(broadcast_shapes(2), st.sampled_from([7, 64, 500, 1 << 14]), st.randoms(use_true_random=False))
def test_binary_walk(shapes, grain, random):
    a, b = (np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate(shapes))
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    expected = a - b
    order = list(range(chunks(expected.size, grain)))
    random.shuffle(order)
    got = walk("sub_float32", [a, b], np.empty_like(expected), grain, order)
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=150, deadline=None)
@given(broadcast_shapes(3), st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]))
def test_ternary_walk(shapes, of):
    rng = np.random.default_rng(0)
    c = np.asarray(rng.normal(size=shapes[0]) > 0)
    x, y = (np.asarray(rng.integers(0, 200, size=s), of) for s in shapes[1:])
    expected = np.where(c, x, y)
    got = walk(f"where_{x.itemsize}", [c, x, y], np.empty_like(expected))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("out", "shapes", "dims", "strides"),
    [
        ((), [(), ()], [1], [[1], [1]]),
        ((1, 1), [(1, 1), (1,)], [1], [[1], [1]]),
        ((2, 3, 4), [(2, 3, 4), (2, 3, 4)], [24], [[1], [1]]),
        ((2, 3, 4), [(2, 3, 4), ()], [24], [[1], [0]]),
        ((2, 3, 4, 5), [(2, 3, 4, 5), (3, 1, 1)], [2, 3, 20], [[60, 20, 1], [0, 1, 0]]),
        ((2, 3, 4, 5), [(2, 3, 1, 1), (2, 3, 4, 5)], [6, 20], [[1, 0], [20, 1]]),
        ((2, 3, 4), [(4,), (2, 1, 1)], [2, 3, 4], [[0, 0, 1], [1, 0, 0]]),
        ((2, 1, 4), [(2, 1, 4), (1, 1, 4)], [2, 4], [[4, 1], [0, 1]]),
    ],
)
def test_merge_axes(out, shapes, dims, strides):
    assert merge_axes(out, shapes) == (dims, strides)
