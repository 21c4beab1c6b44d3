"""Operators on shapes, and what inference knows of values whose dims are free."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import check, ints, one_node
from tilewise import TilewiseError, load
from tilewise.graph import Fact, Node
from tilewise.ops.inference import infer_node
from tilewise.ops.table import make

RNG = np.random.default_rng(3)
FLOAT = np.dtype(np.float32)


def data(*shape: int, dtype="float32") -> np.ndarray:
    return RNG.integers(0, 100, shape).astype(dtype)


RESHAPES = [
    # from, target, attributes, to
    ((2, 3, 4), (4, 6), {}, (4, 6)),
    ((2, 3, 4), (-1,), {}, (24,)),
    ((2, 3, 4), (0, -1), {}, (2, 12)),
    ((2, 3, 4), (4, 0, -1), {}, (4, 3, 2)),
    ((2, 3, 4), (0, 0, 0), {}, (2, 3, 4)),
    ((1,), (), {}, ()),
    ((), (1, 1), {}, (1, 1)),
    ((), (-1,), {}, (1,)),
    ((0, 3), (0, -1), {}, (0, 3)),
    ((0, 3), (3, 0), {"allowzero": 1}, (3, 0)),
    ((0, 3), (-1, 5), {"allowzero": 1}, (0, 5)),
]


@pytest.mark.parametrize(("shape", "target", "attrs", "to"), RESHAPES)
@pytest.mark.parametrize("fed", [False, True])
def test_reshape(shape, target, attrs, to, fed):
    x = data(*shape)
    check(
        "Reshape",
        [x, ints(*target)],
        attrs,
        constants=() if fed else (1,),
        oracle=lambda x, _: x.reshape(to),
        kernel=None if x.size == 0 else not fed,
    )


@pytest.mark.parametrize("opset", [5 + 2, 13, 14])
def test_reshape_of_every_kind(opset):
    check("Reshape", [data(2, 3, dtype="uint8"), ints(3, 2)], opset=opset, constants=(1,), kernel=True)
    text = np.array([["a", "b"]], object)
    check("Reshape", [text, ints(2)], opset=opset, constants=(1,), kernel=False)


@pytest.mark.parametrize("axis", [-4, -2, 0, 1, 2, 4])
def test_flatten(axis):
    x = data(2, 3, 4, 5)
    rows = int(np.prod(x.shape[:axis])) if axis else 1
    check("Flatten", [x], {"axis": axis}, oracle=lambda x: x.reshape(rows, -1), kernel=True)
    check("Flatten", [x], {"axis": axis % 5}, opset=7)
    check("Flatten", [data()], {"axis": 0}, oracle=lambda x: x.reshape(1, 1), kernel=True)


@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 3, 1), None), ((1, 3, 1), (0,)), ((1, 3, 1), (-1, 0)), ((1,), (0,)), ((3,), ())]
)
def test_squeeze(shape, axes):
    x = data(*shape)

    def oracle(x, *_):
        return x.squeeze(axes)

    given = {} if axes is None else {"axes": axes}
    if axes != ():
        check("Squeeze", [x], given, opset=7 if min(axes or (0,)) >= 0 else 11, oracle=oracle, kernel=True)
    if axes is None:
        check("Squeeze", [x], oracle=oracle, kernel=True)
    else:
        for constants in ((), (1,)):
            check("Squeeze", [x, ints(*axes)], constants=constants, oracle=oracle, kernel=bool(constants))


@pytest.mark.parametrize(
    ("shape", "axes"), [((), (0,)), ((3,), (-1,)), ((3, 4), (4, 0, 2)), ((3,), (-3, -1))]
)
def test_unsqueeze(shape, axes):
    x = data(*shape)

    def oracle(x, *_):
        return np.expand_dims(x, axes)

    check("Unsqueeze", [x], {"axes": axes}, opset=11, oracle=oracle, kernel=True)
    for constants in ((), (1,)):
        check("Unsqueeze", [x, ints(*axes)], constants=constants, oracle=oracle, kernel=bool(constants))


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({}, [2, 3, 4]),
        ({"start": 1}, [3, 4]),
        ({"end": -1}, [2, 3]),
        ({"start": -9, "end": 9}, [2, 3, 4]),
        ({"start": 2, "end": 1}, []),
    ],
)
def test_shape(attrs, expected):
    check("Shape", [data(2, 3, 4)], attrs, oracle=lambda _: ints(*expected))


def test_shape_and_size_of_odd_arrays():
    for shape in ((), (0,), (2, 0, 3), (5,)):
        check("Shape", [data(*shape)], opset=13)
        check("Size", [data(*shape)])
    check("Size", [np.array(["a", "b"], object)], opset=7)


ERRORS = [
    ("Reshape", [data(2, 3), ints(4, 2)], {}, "6 elements for (2, 3), got [4, 2]"),
    ("Reshape", [data(2, 3), ints(4, -1)], {}, "divides (2, 3), got [4, -1]"),
    ("Reshape", [data(2, 3), ints(-1, -1)], {}, "at most one -1"),
    ("Reshape", [data(2, 3), ints(-2, 3)], {}, "dims >= 0"),
    ("Reshape", [data(2, 3), ints(2, 3, 0)], {}, "copies dim 2 of an input of rank 2"),
    ("Reshape", [data(0, 3), ints(0, -1)], {"allowzero": 1}, "at most one -1, got [0, -1]"),
    ("Flatten", [data(2, 3)], {"axis": 3}, "axis 3 is outside [-2, 2]"),
    ("Squeeze", [data(2, 3), ints(1)], {}, "axis 1 of (2, 3) to have one element"),
    ("Squeeze", [data(2, 3), ints(2)], {}, "axis 2 is outside"),
    ("Unsqueeze", [data(2, 3), ints(0, 0)], {}, "name one axis twice"),
    ("Unsqueeze", [data(2, 3), ints(4)], {}, "axis 4 is outside [-3, 3)"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), ERRORS)
def test_errors(op, inputs, attrs, message):
    constants = (1,) if len(inputs) > 1 else ()
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, constants=constants))
    assert message in str(raised.value)


def inferred(op: str, shape, *values, opset: int = 24, outputs: int = 1, **attrs) -> list:
    """Shapes of the outputs of a node with input 0 of `shape`; other inputs are constants, None for a free one."""
    facts: list[Fact | None] = [Fact(FLOAT, shape)]
    facts += [Fact(np.dtype(np.int64), (None,)) if v is None else Fact.of(ints(*v)) for v in values]
    node = Node(
        op, [f"x{i}" for i in range(len(facts))], [f"y{i}" for i in range(outputs)], attrs, version=opset
    )
    found = infer_node(make(node), facts)
    return found[0].shape if outputs == 1 else [f.shape for f in found]


FREE = [
    # what `inferred` says of free dims
    (inferred("Reshape", ("N", 3, 4, 5), (0, -1)), ("N", 60)),
    (inferred("Reshape", ("N", 3, 4, 5), (-1, 60)), ("N", 60)),
    (inferred("Reshape", ("N", 3, 4, 5), (0, 3, -1)), ("N", 3, 20)),
    (inferred("Reshape", ("N", 3, 4, 5), (-1, 30)), (None, 30)),
    (inferred("Reshape", ("N", 3, "H", "W"), (0, 3, -1)), ("N", 3, None)),
    (inferred("Reshape", ("N", 3, "H", "W"), (1, -1)), (1, None)),
    (inferred("Reshape", None, (2, -1)), (2, None)),
    (inferred("Reshape", None, (0, 2)), (None, 2)),
    (inferred("Reshape", (2, 3), None), None),
    (inferred("Flatten", ("N", 3, 4), axis=1), ("N", 12)),
    (inferred("Flatten", ("N", 3, 4), axis=2), (None, 4)),
    (inferred("Flatten", None, axis=2), (None, None)),
    (inferred("Squeeze", ("N", 1, 4)), None),
    (inferred("Squeeze", ("N", 1, 4), (1,)), ("N", 4)),
    (inferred("Squeeze", ("N", 1, "W"), (2,)), ("N", 1)),
    (inferred("Unsqueeze", ("N", 4), (0, -1)), (1, "N", 4, 1)),
    (inferred("Transpose", ("N", 3, "H"), perm=[2, 0, 1]), ("H", "N", 3)),
    (inferred("Transpose", None, perm=[2, 0, 1]), (None, None, None)),
    (inferred("Slice", ("N", 8), (0,), (2**31 - 1,), (0,)), ("N", 8)),
    (inferred("Slice", ("N", 8), (1,), (5,), (1,)), ("N", 4)),
    (inferred("Slice", ("N", 8), (1,), (5,), (0,)), (None, 8)),
    (inferred("Slice", ("N", 8), (-1,), (-(2**63),), (0,), (-1,)), ("N", 8)),
    (inferred("Slice", ("N", 8), None, None, (1,)), ("N", None)),
    (inferred("Slice", ("N", 8), None, None, None), (None, None)),
    (inferred("Split", ("N", 8), outputs=2, axis=1), [("N", 4), ("N", 4)]),
    (inferred("Split", ("N", 8), outputs=2, axis=0), [(None, 8), (None, 8)]),
    (inferred("Split", ("N", 8), None, outputs=2, axis=1), [("N", None), ("N", None)]),
    (inferred("Expand", ("N", 1), (3, 1, 5)), (3, "N", 5)),
    (inferred("Expand", ("N", 1), None), None),
    (inferred("Tile", ("N", 3, "W"), (1, 2, 2)), ("N", 6, None)),
    (inferred("DepthToSpace", ("N", 8, "H", 5), blocksize=2), ("N", 2, None, 10)),
    (inferred("SpaceToDepth", ("N", 2, "H", 4), blocksize=2), ("N", 8, None, 2)),
    (inferred("Pad", ("N", 8), (0, 1, 0, 2)), ("N", 11)),
    (inferred("Pad", ("N", 8), (1, 1, 0, 2)), (None, 11)),
    (inferred("Pad", ("N", 8), None), (None, None)),
    (inferred("CenterCropPad", ("N", "H", "W"), (4, 5), axes=[1, 2]), ("N", 4, 5)),
    (inferred("Gather", ("N", 8), (3, 1), axis=1), ("N", 2)),
    (inferred("Gather", (8, "W"), None, axis=0), (None, "W")),
]


@pytest.mark.parametrize(("got", "expected"), FREE)
def test_free_dims(got, expected):
    assert got == expected


def test_shape_of_partly_known_dims():
    def value(**attrs):
        node = Node("Shape", ["x"], ["y"], attrs, version=15)
        return infer_node(make(node), [Fact(FLOAT, ("N", 3, 4))])[0].value

    assert value() is None
    np.testing.assert_array_equal(value(start=1), [3, 4])
    np.testing.assert_array_equal(value(start=-1), [4])


def test_concat_of_free_dims():
    def shape(*shapes, axis=1):
        node = Node("Concat", [f"x{i}" for i in range(len(shapes))], ["y"], {"axis": axis}, version=13)
        return infer_node(make(node), [Fact(FLOAT, s) for s in shapes])[0].shape

    assert shape(("N", 3), ("N", 4)) == ("N", 7)
    assert shape(("N", 3), (None, "C")) == ("N", None)
    assert shape((2, 3), ("N", 4)) == (2, 7)
    assert shape((2, 3), None) == (2, None)
    assert shape(None, None) is None
