"""Operators on sequences and optionals: results, inferred facts, errors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewise
from tests.onnx_import.models import OPSET, floats, parse, proto
from tilewise import ExecutionError, ShapeError, UnsupportedError
from tilewise.graph import Fact
from tilewise.onnx.load import load_graph
from tilewise.ops.inference import infer

X = np.arange(12, dtype=np.float32).reshape(3, 4)
ITEMS = [X[:1], X[:2], X]


def node(op_type: str, inputs: dict[str, str], **attrs) -> tilewise.Model:
    """A model of one node, its inputs declared by types in ONNX's text syntax."""
    declared = ", ".join(f"{kind} {name}" for name, kind in inputs.items())
    source = onnx.load_from_string(parse(f"g ({declared}) => (y) {{ }}"))
    source.graph.node.append(helper.make_node(op_type, list(inputs), ["y"], name="n", **attrs))
    return tilewise.load(source)


def facts(body: str, **inputs: Fact) -> Fact:
    graph = load_graph(parse(body))
    return infer(graph, inputs)[graph.outputs[0]]


def assert_lists(got: list, want: list) -> None:
    assert isinstance(got, list)
    assert [a.dtype for a in got] == [a.dtype for a in want]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


SEQ = {"s": "seq(float[M, 4])"}


@pytest.mark.parametrize("position", [-3, -1, 0, 2])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_at_and_erase(position: int, dtype: type) -> None:
    kind = {"p": f"{np.dtype(dtype).name}"}
    p = np.array(position, dtype)
    np.testing.assert_array_equal(node("SequenceAt", SEQ | kind)(ITEMS, p), ITEMS[position])
    left = [x for i, x in enumerate(ITEMS) if i != position % 3]
    assert_lists(node("SequenceErase", SEQ | kind)(ITEMS, p), left)


@pytest.mark.parametrize("position", [3, -4])
def test_positions_outside(position: int) -> None:
    for op_type in ("SequenceAt", "SequenceErase"):
        words = rf"node 'n' \({op_type}\).*position {position} is outside \[-3, 3\)"
        with pytest.raises(ExecutionError, match=words):
            node(op_type, SEQ | {"p": "int64"})(ITEMS, np.array(position))


def test_erase_the_last() -> None:
    assert_lists(node("SequenceErase", SEQ)(ITEMS), ITEMS[:2])
    with pytest.raises(ExecutionError, match="position -1 is outside"):
        node("SequenceErase", SEQ)([])


@pytest.mark.parametrize("position", [-3, -1, 0, 3])
def test_insert(position: int) -> None:
    inputs = SEQ | {"t": "float[1, 4]", "p": "int64"}
    want = list(ITEMS)
    want.insert(position, X[2:])
    fed = list(ITEMS)
    assert_lists(node("SequenceInsert", inputs)(fed, X[2:], np.array(position)), want)
    assert len(fed) == 3


def test_insert_at_the_end_and_outside() -> None:
    inputs = SEQ | {"t": "float[1, 4]"}
    assert_lists(node("SequenceInsert", inputs)(ITEMS, X[2:]), [*ITEMS, X[2:]])
    with pytest.raises(ExecutionError, match=r"position 4 is outside \[-3, 4\)"):
        node("SequenceInsert", inputs | {"p": "int64"})(ITEMS, X[2:], np.array(4))


def test_construct_and_length() -> None:
    model = node("SequenceConstruct", {"a": "float[N, 4]", "b": "float[N, 4]"})
    assert_lists(model(X, X), [X, X])
    n = node("SequenceLength", SEQ)(ITEMS)
    assert (n.dtype, n.shape, int(n)) == (np.int64, (), 3)


def test_construct_of_different_types() -> None:
    with pytest.raises(ShapeError, match=r"SequenceConstruct.*float"):
        node("SequenceConstruct", {"a": "float[2]", "b": "double[2]"})
    with pytest.raises(ShapeError, match=r"SequenceInsert.*float"):
        node("SequenceInsert", {"s": "seq(float[2])", "t": "double[2]"})


def test_empty() -> None:
    assert node("SequenceEmpty", {})() == []
    graph = load_graph(proto([helper.make_node("SequenceEmpty", [], ["y"], dtype=TensorProto.INT64)]))
    assert str(infer(graph, {})["y"]) == "sequence(int64[...])"
    with pytest.raises(UnsupportedError, match="'dtype' = 99 is not an element type"):
        node("SequenceEmpty", {}, dtype=99)


