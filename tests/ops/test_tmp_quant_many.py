"""Random forms of operators that move, reduce and combine elements, against NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.harness import check
from tests.ops.random_forms import array, forms, maybe_negative, shapes, some_axes

DATA = st.data()
MOVED = [np.float32, np.int64, np.uint8, np.float16, np.bool_, np.complex128]


def int64(values) -> np.ndarray:
    return np.asarray(values, np.int64)


def draw_dtype(draw, dtypes=MOVED):
    """float32, which has kernels, half of the time."""
    return draw(st.sampled_from([np.float32] * (len(dtypes) - 1) + dtypes))


def check_constant_or_not(draw, op_type, inputs, attrs=None, **options):
    """Parameters behind the first input are constants, or come with the feeds."""
    while inputs[-1] is None:
        inputs.pop()
    constants = [i for i in range(1, len(inputs)) if inputs[i] is not None] if draw(st.booleans()) else ()
    check(op_type, inputs, attrs, constants=constants, **options)


@forms(600)
@given(DATA)
def test_transpose(data):
    x = array(data.draw(shapes()), draw_dtype(data.draw))
    perm = data.draw(st.permutations(range(x.ndim)))
    check("Transpose", [x], {"perm": perm} if perm else {}, oracle=lambda x: x.transpose(perm))


def sliced(start, end, step, size):
    """Indices, clamped as ONNX's text has it: unlike Python's, a start before the first element is the first."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    low, high = (0, size) if step > 0 else (-1, size - 1)
    return np.arange(min(max(start, 0), high), min(max(end, low), high), step)


@forms(1200)
@given(DATA)
def test_slice(data):
    x = array(data.draw(shapes(1)), draw_dtype(data.draw))
    axes = some_axes(data.draw, x.ndim, 1)
    bound = st.one_of(st.integers(-7, 7), st.sampled_from([2**63 - 1, -(2**63), 2**31, 100, -100]))
    starts, ends = ([data.draw(bound) for _ in axes] for _ in range(2))
    steps = [data.draw(st.sampled_from([1, 1, 2, 3, -1, -2, 7])) for _ in axes]
    want = x
    for a, *how in zip(axes, starts, ends, steps, strict=True):
        want = want.take(sliced(*how, x.shape[a]), a)
    inputs = [x, int64(starts), int64(ends), int64(axes), int64(steps)]
    check_constant_or_not(data.draw, "Slice", inputs, oracle=lambda *_: want)


MODES = ("constant", "edge", "reflect", "wrap")


@forms(1200)
@given(DATA)
def test_pad(data):
    """Dims with elements: only a constant can fill up an empty one."""
    mode = data.draw(st.sampled_from(MODES))
    x = array(data.draw(shapes(1, 4, 0 if mode == "constant" else 1)), draw_dtype(data.draw, MOVED[:5]))
    axes = some_axes(data.draw, x.ndim, 1)
    widths = [(0, 0)] * x.ndim
    for a in axes:
        most = {"reflect": x.shape[a] - 1, "wrap": x.shape[a]}.get(mode, 5)
        widths[a] = tuple(data.draw(st.integers(0, min(5, most))) for _ in range(2))
    cut = [(0, 0)] * x.ndim
    if mode == "constant":
        cut = [(min(b, s), min(e, s - min(b, s))) for s in x.shape for b, e in [data.draw(CUTS)]]
        cut = [
            c if i in {a % x.ndim for a in axes} and not any(widths[i]) else (0, 0) for i, c in enumerate(cut)
        ]
    pads = int64([[widths[a][k] - cut[a][k] for a in axes] for k in range(2)]).ravel()
    kept = x[tuple(slice(b, s - e) for (b, e), s in zip(cut, x.shape, strict=True))]
    value = array((), x.dtype, 3) if mode == "constant" and data.draw(st.booleans()) else None
    fill = {"constant_values": 0 if value is None else value} if mode == "constant" else {}
    want = np.pad(kept, widths, mode, **fill)
    check_constant_or_not(
        data.draw, "Pad", [x, pads, value, int64(axes)], {"mode": mode}, oracle=lambda *_: want
    )


CUTS = st.tuples(st.integers(0, 3), st.integers(0, 3))


@forms(600)
@given(DATA)
def test_concat_and_split(data):
    x = array(data.draw(shapes(1)), draw_dtype(data.draw))
    axis = data.draw(st.integers(0, x.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, x.shape[axis]), max_size=3)))
    parts = [np.ascontiguousarray(p) for p in np.split(x, cuts, axis)]
    attrs = {"axis": maybe_negative(data.draw, axis, x.ndim)}
    check("Concat", parts, attrs, oracle=lambda *_: x)
    sizes = int64([p.shape[axis] for p in parts])
    check_constant_or_not(data.draw, "Split", [x, sizes], attrs, outputs=len(parts), oracle=lambda *_: parts)


