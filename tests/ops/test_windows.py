"""The arithmetic of windows against counting them one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewise.errors import ShapeError
from tilewise.graph import Node
from tilewise.ops.base import Op
from tilewise.ops.windows import output_dim, read_windows, resolve, same_pads


def counted(size, kernel, stride, dilation, begin, end, ceil_mode):
    """Starts of windows from -begin on: those that fit, with `ceil_mode` one more where elements are left.

    The last one is dropped with `ceil_mode` if it starts behind the input.
    """
    span = (kernel - 1) * dilation + 1
    starts = [s for s in range(-begin, size + end, stride) if s + span <= size + end]
    if ceil_mode and starts[-1] + span < size + end:
        starts.append(starts[-1] + stride)
    return len(starts) - (ceil_mode and starts[-1] >= size)


geometry = {
    "size": st.integers(1, 12),
    "kernel": st.integers(1, 4),
    "stride": st.integers(1, 5),
    "dilation": st.integers(1, 3),
    "begin": st.integers(0, 4),
    "end": st.integers(0, 4),
    "ceil_mode": st.booleans(),
}


@given(**geometry)
def test_output_dim_counts_windows(size, kernel, stride, dilation, begin, end, ceil_mode):
    if (kernel - 1) * dilation + 1 > size + begin + end:
        with pytest.raises(ValueError, match="does not fit"):
            output_dim(size, kernel, stride, dilation, begin, end, ceil_mode)
    else:
        expected = counted(size, kernel, stride, dilation, begin, end, ceil_mode)
        assert output_dim(size, kernel, stride, dilation, begin, end, ceil_mode) == expected


@given(
    size=st.integers(1, 20), kernel=st.integers(1, 6), stride=st.integers(1, 5), dilation=st.integers(1, 3)
)
def test_same_pads_make_ceil_of_size_over_stride(size, kernel, stride, dilation):
    for upper in (True, False):
        begin, end = same_pads(size, kernel, stride, dilation, upper)
        assert output_dim(size, kernel, stride, dilation, begin, end) == -(-size // stride)
        assert 0 <= (end - begin if upper else begin - end) <= 1


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "expected"),
    [
        ("H", 3, 1, (1, 1), "H"),
        ("H", 3, 1, (0, 0), None),
        ("H", 3, 2, (1, 1), None),
        ("H", 1, 1, (0, 0), "H"),
        (None, 3, 1, (1, 1), None),
        (8, "K", 1, (0, 0), None),
        (8, None, 1, (0, 0), None),
        (0, 3, 2, (0, 0), 0),
    ],
)
def test_output_dim_of_free_dims(size, kernel, stride, pads, expected):
    assert output_dim(size, kernel, stride, 1, *pads) == expected


@pytest.mark.parametrize(
    ("auto_pad", "sizes", "strides", "pads", "out"),
    [
        ("NOTSET", (7, "W"), (2, 1), (1, 1, 1, 1), (4, "W")),
        ("VALID", (7, "W"), (2, 1), (0, 0, 0, 0), (3, None)),
        ("SAME_UPPER", (7, "W"), (2, 1), (1, 1, 1, 1), (4, "W")),
        ("SAME_UPPER", (8, 8), (2, 3), (0, 0, 1, 1), (4, 3)),
        ("SAME_LOWER", (8, 8), (2, 3), (1, 1, 0, 0), (4, 3)),
        ("SAME_LOWER", ("H", 8), (2, 3), None, (None, 3)),
    ],
)
def test_auto_pad(auto_pad, sizes, strides, pads, out):
    windows = resolve(sizes, (3, 3), strides, (1, 1), (1, 1, 1, 1), auto_pad, ceil_mode=auto_pad != "NOTSET")
    assert (windows.pads, windows.out) == (pads, out)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"strides": [1]}, "expected 2 values in strides, got"),
        ({"strides": [0, 1]}, "at least 1 in strides"),
        ({"pads": [1, 1]}, "expected 4 values in pads"),
        ({"pads": [0, 0, -1, 0]}, "at least 0 in pads"),
        ({"dilations": [1, 4]}, "does not fit into 7 elements"),
        ({"auto_pad": "SAME"}, "expected auto_pad to be one of NOTSET"),
    ],
)
def test_malformed_attributes_are_named(attrs, message):
    op = Op(Node("MaxPool", ["x"], ["y"], attrs, name="pool1"))
    with pytest.raises(ShapeError, match=message) as error:
        read_windows(op, (7, 7), (3, 3))
    assert "pool1" in str(error.value)
