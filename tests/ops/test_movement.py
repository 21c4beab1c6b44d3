"""Operators that move data: transposition, slices, joins, padding, repetition, blocks."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tilewise_kernels
from tests.ops.harness import check, ints, one_node, strings
from tilewise import TilewiseError, load

RNG = np.random.default_rng(7)
ITEMS = ["uint8", "float16", "float32", "float64", "complex128"]
"""One dtype of each size that a copy knows."""


def data(*shape: int, dtype="float32") -> np.ndarray:
    return RNG.integers(0, 100, shape).astype(dtype)


TRANSPOSES = [
    ((), None),
    ((5,), None),
    ((3, 4), None),
    ((1, 1, 7), (2, 0, 1)),  # only axes of one element move
    ((2, 3, 4, 5), (0, 2, 3, 1)),
    ((2, 4, 5, 3), (0, 3, 1, 2)),
    ((2, 40, 17, 19), (0, 2, 3, 1)),
    ((2, 17, 19, 40), (0, 3, 1, 2)),
    ((1, 2, 30, 31), (0, 2, 3, 1)),
    ((1, 30, 31, 4), (0, 3, 1, 2)),
    ((65, 130), (1, 0)),
    ((3, 4, 5, 6), (3, 2, 1, 0)),
    ((4, 2, 6, 5, 3), (0, 2, 1, 3, 4)),
    ((4, 2, 3, 2, 3, 2), (4, 0, 2, 5, 1, 3)),
]


@pytest.mark.parametrize(("shape", "perm"), TRANSPOSES)
@pytest.mark.parametrize("dtype", ITEMS)
def test_transpose(shape, perm, dtype):
    x = data(*shape, dtype=dtype)
    attrs = {} if perm is None else {"perm": perm}
    check("Transpose", [x], attrs, oracle=lambda x: x.transpose(perm), kernel=True)


def test_transpose_of_what_kernels_do_not_hold():
    check("Transpose", [strings(2, 3)], kernel=False)
    check("Transpose", [data(0, 3)], kernel=False)
    check("Transpose", [data(2, 3, dtype=ml_dtypes.bfloat16)], oracle=np.transpose, kernel=True)


def test_transposition_larger_than_a_task():
    x = data(3, 300, 700)
    check("Transpose", [x], {"perm": [2, 0, 1]}, oracle=lambda x: x.transpose(2, 0, 1), kernel=True)


SLICES = [
    # starts, ends, axes, steps of a (5, 6, 7) array
    ([1], [4], None, None),
    ([1, 2], [3, 5], None, None),
    ([0, 0, 1], [5, 6, 6], None, None),
    ([-3], [-1], [-1], None),
    ([1], [1000], [1], None),
    ([1], [2**63 - 1], [1], [1]),
    ([-1000], [3], [1], None),
    ([0], [7], [2], [2]),
    ([1], [7], [2], [3]),
    ([-1], [-(2**63)], [2], [-1]),
    ([6], [0], [2], [-2]),
    ([100], [-100], [0], [-3]),
    ([4, 1, 5], [0, 6, 1], [0, 1, 2], [-1, 2, -3]),
    ([2], [3], [0], None),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
@pytest.mark.parametrize("fed", [False, True])
def test_slice(starts, ends, axes, steps, fed):
    x = data(5, 6, 7)
    inputs = [x, ints(*starts), ints(*ends), None if axes is None else ints(*axes)]
    inputs += [] if steps is None else [ints(*steps)]
    inputs = inputs[:3] if axes is None and steps is None else inputs
    constants = () if fed else [i for i, a in enumerate(inputs) if i and a is not None]
    check("Slice", inputs, constants=constants, kernel=not fed)


@pytest.mark.parametrize(
    ("start", "end", "step", "expected"),
    [(-9, -9, -1, [0]), (9, 1, -1, [3, 2]), (0, 0, 1, []), (2, 1, 1, []), (0, 3, -1, []), (3, -9, -9, [3])],
)
def test_slice_clamps_bounds_as_the_specification_says(start, end, step, expected):
    inputs = [np.arange(4, dtype=np.float32), ints(start), ints(end), ints(0), ints(step)]

    def oracle(*_):
        return np.array(expected, np.float32)

    check("Slice", inputs, constants=(1, 2, 3, 4), oracle=oracle)


@pytest.mark.parametrize("dtype", ITEMS)
def test_slice_of_every_item_size(dtype):
    x = data(3, 40, 50, dtype=dtype)
    for index in (
        np.s_[:, 3:9, ::-1],
        np.s_[:, ::2, ::2],
        np.s_[::-1, :, 1:],
        np.s_[:, :, 7:8],
        np.s_[:, 1::3, ::5],
    ):
        parts = [s.indices(n) for s, n in zip(index, x.shape, strict=True)]
        starts, ends, steps = (ints(*column) for column in zip(*parts, strict=True))
        ends = np.where(ends < 0, -1000, ends)
        inputs = [x, starts, ends, ints(0, 1, 2), steps]
        check(
            "Slice", inputs, constants=(1, 2, 3, 4), oracle=lambda x, *_, index=index: x[index], kernel=True
        )


def test_slice_with_attributes():
    x = data(5, 6)
    check("Slice", [x], {"starts": [1, -4], "ends": [4, 99]}, opset=9, kernel=True)
    check("Slice", [x], {"starts": [1], "ends": [-1], "axes": [1]}, opset=7, kernel=True)
    check("Slice", [strings(3)], {"starts": [1], "ends": [3]}, opset=9, kernel=False)


SPLITS = [
    # shape, attributes, sizes, outputs, opset
    ((6,), {}, None, 3, 13),
    ((6, 4), {"axis": 1}, None, 2, 11),
    ((6, 4), {"axis": -1, "split": [1, 3]}, None, 2, 11),
    ((6, 4), {"split": [2, 4]}, None, 2, 7),
    ((6, 4), {"axis": 0}, [1, 2, 3], 3, 13),
    ((1, 6, 4), {"axis": 1}, [1, 2, 3], 3, 18),
    ((7, 4), {"num_outputs": 3}, None, 3, 18),
    ((2, 7), {"num_outputs": 4, "axis": -1}, None, 4, 18),
    ((2, 7), {"axis": 1}, [7], 1, 18),
]


@pytest.mark.parametrize(("shape", "attrs", "sizes", "count", "opset"), SPLITS)
def test_split(shape, attrs, sizes, count, opset):
    x = data(*shape)
    inputs = [x] if sizes is None else [x, ints(*sizes)]
    ends = sizes or attrs.get("split") or [-(-x.shape[attrs.get("axis", 0)] // count)] * count

    def oracle(x, *_):
        return np.split(x, np.cumsum(ends)[:-1], attrs.get("axis", 0))

    for constants in ((), (1,)) if sizes else ((),):
        check("Split", inputs, attrs, opset=opset, outputs=count, constants=constants, oracle=oracle)


@pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")
def test_split_into_aliases_or_copies():
    for axis, kernels in ((0, set()), (1, {"strided_copy"})):
        model = load(one_node("Split", [data(4, 6)], {"axis": axis, "num_outputs": 2}, outputs=2))
        assert {s.kernel for s in model.plan().steps} == kernels


def test_split_with_empty_piece():
    check("Split", [data(3), ints(0, 3, 0)], constants=(1,), outputs=3, kernel=False)


CONCATS = [
    ([(3,)], 0),
    ([(3,), (1,), (4,)], 0),
    ([(2, 3), (2, 1)], 1),
    ([(2, 3), (2, 1), (2, 300)], -1),
    ([(1, 3, 5), (1, 2, 5)], 1),
    ([(4, 3, 5), (4, 2, 5)], 1),
    ([(4, 3, 5), (1, 3, 5)], -3),
]


@pytest.mark.parametrize(("shapes", "axis"), CONCATS)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "complex64"])
def test_concat(shapes, axis, dtype):
    inputs = [data(*s, dtype=dtype) for s in shapes]
    check("Concat", inputs, {"axis": axis}, oracle=lambda *a: np.concatenate(a, axis), kernel=True)


def test_concat_of_strings_and_of_nothing():
    check("Concat", [strings(2, 1), strings(2, 2)], {"axis": 1}, kernel=False)
    check("Concat", [data(2, 0), data(2, 3)], {"axis": 1}, kernel=False)


PADS = [
    # shape, pads
    ((5,), (2, 3)),
    ((4, 5), (0, 1, 0, 0)),
    ((4, 5), (1, 2, 3, 1)),
    ((2, 3, 4, 5), (0, 0, 1, 1, 0, 0, 1, 1)),
    ((2, 3, 4, 5), (0, 0, 3, 4, 0, 0, 2, 3)),
    ((2, 3, 4, 5), (1, 1, 1, 1, 1, 1, 1, 1)),
    ((4, 5), (-1, 2, 1, -2)),
    ((4, 5), (-1, 0, 0, -3)),
    ((4, 5), (0, 0, 0, 0)),
]


@pytest.mark.parametrize(("shape", "pads"), PADS)
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize("fed", [False, True])
def test_pad(shape, pads, mode, fed):
    def oracle(x, *_):
        n = x.ndim
        index = tuple(slice(max(0, -pads[i]), x.shape[i] - max(0, -pads[n + i])) for i in range(n))
        return np.pad(x[index], [(max(pads[i], 0), max(pads[n + i], 0)) for i in range(n)], mode)

    constants = () if fed else (1,)
    check(
        "Pad", [data(*shape), ints(*pads)], {"mode": mode}, constants=constants, oracle=oracle, kernel=not fed
    )


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_pad_by_more_than_the_axis_has(mode, n):
    def oracle(x, _):
        return np.pad(x, [(0, 0), (7, 8)], mode)

    check("Pad", [data(2, n), ints(0, 7, 0, 8)], {"mode": mode}, constants=(1,), oracle=oracle, kernel=True)


@pytest.mark.parametrize("dtype", [*ITEMS, "bool", "int64"])
def test_pad_value(dtype):
    x, value = data(2, 3, dtype=dtype), np.array(3).astype(dtype)

    def oracle(x, *_):
        return np.pad(x, [(1, 0), (0, 2)], constant_values=value)

    for constants in ((1,), (1, 2)):
        check("Pad", [x, ints(1, 0, 0, 2), value], constants=constants, oracle=oracle, kernel=True)

    def oracle(x, *_):
        return np.pad(x, [(0, 0), (1, 2)])

    check("Pad", [x, ints(1, 2), None, ints(-1)], constants=(1, 3), oracle=oracle, kernel=True)


def test_pad_with_attributes():
    x = data(2, 3)
    for attrs in (
        {"pads": [0, 1, 2, 0]},
        {"pads": [0, 1, 2, 0], "value": 2.5},
        {"pads": [0, 1, 0, 1], "mode": "reflect"},
    ):
        mode = attrs.get("mode", "constant")
        extra = {"constant_values": attrs.get("value", 0)} if mode == "constant" else {}
        pairs = list(zip(attrs["pads"][:2], attrs["pads"][2:], strict=True))
        check(
            "Pad",
            [x],
            attrs,
            opset=7,
            oracle=lambda x, p=pairs, m=mode, e=extra: np.pad(x, p, m, **e),
            kernel=True,
        )


def test_pad_of_other_kinds():
    check("Pad", [data(0, 2), ints(1, 0, 2, 0)], constants=(1,))

    def oracle(x, *_):
        return np.array(["", "s0", "s1"], object)

    check("Pad", [strings(2), ints(1, 0)], constants=(1,), oracle=oracle, kernel=False)

    def oracle(*_):
        return np.full((4,), 7, np.float32)

    seven = np.array(7, np.float32)
    check("Pad", [data(3), ints(-3, 4), seven], constants=(1, 2), oracle=oracle, kernel=True)


@pytest.mark.parametrize(
    ("shape", "target", "axes"),
    [
        ((10, 7, 3), (4, 3, 3), None),
        ((3, 4), (6, 9), None),
        ((5, 6, 2), (9, 3), (0, 1)),
        ((5, 6), (2,), (-1,)),
        ((7,), (2,), None),
    ],
)
def test_center_crop_pad(shape, target, axes):
    attrs = {} if axes is None else {"axes": axes}
    for constants in ((), (1,)):
        inputs = [data(*shape), ints(*target)]
        check("CenterCropPad", inputs, attrs, constants=constants, kernel=bool(constants))


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((), (2, 3)),
        ((3,), (2, 3)),
        ((3, 1), (1, 4)),
        ((1, 5, 1, 1), (2, 5, 6, 7)),
        ((2, 1, 3), (2, 40, 3)),
        ((2, 3), (2, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ITEMS)
def test_expand(shape, target, dtype):
    x = data(*shape, dtype=dtype)

    def oracle(x, s):
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(s)))

    for constants in ((), (1,)):
        check("Expand", [x, ints(*target)], constants=constants, oracle=oracle, kernel=bool(constants))


@pytest.mark.parametrize(
    ("shape", "repeats"),
    [((3,), (2,)), ((2, 3), (1, 1)), ((2, 3), (2, 1)), ((2, 1, 3), (2, 3, 4)), ((4, 5), (1, 7))],
)
def test_tile(shape, repeats):
    for constants in ((), (1,)):
        check("Tile", [data(*shape), ints(*repeats)], constants=constants, kernel=bool(constants))
    check("Tile", [data(2, 3), ints(0, 2)], constants=(1,))
    check("Tile", [strings(2), ints(2)], constants=(1,))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(
    ("shape", "size"), [((1, 8, 2, 3), 2), ((2, 27, 1, 2), 3), ((1, 64, 20, 31), 4), ((2, 3, 4, 5), 1)]
)
@pytest.mark.parametrize("dtype", ITEMS)
def test_blocks_of_channels_and_pixels(mode, shape, size, dtype):
    n, c, h, w = shape
    x = data(*shape, dtype=dtype)

    def to_space(x):
        y = np.zeros((n, c // size**2, h * size, w * size), x.dtype)
        for i in range(size):
            for j in range(size):
                block = i * size + j
                step = size * size
                part = (
                    x[:, block::step]
                    if mode == "CRD"
                    else x[:, block * (c // step) : (block + 1) * (c // step)]
                )
                y[:, :, i::size, j::size] = part
        return y

    attrs = {"blocksize": size, "mode": mode}
    y = to_space(x)
    check("DepthToSpace", [x], attrs, opset=13, oracle=to_space, kernel=True)
    check("SpaceToDepth", [y], attrs, oracle=lambda _: x, kernel=True)
    if mode == "DCR":
        check("DepthToSpace", [x], {"blocksize": size}, opset=7, oracle=to_space, kernel=True)
        check("SpaceToDepth", [y], {"blocksize": size}, opset=7, oracle=lambda _: x, kernel=True)


ERRORS = [
    ("Transpose", [data(2, 3)], {"perm": [0, 0]}, (), "order of 2 axes, got [0, 0]"),
    ("Concat", [data(2, 3), data(3, 3)], {"axis": 1}, (), "agree but for axis 1"),
    ("Concat", [data(2, 3), data(2)], {"axis": 0}, (), "one rank"),
    ("Concat", [data(2)], {"axis": 1}, (), "axis 1 is outside"),
    ("Split", [data(5)], {"num_outputs": 3}, (), "num_outputs 2, as many as outputs, got 3"),
    ("Split", [data(5), ints(2, 2)], {}, (1,), "add up to 5, got [2, 2]"),
    ("Slice", [data(5), ints(0), ints(2), ints(1)], {}, (1, 2, 3), "axis 1 is outside"),
    ("Slice", [data(5), ints(0), ints(2), ints(0), ints(0)], {}, (1, 2, 3, 4), "steps other than 0"),
    ("Slice", [data(5), ints(0, 0), ints(2), ints(0)], {}, (1, 2, 3), "expected 1 starts"),
    ("Pad", [data(5), ints(1)], {}, (1,), "expected 2 pads"),
    ("Pad", [data(5), ints(-3, -3)], {}, (1,), "remove more than the 5"),
    ("Pad", [data(5), ints(1, 1)], {"mode": "mirror"}, (1,), "'mode' = 'mirror', expected one of constant"),
    ("Expand", [data(5), ints(4)], {}, (1,), "5 and 4"),
    ("Tile", [data(5), ints(1, 2)], {}, (1,), "expected 1 repeats"),
    ("DepthToSpace", [data(1, 6, 2, 2)], {"blocksize": 2}, (), "4 divides, got 6"),
    ("SpaceToDepth", [data(1, 6, 2, 3)], {"blocksize": 2}, (), "2 divides, got 3"),
    ("SpaceToDepth", [data(6, 2, 3)], {"blocksize": 2}, (), "(N, C, H, W), got (6, 2, 3)"),
    ("CenterCropPad", [data(5, 5), ints(4)], {}, (1,), "expected 2 dims"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "constants", "message"), ERRORS)
def test_errors(op, inputs, attrs, constants, message):
    outputs = 2 if op == "Split" else 1
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, constants=constants, outputs=outputs))
    assert message in str(raised.value)


def test_errors_that_only_values_show():
    model = load(one_node("Slice", [data(5), ints(0), ints(2), ints(0), ints(0)]))
    feeds = {"x0": data(5), "x1": ints(0), "x2": ints(2), "x3": ints(0)}
    with pytest.raises(TilewiseError, match="steps other than 0"):
        model.run({**feeds, "x4": ints(0)})
    assert model.run({**feeds, "x4": ints(1)})["y0"].shape == (2,)