@forms(600)
@given(DATA)
def test_expand_and_tile(data):
    x = array(data.draw(shapes(0, 4)), draw_dtype(data.draw))
    shape = [data.draw(st.sampled_from([d, 1] if d != 1 else [1, 0, 2, 17])) for d in x.shape]
    shape = shape[data.draw(st.integers(0, x.ndim)) :]
    if len(shape) == x.ndim:
        shape = [*data.draw(shapes(0, 2)), *shape]
    want = np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))
    check_constant_or_not(data.draw, "Expand", [x, int64(shape)], oracle=lambda *_: want)
    repeats = [data.draw(st.integers(0, 3)) for _ in x.shape]
    check_constant_or_not(data.draw, "Tile", [x, int64(repeats)], oracle=lambda *_: np.tile(x, repeats))


def draw_index(draw, shape, size, dtype=None):
    index = np.random.default_rng(draw(st.integers(0, 9))).integers(-size, size, shape)
    return index.astype(dtype or draw(st.sampled_from([np.int64, np.int32])))


@forms(1000)
@given(DATA)
def test_gather(data):
    """An index into an empty axis would be out of range, so that there has to be none."""
    x = array(data.draw(shapes(1, 4)), draw_dtype(data.draw))
    axis = data.draw(st.integers(0, x.ndim - 1))
    shape = data.draw(shapes(0, 3)) if x.shape[axis] else (0,)
    index = draw_index(data.draw, shape, max(x.shape[axis], 1))
    attrs = {"axis": maybe_negative(data.draw, axis, x.ndim)}
    check_constant_or_not(data.draw, "Gather", [x, index], attrs, oracle=lambda x, i: np.take(x, i, axis))


@forms(800)
@given(DATA)
def test_gather_elements(data):
    x = array(data.draw(shapes(1, 4, 1)), draw_dtype(data.draw))
    axis = data.draw(st.integers(0, x.ndim - 1))
    shape = [data.draw(st.integers(0, d)) for d in x.shape]
    shape[axis] = data.draw(st.integers(0, 20))
    index = draw_index(data.draw, shape, x.shape[axis])
    part = x[tuple(slice(None) if i == axis else slice(d) for i, d in enumerate(shape))]
    attrs = {"axis": maybe_negative(data.draw, axis, x.ndim)}
    want = np.take_along_axis(part, index.astype(np.int64) % x.shape[axis], axis)
    check_constant_or_not(data.draw, "GatherElements", [x, index], attrs, oracle=lambda *_: want)


@forms(800)
@given(DATA)
def test_gather_nd(data):
    x = array(data.draw(shapes(1, 4, 1)), draw_dtype(data.draw))
    batch = data.draw(st.integers(0, x.ndim - 1))
    depth = data.draw(st.integers(1, x.ndim - batch))
    rows = (*x.shape[:batch], *data.draw(shapes(0 if batch else 1, 2)))
    if len(rows) == batch:
        rows = (*rows, 2)
    columns = [draw_index(data.draw, rows, d, np.int64) for d in x.shape[batch : batch + depth]]
    images = np.ogrid[tuple(slice(d) for d in x.shape[:batch])] if batch else []
    images = [g.reshape(g.shape + (1,) * (len(rows) - batch)) for g in images]
    want = x[(*images, *columns)]
    inputs = [x, np.stack(columns, -1)]
    check_constant_or_not(data.draw, "GatherND", inputs, {"batch_dims": batch}, oracle=lambda *_: want)


REDUCTIONS = {
    "ReduceSum": lambda x, **how: x.sum(**how),
    "ReduceMean": lambda x, **how: x.mean(**how),
    "ReduceMax": lambda x, **how: x.max(initial=-np.inf, **how),
    "ReduceMin": lambda x, **how: x.min(initial=np.inf, **how),
    "ReduceProd": lambda x, **how: x.prod(**how),
    "ReduceL1": lambda x, **how: np.abs(x).sum(**how),
    "ReduceL2": lambda x, **how: np.sqrt((x * x).sum(**how)),
    "ReduceSumSquare": lambda x, **how: (x * x).sum(**how),
    "ReduceLogSum": lambda x, **how: np.log(x.sum(**how)),
    "ReduceLogSumExp": lambda x, **how: np.log(np.exp(x).sum(**how)),
}


@forms(2500)
@given(DATA)
def test_reductions(data):
    op_type = data.draw(st.sampled_from(sorted(REDUCTIONS)))
    dtype = draw_dtype(data.draw, [np.float32, np.float64])
    x = array(data.draw(shapes(0, 5, 1 if op_type == "ReduceMean" else 0)), dtype)
    if op_type == "ReduceLogSum":
        x = np.abs(x) + np.asarray(0.1, dtype)
    axes = some_axes(data.draw, x.ndim)
    attrs = {"keepdims": data.draw(st.integers(0, 1)), "noop_with_empty_axes": data.draw(st.integers(0, 1))}
    where = tuple(axes) if axes else () if attrs["noop_with_empty_axes"] else None
    with np.errstate(divide="ignore"):
        wide = x.astype(np.float64)
        want = np.asarray(REDUCTIONS[op_type](wide, axis=where, keepdims=bool(attrs["keepdims"]))).astype(
            dtype
        )
    inputs = [x, int64(axes) if axes or data.draw(st.booleans()) else None]
    check_constant_or_not(data.draw, op_type, inputs, attrs, oracle=lambda *_: want, rtol=1e-4, atol=1e-5)


