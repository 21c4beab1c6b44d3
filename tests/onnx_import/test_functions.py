"""Model-local functions: inlined under names of their own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import tilewise
from tests.onnx_import.models import IR, OPSET, floats, parse
from tilewise import ModelError
from tilewise.onnx.load import load_graph

LOCAL = ', "local": 1'
HEADER = f'<domain: "local", opset_import: ["": {OPSET}, "local": 1]>'
X = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)


def assert_like_reference(source: bytes, *inputs: np.ndarray) -> None:
    """The inlined model gives what `onnx.reference` gives for the functions as they are."""
    proto = onnx.load_from_string(source)
    names = [value.name for value in proto.graph.input]
    want = ReferenceEvaluator(proto).run(None, dict(zip(names, inputs, strict=True)))
    got = tilewise.load(source)(*inputs)
    for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-6)


def test_a_call_becomes_the_nodes_of_the_function() -> None:
    source = parse(
        """g (float[2,3] x) => (float[2,3] y) {
            a = local.Square(x)
            y = local.Square(a)
        }""",
        domains=LOCAL,
        functions=HEADER
        + """
        Square (v) => (r) { t = Identity(v)  r = Mul(t, v) }""",
    )
    graph = load_graph(source)
    assert [n.op_type for n in graph.nodes] == ["Identity", "Mul", "Identity", "Mul"]
    inner = [n.outputs[0] for n in graph.nodes if n.op_type == "Identity"]
    assert len(set(inner)) == 2
    assert all(n.version == OPSET for n in graph.nodes)
    assert_like_reference(source, X)


def test_nested_calls_attributes_and_defaults() -> None:
    source = parse(
        """g (float[2,3] x) => (float[2,3] y, float[2,3] z) {
            y = local.Outer <slope = 0.25> (x)
            z = local.Outer (x)
        }""",
        domains=LOCAL,
        functions=HEADER
        + "Inner <alpha> (v) => (r) { r = LeakyRelu <alpha: float = @alpha> (v) }\n"
        + HEADER
        + """Outer <slope: float = 0.5> (v) => (r) {
            t = local.Inner <alpha: float = @slope> (v)
            r = Neg(t)
        }""",
    )
    alphas = [n.attrs["alpha"] for n in load_graph(source).nodes if n.op_type == "LeakyRelu"]
    assert alphas == [0.25, 0.5]
    for got, alpha in zip(tilewise.load(source)(X), alphas, strict=True):
        np.testing.assert_allclose(got, -np.where(X < 0, alpha * X, X))


def test_an_attribute_that_is_not_given_takes_the_operators_default() -> None:
    source = parse(
        "g (float[2,3] x) => (float[2,3] y) { y = local.F (x) }",
        domains=LOCAL,
        functions=HEADER
        + """
        F <alpha> (v) => (r) { r = LeakyRelu <alpha: float = @alpha> (v) }""",
    )
    (node,) = load_graph(source).nodes
    assert node.attrs["alpha"] == pytest.approx(0.01)


def test_a_function_has_its_own_opset() -> None:
    source = parse(
        "g (float[2,3] x) => (float[2,3] y) { y = local.F (x) }",
        domains=LOCAL,
        functions="""<domain: "local", opset_import: ["": 11]>
        F (v) => (r) { r = Softmax (v) }""",
    )
    (node,) = load_graph(source).nodes
    assert (node.version, node.attrs["axis"]) == (11, 1)


def function_model(
    body: list[onnx.NodeProto], formals: list[str], results: list[str], call: onnx.NodeProto, **fields
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "F", formals, results, body, opsets, **fields)
    outputs = [onnx.ValueInfoProto(name=n) for n in call.output if n]
    graph = helper.make_graph([call], "g", [floats("x", 2, 3)], outputs)
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=IR + 2)


def test_outputs_that_are_inputs_or_come_twice() -> None:
    model = function_model(
        [helper.make_node("Neg", ["v"], ["t"])],
        ["v"],
        ["v", "t", "t"],
        helper.make_node("F", ["x"], ["a", "b", "c"], domain="local"),
    )
    a, b, c = tilewise.load(model)(X)
    np.testing.assert_array_equal([a, b, c], [X, -X, -X])


def test_optional_inputs_and_outputs_left_out() -> None:
    model = function_model(
        [helper.make_node("Clip", ["v", "low", "high"], ["r"]), helper.make_node("Neg", ["r"], ["s"])],
        ["v", "low", "high"],
        ["s", "r"],
        helper.make_node("F", ["x"], ["", "y"], domain="local"),
    )
    graph = load_graph(model)
    assert graph.nodes[0].inputs == ["x", "", ""]
    assert graph.outputs == ["y"]
    np.testing.assert_array_equal(tilewise.load(model)(X), X)


def test_overloads() -> None:
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    functions = [
        helper.make_function(
            "local", "F", ["v"], ["r"], [helper.make_node(op, ["v"], ["r"])], opsets, overload=overload
        )
        for op, overload in (("Neg", "minus"), ("Abs", "plus"))
    ]
    nodes = [
        helper.make_node("F", ["x"], ["a"], domain="local", overload="plus"),
        helper.make_node("F", ["x"], ["b"], domain="local", overload="minus"),
    ]
    outputs = [onnx.ValueInfoProto(name=n) for n in "ab"]
    graph = helper.make_graph(nodes, "g", [floats("x", 2, 3)], outputs)
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    assert [n.op_type for n in load_graph(model).nodes] == ["Abs", "Neg"]


def test_subgraphs_in_functions_keep_their_scopes() -> None:
    source = parse(
        """g (bool c, float[2,3] x) => (float[2,3] y, float[2,3] z) {
            t = Neg(x)
            y = local.Pick(c, x)
            z = local.Pick(c, t)
        }""",
        domains=LOCAL,
        functions=HEADER
        + """
        Pick (cond, v) => (r) {
            t = Abs(v)
            r = If (cond) <
                then_branch = a () => (p) { p = Add(t, v) },
                else_branch = b () => (p) { p = Sub(t, v) }
            >
        }""",
    )
    graph = load_graph(source)
    picks = [n for n in graph.nodes if n.op_type == "If"]
    assert [set(n.captures) & {"x", "t"} for n in picks] == [{"x"}, {"t"}]
    for cond in (True, False):
        assert_like_reference(source, np.array(cond), X)


def test_subgraphs_as_attributes_of_functions() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["p"])], "branch", [], [onnx.ValueInfoProto(name="p")]
    )
    body = [helper.make_node("If", ["c"], ["r"])]
    for name in ("then_branch", "else_branch"):
        body[0].attribute.add(name=name, ref_attr_name="code", type=onnx.AttributeProto.GRAPH)
    model = function_model(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))), *body],
        [],
        ["r"],
        helper.make_node("F", [], ["y"], domain="local", code=branch),
        attributes=["code"],
    )
    np.testing.assert_array_equal(tilewise.load(model)(X), -X)


def test_names_in_functions_do_not_meet_those_of_the_model() -> None:
    model = function_model(
        [helper.make_node("Neg", ["v"], ["x"]), helper.make_node("Neg", ["x"], ["r"])],
        ["v"],
        ["r"],
        helper.make_node("F", ["x"], ["y"], domain="local", name="call"),
    )
    model.graph.node.append(helper.make_node("Abs", ["x"], ["call/x"]))
    model.graph.output.append(onnx.ValueInfoProto(name="call/x"))
    y, z = tilewise.load(model)(X)
    np.testing.assert_array_equal([y, z], [X, np.abs(X)])


CALL = helper.make_node("F", ["x"], ["y"], domain="local", name="call")
NEG = helper.make_node("Neg", ["v"], ["r"])


@pytest.mark.parametrize(
    ("body", "call", "words"),
    [
        (
            [helper.make_node("F", ["v"], ["r"], domain="local")],
            CALL,
            r"functions that do not call themselves, got the cycle 'local\.F' -> 'local\.F'",
        ),
        (
            [NEG],
            helper.make_node("F", ["x", "x"], ["y"], domain="local", name="call"),
            r"node 'call' \(F\): expected at most 1 input\(s\) and 1 output\(s\).*got 2 and 1",
        ),
        (
            [NEG],
            helper.make_node("F", ["x"], ["y"], domain="local", name="call", speed=3),
            r"node 'call' \(F\): expected attributes of function 'local\.F', got \['speed'\]",
        ),
        ([helper.make_node("Neg", ["gone"], ["r"])], CALL, r"nothing makes 'call/gone', read by node"),
        ([NEG, NEG], CALL, r"value 'y' to be made once"),
        ([], CALL, r"nothing makes 'y', read by a graph output"),
    ],
)
def test_bad_functions(body: list[onnx.NodeProto], call: onnx.NodeProto, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(function_model(body, ["v"], ["r"], call))


def test_two_definitions() -> None:
    model = function_model([NEG], ["v"], ["r"], CALL)
    model.functions.append(model.functions[0])
    with pytest.raises(ModelError, match=r"one definition of function 'local\.F', got two"):
        load_graph(model)


def test_domain_that_the_function_does_not_import() -> None:
    model = function_model([NEG], ["v"], ["r"], CALL)
    del model.functions[0].opset_import[:]
    with pytest.raises(ModelError, match=r"\(Neg\): expected a version of domain '' in opset_import"):
        load_graph(model)


def test_reference_outside_a_function() -> None:
    model = function_model([NEG], ["v"], ["r"], CALL)
    node = helper.make_node("LeakyRelu", ["x"], ["z"], name="leaky")
    node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    model.graph.node.append(node)
    with pytest.raises(ModelError, match=r"node 'leaky'.*'alpha', got a reference to 'slope' outside"):
        load_graph(model)


def test_functions_that_unfold_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilewise.onnx.load.MAX_INLINED", 1 << 24)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    functions = []
    for i in range(40):
        callee, scope = ("Neg", "") if i == 0 else (f"F{i - 1}", "local")
        body = [
            helper.make_node(callee, ["v"], ["t"], domain=scope),
            helper.make_node(callee, ["t"], ["r"], domain=scope),
        ]
        functions.append(helper.make_function("local", f"F{i}", ["v"], ["r"], body, opsets))
    graph = helper.make_graph(
        [helper.make_node("F39", ["x"], ["y"], domain="local")], "g", [floats("x", 1)], [floats("y", 1)]
    )
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=IR)
    with pytest.raises(ModelError, match="functions that unfold to at most"):
        load_graph(model)
