"""The list of what cannot be run, and errors of types and shapes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewise
from tests.onnx_import.models import floats, parse, proto
from tilewise import ShapeError, UnsupportedError
from tilewise.errors import Unsupported
from tilewise.graph import Fact
from tilewise.onnx.check import check_graph, load_checked
from tilewise.onnx.load import load_graph
from tilewise.ops.base import Inputs, Op
from tilewise.ops.table import TABLE


class Picky(Op):
    """Stands in for an operator that reads one attribute and supports one value of it."""

    attributes = frozenset({"mode"})

    def unsupported(self) -> str | None:
        mode = self.attr("mode", "constant")
        return None if mode == "constant" else f"attribute 'mode' = {mode!r}, expected 'constant'"

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(ins[0].dtype)]


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some operators that are supported, whatever else is."""
    for key in (("", "Pad"), ("", "LeakyRelu"), ("", "Add"), ("", "Clip"), ("", "LayerNormalization")):
        monkeypatch.setitem(TABLE, key, Picky)
    monkeypatch.delitem(TABLE, ("", "Det"), raising=False)


def findings(model: onnx.ModelProto | bytes) -> list[str]:
    graph = load_graph(model)
    found = check_graph(graph)
    assert all(isinstance(f, Unsupported) for f in found)
    with pytest.raises(UnsupportedError) as caught:
        load_checked(model)
    assert caught.value.findings == tuple(found)
    return [str(f) for f in found]


def node(op_type: str, inputs: list[str], *, opset: int = 17, outputs: int = 1, **attrs) -> onnx.ModelProto:
    made = helper.make_node(op_type, inputs, [f"y{i}" for i in range(outputs)], name="n", **attrs)
    return proto([made], [floats("x", 2, 3)], ("y0",), opset=opset)


def test_everything_in_one_go_and_in_graph_order() -> None:
    source = parse(
        """g (bool c, float[2,3,3] x, int64[6] pads) => (float[2] y, float[2] z) {
            [first] a = Det(x)
            [pad] b = Pad <mode = "wrap"> (x, pads)
            [choice] y = If (c) <
                then_branch = t () => (float[2] p1) { [inner] p1 = Det(x) },
                else_branch = e () => (float[2] q1) { [other] q1 = nowhere.Thing <speed = 3> (x) }
            >
            [last] z = Add <axis = 1> (a, a)
        }""",
        domains=', "nowhere": 2',
    )
    assert findings(source) == [
        "node 'first' (Det): operator not supported (opset 17)",
        "node 'pad' (Pad): attribute 'mode' = 'wrap', expected 'constant'",
        "node 'inner' (Det): operator not supported (opset 17)",
        "node 'other' (Thing): operator not supported (domain 'nowhere', opset 2)",
        "node 'last' (Add): attribute 'axis' = 1 is not known in opset 17",
    ]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (node("LeakyRelu", ["x"], alpha=0.5), "attribute 'alpha' = 0.5 is not supported"),
        (node("LeakyRelu", ["x"], alpha=1), "attribute 'alpha' = 1: expected FLOAT"),
        (node("LeakyRelu", ["x"], alpha=[0.5]), "attribute 'alpha' = [0.5]: expected FLOAT"),
        (node("LeakyRelu", ["x"], alpha="a" * 99), f"attribute 'alpha' = '{'a' * 56}...: expected FLOAT"),
        (node("LeakyRelu", ["x"], speed=3), "attribute 'speed' = 3 is not known in opset 17"),
        (node("LeakyRelu", ["x", "x"]), "2 inputs, expected 1"),
        (node("LeakyRelu", []), "0 inputs, expected 1"),
        (node("LeakyRelu", [""]), "input 0 (X) is required and left out"),
        (node("LeakyRelu", ["x"], outputs=2), "2 outputs, expected 1"),
        (node("Clip", ["x", "", "x", "x"]), "4 inputs, expected 1 to 3"),
        (node("Pad", ["x"], pads=[0, 0, 0, 0], opset=10), "attribute 'pads' = [0, 0, 0, 0] is not supported"),
        (node("Pad", ["x"], opset=10), "attribute 'pads' is required and missing"),
        (node("LayerNormalization", ["x", "x"], opset=16), "opset 16 has no such operator"),
        (node("LeakyRelu", ["x"], opset=5), "the operator's form of opset 5 is not supported, expected 7"),
    ],
)
def test_one_node(model: onnx.ModelProto, expected: str) -> None:
    (found,) = findings(model)
    assert f"): {expected}" in found
    assert found.startswith("node 'n' (")


def test_deprecated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, ("", "Upsample"), Picky)
    (found,) = findings(node("Upsample", ["x", "x"], opset=10))
    assert found == "node 'n' (Upsample): deprecated in opset 10"


def test_an_attribute_with_the_value_of_its_default_is_no_finding() -> None:
    assert check_graph(load_graph(node("LeakyRelu", ["x"], alpha=0.01))) == []


def test_an_operator_without_schema_is_held_against_its_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, ("own", "Picky"), Picky)
    made = helper.make_node("Picky", ["x"] * 9, ["y"], name="n", domain="own", mode="wrap", extra=1)
    model = proto([made], [floats("x", 2)])
    model.opset_import.add(domain="own", version=1)
    assert findings(model) == ["node 'n' (Picky): attribute 'extra' = 1 is not supported"]