@forms(600)
@given(DATA)
def test_integer_reductions(data):
    op_type = data.draw(st.sampled_from(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"]))
    x = array(data.draw(shapes(1, 4, 1)), data.draw(st.sampled_from([np.int32, np.int64])))
    axes = some_axes(data.draw, x.ndim, 1)
    call = getattr(np, op_type.removeprefix("Reduce").lower())
    want = (
        call(x, axis=tuple(axes), keepdims=True, dtype=x.dtype)
        if op_type in ("ReduceSum", "ReduceProd")
        else call(x, axis=tuple(axes), keepdims=True)
    )
    check_constant_or_not(data.draw, op_type, [x, int64(axes)], oracle=lambda *_: want)


@forms(1000)
@given(DATA)
def test_arg_max_and_min(data):
    """Few different numbers, so that there are ties."""
    x = np.rint(array(data.draw(shapes(1, 4, 1)), draw_dtype(data.draw, [np.float32, np.int32, np.float64])))
    axis = data.draw(st.integers(0, x.ndim - 1))
    last, keep = data.draw(st.booleans()), data.draw(st.booleans())
    attrs = {
        "axis": maybe_negative(data.draw, axis, x.ndim),
        "select_last_index": int(last),
        "keepdims": int(keep),
    }
    for op_type, call in (("ArgMax", np.argmax), ("ArgMin", np.argmin)):
        want = call(np.flip(x, axis) if last else x, axis, keepdims=keep)
        want = np.asarray(x.shape[axis] - 1 - want if last else want)
        check(op_type, [x.astype(x.dtype)], attrs, oracle=lambda *_, y=want: y)


@forms(800)
@given(DATA)
def test_softmax_and_cumsum(data):
    x = array(data.draw(shapes(1, 4)), draw_dtype(data.draw, [np.float32, np.float64])) * 3
    axis = data.draw(st.integers(0, x.ndim - 1))
    attrs = {"axis": maybe_negative(data.draw, axis, x.ndim)}
    powers = np.exp(x.astype(np.float64))
    share = powers / powers.sum(axis, keepdims=True)
    check("Softmax", [x], attrs, oracle=lambda x: share.astype(x.dtype))
    check("LogSoftmax", [x], attrs, oracle=lambda x: np.log(share).astype(x.dtype), atol=1e-5)
    attrs = {"reverse": data.draw(st.integers(0, 1)), "exclusive": data.draw(st.integers(0, 1))}
    wide = np.flip(x, axis) if attrs["reverse"] else x
    total = np.cumsum(wide.astype(np.float64), axis) - (wide if attrs["exclusive"] else 0)
    total = (np.flip(total, axis) if attrs["reverse"] else total).astype(x.dtype)
    check_constant_or_not(
        data.draw, "CumSum", [x, int64(axis)], attrs, oracle=lambda *_: total, rtol=1e-4, atol=1e-5
    )


@st.composite
def broadcast_pair(draw):
    """Two shapes that broadcast; dims of either are dropped in front or become 1."""
    full = draw(shapes())
    pair = []
    for _ in range(2):
        dims = [d if draw(st.integers(0, 3)) else 1 for d in full]
        pair.append(tuple(dims[draw(st.sampled_from([0, 0, 0, 1, 2])) :]))
    return pair


ARITHMETIC = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "Equal": np.equal,
}


@forms(2500)
@given(broadcast_pair(), st.sampled_from(sorted(ARITHMETIC)), st.booleans(), st.booleans())
def test_broadcast_arithmetic(pair, op_type, constant, ints):
    dtype = np.int32 if ints and op_type != "Div" else np.float32
    x, y = (array(s, dtype, i) for i, s in enumerate(pair))
    with np.errstate(divide="ignore", invalid="ignore"):
        want = np.asarray(ARITHMETIC[op_type](x, y))
    check(op_type, [x, y], constants=[1] if constant else (), oracle=lambda *_: want)


@forms(1000)
@given(broadcast_pair(), st.sampled_from(MOVED))
def test_where(pair, dtype):
    x, y = (array(s, dtype, i) for i, s in enumerate(pair))
    shape = np.broadcast_shapes(*pair)
    c = array(shape[len(shape) // 2 :], np.bool_)
    check("Where", [c, x, y], oracle=np.where)


@forms(1000)
@given(DATA)
def test_matmul(data):
    m, k, n = (data.draw(st.sampled_from([1, 2, 5, 0, 16, 33])) for _ in range(3))
    left, right = (tuple(s[:2]) for s in data.draw(broadcast_pair()))
    try:
        np.broadcast_shapes(left, right)
    except ValueError:
        right = ()
    a = array((*left, m, k) if left or data.draw(st.booleans()) else (k,))
    b = array((*right, k, n) if right or data.draw(st.booleans()) else (k,), seed=1)
    want = np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64))).astype(np.float32)
    constants = data.draw(st.sampled_from([(), (0,), (1,)]))
    check("MatMul", [a, b], constants=constants, oracle=lambda *_: want, rtol=1e-4, atol=1e-5)
