"""Pooling over windows, natively and in NumPy, against loops in float64 and ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewise_kernels
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tests.ops.pool_oracle import naive_pool
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

KIND = {"MaxPool": "max", "AveragePool": "mean", "LpPool": "norm"}


def floats(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def naive(op_type, attrs, outputs=1):
    """The loop oracle for a node with these attributes."""

    def run(x):
        names = ("strides", "dilations", "pads", "ceil_mode", "p")
        options = {k: attrs[k] for k in names if k in attrs}
        return naive_pool(
            x,
            KIND[op_type],
            attrs["kernel_shape"],
            padded=bool(attrs.get("count_include_pad")),
            column=bool(attrs.get("storage_order")),
            **options,
        )[:outputs]

    return run


WINDOWS = [
    # shape, attributes
    ((1, 1, 1), {"kernel_shape": [1]}),
    ((2, 3, 7), {"kernel_shape": [7]}),
    ((1, 2, 9), {"kernel_shape": [3], "strides": [3], "pads": [1, 2]}),
    ((1, 2, 9), {"kernel_shape": [2], "strides": [2], "dilations": [3]}),
    ((1, 1, 9000), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 1, 9000), {"kernel_shape": [4], "strides": [1], "dilations": [1000]}),
    ((1, 1, 9000), {"kernel_shape": [5], "strides": [3], "pads": [2, 0]}),
    ((2, 3, 1, 1), {"kernel_shape": [1, 1]}),
    ((1, 1, 1, 5), {"kernel_shape": [1, 2], "strides": [1, 2]}),
    ((2, 3, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 2, 13, 11), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ((1, 2, 13, 11), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((1, 2, 13, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((1, 2, 13, 11), {"kernel_shape": [2, 4], "strides": [3, 1], "pads": [1, 0, 0, 3]}),
    ((1, 2, 13, 11), {"kernel_shape": [2, 3], "strides": [1, 4], "dilations": [4, 2], "pads": [0, 2, 3, 1]}),
    ((1, 2, 6, 6), {"kernel_shape": [3, 3], "strides": [4, 4], "pads": [1, 1, 2, 2], "ceil_mode": 1}),
    ((1, 1, 2, 2), {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 1, 70, 90), {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 1, 1, 1]}),
    ((1, 1, 70, 90), {"kernel_shape": [5, 2], "strides": [2, 3], "dilations": [2, 3], "ceil_mode": 1}),
    ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 3], "pads": [1, 1, 0, 0, 1, 1]}),
    (
        (1, 2, 5, 6, 7),
        {"kernel_shape": [2, 2, 2], "dilations": [2, 1, 3], "strides": [2, 2, 2], "ceil_mode": 1},
    ),
    ((2, 2, 3, 4, 5), {"kernel_shape": [3, 4, 5]}),
    ((3, 5, 12, 33), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((3, 5, 12, 34), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 2, 1, 2]}),
    ((3, 5, 12, 67), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((3, 5, 12, 70), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((3, 5, 12, 70), {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}),
    ((2, 3, 6, 9, 35), {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "pads": [1, 1, 1, 1, 1, 1]}),
    ((2, 3, 6, 9, 40), {"kernel_shape": [5, 4, 3], "strides": [1, 1, 2], "pads": [2, 1, 0, 2, 2, 0]}),
    ((1, 2, 64), {"kernel_shape": [3], "pads": [2, 2]}),
]


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("op_type", KIND)
def test_windows(op_type, shape, attrs):
    check(op_type, [floats(*shape)], attrs, oracle=naive(op_type, attrs), kernel=True)


@pytest.mark.parametrize("width", [8, 15, 16, 17, 31, 32, 33, 34, 47, 65])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_vectors_of_windows_end_anywhere(op_type, kernel, stride, width):
    x = floats(1, 2, 2, width)
    x[0, 0, 1, 5] = x[0, 1, 0, width - 1] = np.nan
    x = (
        np.stack([x] * 2, axis=2) if stride == 1 else x
    )  # planes in depth never go to the kernel of small planes
    zeros = [0] * (x.ndim - 4)
    for pads in ([1, 1, 1, 1], [0, 0, 1, kernel - 1], [1, kernel - 1, 0, 0]):
        attrs = {
            "kernel_shape": [1] * len(zeros) + [2, kernel],
            "strides": [1] * len(zeros) + [1, stride],
            "pads": zeros + pads[:2] + zeros + pads[2:],
        }
        check(op_type, [x], attrs, oracle=naive(op_type, attrs), kernel=True)


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("storage_order", [0, 1])
def test_maxpool_indices(storage_order, shape, attrs):
    attrs = {**attrs, "storage_order": storage_order}
    x = np.round(floats(*shape))  # many equal maxima: the first one counts
    check("MaxPool", [x], attrs, outputs=2, oracle=naive("MaxPool", attrs, 2), kernel=True)


@pytest.mark.parametrize(("shape", "attrs"), [w for w in WINDOWS if "pads" in w[1]])
def test_average_counts_padding(shape, attrs):
    attrs = {**attrs, "count_include_pad": 1}
    check("AveragePool", [floats(*shape)], attrs, oracle=naive("AveragePool", attrs), kernel=True)


@pytest.mark.parametrize("p", [1, 2, 3, 7])
@pytest.mark.parametrize("shape", [(1, 2, 9, 8), (1, 1, 90, 80)])
def test_lp_orders(p, shape):
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1], "p": p}
    check("LpPool", [floats(*shape)], attrs, oracle=naive("LpPool", attrs), kernel=True)


@pytest.mark.parametrize("op_type", KIND)
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (7, 2, 2), (9, 4, 3), (5, 3, 1)])
def test_auto_pad(op_type, auto_pad, size, kernel, stride):
    attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "auto_pad": auto_pad}
    check(op_type, [floats(1, 2, size, size + 1)], attrs, oracle=ort(op_type, attrs), kernel=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_geometry(data):
    n = data.draw(st.integers(1, 3))
    axis = st.lists(st.integers(1, 3), min_size=n, max_size=n)
    kernel, strides, dilations = data.draw(axis), data.draw(axis), data.draw(axis)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    sizes = [data.draw(st.integers(max(1, s - 1), 8)) for s in spans]
    sizes = [max(z, s - pads[i] - pads[n + i]) for i, (z, s) in enumerate(zip(sizes, spans, strict=True))]
    # A window with no tap inside x has no maximum and no mean.
    strides = [min(s, z) for s, z in zip(strides, sizes, strict=True)]
    dilations = [1 if pads[i] or pads[n + i] else d for i, d in enumerate(dilations)]
    attrs = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    attrs["ceil_mode"] = data.draw(st.integers(0, 1))
    x = floats(1, 2, *sizes)
    check("MaxPool", [x], attrs, outputs=2, oracle=naive("MaxPool", attrs, 2))
    check("MaxPool", [x], attrs, oracle=naive("MaxPool", attrs))
    attrs["count_include_pad"] = data.draw(st.integers(0, 1))
    check("AveragePool", [x], attrs, oracle=naive("AveragePool", attrs))


@pytest.mark.parametrize(
    ("op_type", "attrs", "opset", "versions"),
    [
        ("MaxPool", {}, 7, "no ceil_mode, dilations, indices"),
        ("MaxPool", {"storage_order": 1}, 8, "no ceil_mode, dilations"),
        ("MaxPool", {"ceil_mode": 1}, 10, "ceil_mode"),
        ("MaxPool", {"dilations": [2, 1]}, 12, "dilations"),
        ("AveragePool", {"count_include_pad": 1, "pads": [1, 1, 0, 0]}, 7, "no ceil_mode, dilations"),
        ("AveragePool", {"ceil_mode": 1}, 10, "ceil_mode"),
        ("AveragePool", {"dilations": [1, 2]}, 19, "dilations"),
        ("LpPool", {"p": 3}, 7, "no ceil_mode, dilations"),
        ("LpPool", {"ceil_mode": 1, "dilations": [2, 2]}, 18, "dilations"),
    ],
)
def test_older_opsets(op_type, attrs, opset, versions):
    attrs = {"kernel_shape": [2, 3], "strides": [2, 2], **attrs}
    check(op_type, [floats(1, 2, 7, 8)], attrs, opset=opset, oracle=naive(op_type, attrs), kernel=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, ml_dtypes.bfloat16])
@pytest.mark.parametrize("outputs", [1, 2])
def test_maxpool_dtypes(dtype, outputs):
    x = (floats(2, 2, 6, 7) * 40).astype(np.int8).astype(dtype)
    attrs = {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]}
    check("MaxPool", [x], attrs, outputs=outputs, oracle=naive("MaxPool", attrs, outputs))


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float16, 1e-3), (np.float64, 1e-12), (ml_dtypes.bfloat16, 8e-3)]
)
@pytest.mark.parametrize("op_type", ["AveragePool", "LpPool"])
def test_mean_and_norm_dtypes(op_type, dtype, rtol):
    x = floats(1, 2, 6, 7, dtype=dtype)
    attrs = {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]}
    check(op_type, [x], attrs, oracle=naive(op_type, attrs), rtol=rtol, atol=rtol)


def test_half_precision_mean_does_not_overflow():
    x = np.full((1, 1, 8, 8), 60000, np.float16)
    check("AveragePool", [x], {"kernel_shape": [8, 8]}, oracle=lambda x: x[:, :, :1, :1])


@pytest.mark.parametrize("size", [20, 80])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [3, 3]])
def test_nan_and_infinity_are_carried(size, strides):
    x = floats(1, 1, size, size)
    x[0, 0, 3, 4], x[0, 0, 9, 9], x[0, 0, 15, 2] = np.nan, np.inf, -np.inf
    x[0, 0, 16:19, 10:13] = -np.inf
    attrs = {"kernel_shape": [3, 3], "strides": strides, "pads": [1, 1, 1, 1]}
    for op_type in KIND:
        check(op_type, [x], attrs, oracle=naive(op_type, attrs), kernel=True)
    check("MaxPool", [x], attrs, outputs=2, oracle=naive("MaxPool", attrs, 2), kernel=True)


def test_a_window_of_padding_alone():
    x = floats(1, 1, 3)
    attrs = {"kernel_shape": [2], "strides": [2], "pads": [2, 0]}
    y = [[[-np.inf, *(max(x[0, 0, 0:2]),)]]]
    check("MaxPool", [x], attrs, oracle=lambda _: np.array(y, np.float32), kernel=True)
    index = [[[-1, int(np.argmax(x[0, 0, :2]))]]]
    both = [np.array(y, np.float32), np.array(index, np.int64)]
    check("MaxPool", [x], attrs, outputs=2, oracle=lambda _: both, kernel=True)


@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 0, 4, 4), (1, 1, 0, 4)])
@pytest.mark.parametrize("op_type", KIND)
def test_empty(op_type, shape):
    out = (*shape[:2], shape[2] // 2, shape[3] // 2)
    check(
        op_type,
        [np.empty(shape, np.float32)],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        oracle=lambda _: np.empty(out, np.float32),
    )


def test_four_axes_run_in_numpy():
    attrs = {"kernel_shape": [2, 1, 2, 3], "strides": [1, 2, 2, 1], "pads": [1, 0, 0, 1, 0, 0, 1, 1]}
    for op_type in KIND:
        check(op_type, [floats(1, 1, 3, 4, 5, 4)], attrs, oracle=naive(op_type, attrs), kernel=False)


def test_threads_change_nothing():
    if not tilewise_kernels.NATIVE:
        pytest.skip("no kernels in this build")
    x = floats(3, 20, 75, 77)
    for op_type in KIND:
        proto = one_node(op_type, [x], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
        one, three = (load(proto.SerializeToString(), threads=t).run({"x0": x})["y0"] for t in (1, 3))
        assert one.tobytes() == three.tobytes()


@pytest.mark.parametrize(
    ("op_type", "x", "attrs", "message"),
    [
        ("MaxPool", floats(2, 3), {"kernel_shape": [1]}, "expected x of rank 3 or more"),
        ("MaxPool", floats(1, 1, 4, 4), {"kernel_shape": [3]}, "expected a kernel of 2 dims"),
        ("MaxPool", floats(1, 1, 4, 4), {"kernel_shape": [0, 1]}, "at least 1, got"),
        ("MaxPool", floats(1, 1, 4, 4), {"kernel_shape": [5, 1]}, "does not fit into 4 elements"),
        (
            "AveragePool",
            floats(1, 1, 4, 4),
            {"kernel_shape": [2, 2], "strides": [1]},
            "expected 2 values in strides",
        ),
        ("LpPool", floats(1, 1, 4, 4), {"kernel_shape": [2, 2], "p": 0}, "expected p of at least 1, got 0"),
    ],
)
def test_wrong_inputs_are_refused(op_type, x, attrs, message):
    with pytest.raises(TilewiseError, match=message):
        load(one_node(op_type, [x], attrs).SerializeToString()).run({"x0": x})


def test_wrong_element_type_is_refused():
    x = np.zeros((1, 1, 4, 4), np.int32)
    with pytest.raises(TilewiseError, match="int32"):
        load(one_node("AveragePool", [x], {"kernel_shape": [2, 2]}).SerializeToString()).run({"x0": x})