@pytest.mark.parametrize(
    ("split", "axis", "keepdims", "want"),
    [
        (None, 0, 1, [X[:1], X[1:2], X[2:]]),
        (None, 1, 0, [X[:, i] for i in range(4)]),
        (2, 0, 1, [X[:2], X[2:]]),
        (2, -1, 0, [X[:, :2], X[:, 2:]]),
        ([1, 0, 2], 0, 1, [X[:1], X[1:1], X[1:]]),
    ],
)
def test_split_to_sequence(split, axis: int, keepdims: int, want: list[np.ndarray]) -> None:
    inputs = {"x": "float[3, 4]"}
    feeds = [X]
    if split is not None:
        inputs["k"] = "int64[N]" if isinstance(split, list) else "int64"
        feeds.append(np.array(split))
    got = node("SplitToSequence", inputs, axis=axis, keepdims=keepdims)(*feeds)
    assert_lists(got, want)


@pytest.mark.parametrize("split", [0, -1, [1, 1], [4, -1]])
def test_bad_splits(split) -> None:
    kind = "int64[N]" if isinstance(split, list) else "int64"
    with pytest.raises(ExecutionError, match=r"node 'n' \(SplitToSequence\).*split"):
        node("SplitToSequence", {"x": "float[3, 4]", "k": kind})(X, np.array(split))


@pytest.mark.parametrize(
    ("attrs", "split", "want"),
    [
        ("", "", "sequence(float32[1, 4])"),
        ("<axis = 1, keepdims = 0>", "", "sequence(float32[6])"),
        ("", "3", "sequence(float32[3, 4])"),
        ("", "4", "sequence(float32[?, 4])"),
    ],
)
def test_split_inference(attrs: str, split: str, want: str) -> None:
    extra = f"k = Constant <value_int = {split}> ()" if split else ""
    body = f"g (x) => (y) {{ {extra} y = SplitToSequence {attrs} (x{', k' if split else ''}) }}"
    graph = load_graph(parse(body.replace("(x) =>", "(float[6, 4] x) =>")))
    assert str(infer(graph, {"x": Fact(np.dtype(np.float32), (6, 4))})["y"]) == want


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis: int) -> None:
    inputs = {"s": "seq(float[3, 4])"}
    got = node("ConcatFromSequence", inputs, axis=axis)([X, X])
    np.testing.assert_array_equal(got, np.concatenate([X, X], axis))
    got = node("ConcatFromSequence", inputs, axis=axis, new_axis=1)([X, X])
    np.testing.assert_array_equal(got, np.stack([X, X], axis))


def test_concat_inference_and_errors() -> None:
    body = "g (float[3, 4] x) => (y) {{ s = SequenceConstruct(x, x) y = ConcatFromSequence <{}> (s) }}"
    x = Fact(np.dtype(np.float32), (3, 4))
    assert str(facts(body.format("axis = 1"), x=x)) == "float32[3, ?]"
    assert str(facts(body.format("axis = -1, new_axis = 1"), x=x)) == "float32[3, 4, ?]"
    with pytest.raises(ShapeError, match=r"axis 2 is outside \[-2, 2\)"):
        tilewise.load(parse(body.format("axis = 2")))
    with pytest.raises(UnsupportedError, match="'new_axis' = 2, expected 0 or 1"):
        tilewise.load(parse(body.format("axis = 0, new_axis = 2")))
    with pytest.raises(ExecutionError, match="ConcatFromSequence"):
        node("ConcatFromSequence", {"s": "seq(float[3, 4])"}, axis=0)([])


OPTIONAL = "optional(float[3, 4])"


def test_optionals() -> None:
    assert node("OptionalHasElement", {"o": OPTIONAL})(X).tolist() is True
    assert node("OptionalHasElement", {"o": OPTIONAL})(None).tolist() is False
    np.testing.assert_array_equal(node("OptionalGetElement", {"o": OPTIONAL})(X), X)
    np.testing.assert_array_equal(node("Optional", {"x": "float[3, 4]"})(X), X)
    with pytest.raises(ExecutionError, match=r"node 'n' \(OptionalGetElement\).*empty optional"):
        node("OptionalGetElement", {"o": OPTIONAL})(None)


def test_optional_of_a_sequence() -> None:
    assert_lists(node("OptionalGetElement", {"o": "optional(seq(float[M, 4]))"})(ITEMS), ITEMS)


def test_optional_inputs_of_opset_18() -> None:
    for inputs in ([], [""]):
        model = proto([helper.make_node("OptionalHasElement", inputs, ["y"])], opset=18)
        assert tilewise.load(model)().tolist() is False
    model = proto([helper.make_node("OptionalGetElement", ["x"], ["y"])], [floats("x", 3, 4)], opset=18)
    np.testing.assert_array_equal(tilewise.load(model)(X), X)


def test_empty_optional_of_a_type() -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.INT8, [2])).optional_type
    made = helper.make_node("Optional", [], ["y"], type=kind.elem_type)
    model = proto([made], opset=OPSET)
    assert str(infer(load_graph(model), {})["y"]) == "optional(int8[2])"
    assert tilewise.load(model)() is None