def test_an_operator_whose_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Op):
        def unsupported(self) -> str | None:
            raise ValueError("no such mode")

    monkeypatch.setitem(TABLE, ("", "LeakyRelu"), Broken)
    (found,) = findings(node("LeakyRelu", ["x"]))
    assert found == "node 'n' (LeakyRelu): attributes that do not fit: no such mode"


def test_a_form_refused_during_inference_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Op):
        def infer(self, ins: Inputs) -> list[Fact]:
            raise self.refuse("rank 2 is not supported")

    monkeypatch.setitem(TABLE, ("", "LeakyRelu"), Refusing)
    (found,) = findings(node("LeakyRelu", ["x"]))
    assert found == "node 'n' (LeakyRelu): rank 2 is not supported"


def test_element_types() -> None:
    model = node("LeakyRelu", ["x"])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    (found,) = findings(model)
    assert "input 'x' (X) of type tensor(int32) is not supported, expected tensor(bfloat16), " in found


def test_element_types_of_sequences() -> None:
    source = parse("g (seq(float[2]) x) => (float[2] y) { y = LeakyRelu(x) }")
    (found,) = findings(source)
    assert "input 'x' (X) of type seq(tensor(float)) is not supported" in found


def test_newer_than_the_installed_onnx() -> None:
    newest = onnx.defs.onnx_opset_version()
    model = node("LeakyRelu", ["x"], opset=newest + 1)
    model.ir_version = onnx.IR_VERSION + 1
    assert findings(model) == [
        f"node 'test' (model): opset {newest + 1} is not supported, expected at most {newest}",
        f"node 'test' (model): IR version {model.ir_version} is not supported, "
        f"expected at most {int(onnx.IR_VERSION)}",
    ]


def test_values_that_no_operator_takes() -> None:
    model = proto([], [onnx.ValueInfoProto(name="x")], ("x",))
    model.graph.input[0].type.sparse_tensor_type.elem_type = TensorProto.FLOAT
    assert findings(model)[0] == (
        "node 'test' (model): value 'x' of kind sparse_tensor is not supported, "
        "expected tensor, sequence, optional, map"
    )


def test_a_map_is_no_tensor() -> None:
    model = node("Relu", ["x"])
    map_type = model.graph.input[0].type.map_type
    map_type.key_type, map_type.value_type.tensor_type.elem_type = TensorProto.INT64, TensorProto.FLOAT
    assert "of type map(int64,tensor(float)) is not supported, expected" in findings(model)[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "g (float[2] x, int64[2] k) => (float[2] y) { [add] y = Add(x, k) }",
            r"node 'add' \(Add\): inputs 'x' and 'k' must have one type \(T\), got tensor\(float\) and "
            r"tensor\(int64\)",
        ),
        (
            "g (float[2] x) => (int64[2] y) { [copy] y = Identity(x) }",
            r"node 'copy' \(Identity\): output 'y' is float32\[2\], but the model declares int64\[2\]",
        ),
        (
            """g (bool c, float[2] x, double[2] d) => (y) {
                [pick] y = If (c) <then_branch = a () => (p) { p = Identity(x) },
                                   else_branch = b () => (q) { [inner] q = Add(x, d) }> }""",
            r"node 'inner' \(Add\): inputs 'x' and 'd' must have one type",
        ),
        (
            """g (bool c, float[2] x, double[2] d) => (y) {
                [pick] y = If (c) <then_branch = a () => (p) { p = Identity(x) },
                                   else_branch = b () => (q) { q = Identity(d) }> }""",
            r"node 'pick' \(If\): branches give values of different types: .*float32 and float64 differ",
        ),
        (
            """g (bool c, float[2] x) => (y, z) {
                [pick] y, z = If (c) <then_branch = a () => (p) { p = Identity(x) },
                                      else_branch = b () => (q) { q = Identity(x) }> }""",
            r"node 'pick' \(If\): body 'a': expected 0 input\(s\) and 2 output\(s\), got 0 and 1",
        ),
        (
            """g (int64 n, bool c, float[2] x) => (y) {
                [loop] y = Loop (n, c, x) <body = b (i, go, v) => (go2, w) {
                    go2 = Identity(go)  w = Identity(i) }> }""",
            r"node 'loop' \(Loop\): body 'b' changes a loop-carried value: .*float32 and int64 differ",
        ),
    ],
)
def test_types_that_contradict(body: str, words: str) -> None:
    source = parse(body)
    assert check_graph(load_graph(source)) == []
    with pytest.raises(ShapeError, match=words):
        load_checked(source)


def test_load_raises_the_same() -> None:
    model = node("Det", ["x"])
    with pytest.raises(UnsupportedError, match=r"1 unsupported feature.*\n.*node 'n' \(Det\)"):
        tilewise.load(model.SerializeToString())


def test_unsupported_nodes_behind_unsupported_nodes() -> None:
    """Types declared in the file serve where inference stops."""
    weight = numpy_helper.from_array(np.zeros(2, np.int64), "w")
    made = [
        helper.make_node("Det", ["x"], ["d"], name="a"),
        helper.make_node("LeakyRelu", ["d"], ["y"], name="b"),
    ]
    model = proto(made, [floats("x", 2, 2)], initializers=[weight])
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.INT64, []))
    assert [f.partition(",")[0] for f in findings(model)] == [
        "node 'a' (Det): operator not supported (opset 17)",
        "node 'b' (LeakyRelu): input 'd' (X) of type tensor(int64) is not supported",
    ]
