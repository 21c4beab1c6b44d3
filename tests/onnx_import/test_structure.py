"""What a graph is made of: inputs, outputs, order, captures, names, versions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewise
from tests.onnx_import.models import IR, OPSET, classifier, floats, parse, proto
from tilewise import InputError, ModelError, UnsupportedError
from tilewise.graph import Graph
from tilewise.onnx.check import load_checked
from tilewise.onnx.load import load_graph


def test_sources(tmp_path: Path) -> None:
    model = classifier()
    data = model.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    graphs = [load_graph(s) for s in (model, data, bytearray(data), memoryview(data), path, str(path))]
    assert {tuple(n.label for n in g.nodes) for g in graphs} == {tuple(n.label for n in graphs[0].nodes)}
    assert model.SerializeToString() == data


@pytest.mark.parametrize("source", [None, 3, io.BytesIO(), ["m.onnx"]])
def test_sources_of_other_types(source: object) -> None:
    with pytest.raises(InputError, match=r"expected a path, bytes or onnx\.ModelProto, got"):
        load_graph(source)  # type: ignore[arg-type]


def test_declared_types() -> None:
    graph = load_graph(
        parse(
            """g (float[N, 3, ?] x, float[] rank, int8 scalar, string[2] s, seq(float[M]) q,
                  optional(int32[]) o)
            => (float[N, 3, ?] y) { y = Identity(x) }"""
        )
    )
    assert [str(graph.facts[n]) for n in graph.inputs] == [
        "float32[N, 3, ?]",
        "float32[...]",
        "int8[]",
        "object[2]",
        "sequence(float32[M])",
        "optional(int32[...])",
    ]


def test_what_the_file_says_of_itself() -> None:
    model = classifier()
    model.producer_name, model.model_version = "maker", 3
    model.metadata_props.add(key="k", value="v")
    graph = load_graph(model)
    assert graph.name == "classifier"
    assert graph.metadata == {"k": "v"}
    assert graph.opsets == {"": OPSET, "local": 1}
    assert graph.info["producer_name"] == "maker"
    assert (graph.info["ir_version"], graph.info["model_version"]) == (IR, 3)


def test_names_of_onnx_domain() -> None:
    model = proto([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")], [floats("x", 2)])
    model.opset_import[0].domain = "ai.onnx"
    graph = load_graph(model)
    assert graph.opsets == {"": OPSET}
    assert (graph.nodes[0].domain, graph.nodes[0].version) == ("", OPSET)


@pytest.mark.parametrize(("ir_version", "overridable"), [(3, []), (IR, ["w"])])
def test_inputs_with_initializers(ir_version: int, overridable: list[str]) -> None:
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    model = proto(
        [helper.make_node("Add", ["x", "w"], ["y"])], [floats("x", 2), floats("w", 2)], initializers=[weight]
    )
    model.ir_version = ir_version
    graph = load_graph(model)
    assert graph.inputs == ["x"]
    assert graph.overridable == overridable
    assert graph.initializers["w"].tolist() == [1, 1]


def test_outputs_that_are_inputs_or_initializers() -> None:
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    model = proto([], [floats("x", 2)], ("x", "w", "x"), [weight])
    assert load_checked(model).outputs == ["x", "w", "x"]
    x = np.array([3, 4], np.float32)
    np.testing.assert_array_equal(tilewise.load(model)(x), [x, [1, 1], x])


def test_defaults_are_filled_in() -> None:
    source = parse("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", opset=12)
    assert load_graph(source).nodes[0].attrs == {"axis": 1}
    source = parse("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", opset=13)
    assert load_graph(source).nodes[0].attrs == {"axis": -1}


def test_nodes_are_sorted_and_a_valid_order_is_kept() -> None:
    nodes = [
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["x"], ["other"]),
        helper.make_node("Neg", ["x"], ["a"]),
    ]
    graph = load_graph(proto(nodes, [floats("x", 2)], ("c", "other")))
    assert [n.outputs[0] for n in graph.nodes] == ["other", "a", "b", "c"]
    kept = load_graph(proto([nodes[3], nodes[2], nodes[1], nodes[0]], [floats("x", 2)], ("c", "other")))
    assert [n.outputs[0] for n in kept.nodes] == ["a", "other", "b", "c"]


def branch(body: str) -> bytes:
    return parse(
        f"""g (bool c, float[2] x) => (float[2] y) {{
            outer = Neg(x)
            y = If (c) <
                then_branch = a () => (float[2] p) {{ {body} }},
                else_branch = b () => (float[2] q) {{ q = Identity(x) }}
            >
        }}"""
    )


def subgraph(graph: Graph, index: int, attribute: str) -> Graph:
    inner = graph.nodes[index].attrs[attribute]
    assert isinstance(inner, Graph)
    return inner


def test_captures() -> None:
    graph = load_graph(branch("t = Add(outer, x)  p = Neg(t)"))
    assert subgraph(graph, 1, "then_branch").captures == ("outer", "x")
    assert subgraph(graph, 1, "else_branch").captures == ("x",)
    assert graph.nodes[1].captures == ("outer", "x")
    assert graph.captures == ()


def test_captures_through_two_levels() -> None:
    inner = "p = If (c) <then_branch = d () => (float[2] r) { r = Neg(outer) }, "
    inner += "else_branch = e () => (float[2] s) { s = Neg(local) }>"
    graph = load_graph(branch("local = Abs(x) " + inner))
    assert set(graph.nodes[1].captures) == {"x", "c", "outer"}


def test_captures_order_nodes() -> None:
    source = onnx.load_from_string(branch("p = Neg(outer)"))
    source.graph.node.reverse()
    assert [n.op_type for n in load_graph(source).nodes] == ["Neg", "If"]


def test_a_branch_may_return_an_outer_value() -> None:
    graph = load_graph(branch("t = Neg(x)").replace(b"\x01p", b"\x01x"))
    assert subgraph(graph, 1, "then_branch").outputs == ["x"]


def test_a_value_inside_hides_one_outside() -> None:
    graph = load_graph(branch("outer = Abs(x)  p = Neg(outer)"))
    assert graph.nodes[1].captures == ("x",)


def nodes(*triples: tuple[str, list[str], list[str]]) -> onnx.ModelProto:
    made = [helper.make_node("Sum", ins, outs, name=name) for name, ins, outs in triples]
    return proto(made, [floats("x", 2)], ("y",))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            nodes(("a", ["x", "z"], ["y"]), ("b", ["y"], ["z"])),
            r"without cycles, got '[ab]' -> '[ab]' -> '[ab]'",
        ),
        (nodes(("a", ["x", "y"], ["y"])), r"without cycles, got 'a' -> 'a'"),
        (nodes(("a", ["x", "gone"], ["y"])), r"nothing makes 'gone', read by node 'a' \(Sum\)"),
        (nodes(("a", ["x"], ["z"])), r"nothing makes 'y', read by a graph output"),
        (
            nodes(("a", ["x"], ["y"]), ("b", ["x"], ["y"])),
            r"value 'y' to be made once, got an output of node 'a' \(Sum\) and an output of node 'b'",
        ),
        (
            nodes(("a", ["x"], ["x"])),
            r"value 'x' to be made once, got a graph input and an output of node 'a'",
        ),
        (nodes(("a", ["x"], ["y", "y"])), r"value 'y' to be made once"),
        (
            proto([helper.make_node("Neg", ["x"], ["y"])], [floats("x", 1), floats("x", 1)]),
            r"value 'x' to be made once, got a graph input and a graph input",
        ),
        (
            proto(
                [helper.make_node("Neg", ["w"], ["y"])],
                initializers=[numpy_helper.from_array(np.zeros(1, np.float32), "w")] * 2,
            ),
            r"value 'w' to be made once, got two initializers",
        ),
        (
            proto([helper.make_node("Neg", ["x"], ["y"], name="n", domain="nowhere")], [floats("x", 1)]),
            r"node 'n' \(Neg\): expected a version of domain 'nowhere' in opset_import, got only \[''\]",
        ),
        (
            proto([helper.make_node("", ["x"], ["y"], name="n")], [floats("x", 1)]),
            r"node 'n': expected an op",
        ),
        (proto([], [floats("x", 1)], ()), r"graph 'test': expected at least one output"),
        (proto([], [floats("", 1)], ("x",)), r"expected a name for every input"),
        (
            proto([], [onnx.ValueInfoProto(name="x")], ("x",)),
            r"input 'x': expected an element type, got none",
        ),
        (proto([], [floats("x", -2)], ("x",)), r"input 'x': expected dims >= 0, got \[-2\]"),
        (proto([], [floats("x", 1 << 62, 8)], ("x",)), r"input 'x': expected at most \d+ elements"),
        (
            proto([], [helper.make_tensor_value_info("x", 77, [1])], ("x",)),
            r"input 'x': expected a known element type, got 77",
        ),
    ],
)
def test_malformed_graphs(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(model.SerializeToString())


def test_a_value_missing_in_a_subgraph() -> None:
    words = r"nothing makes 'gone', read by node 'Neg->p' \(Neg\) in 'then_branch' of node 'If->y' \(If\)"
    with pytest.raises(ModelError, match=words):
        load_graph(branch("p = Neg(gone)"))


def test_a_cycle_through_a_subgraph() -> None:
    with pytest.raises(ModelError, match=r"without cycles, got 'If->y' -> 'If->y'"):
        load_graph(branch("p = Neg(y)"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.opset_import.pop(), r"expected opset_import"),
        (
            lambda m: m.opset_import.add(domain="ai.onnx", version=9),
            r"one version >= 1 of domain '' in opset_import, got 17 and 9",
        ),
        (lambda m: setattr(m.opset_import[0], "version", 0), r"one version >= 1 of domain ''"),
        (lambda m: m.ClearField("ir_version"), r"ir_version >= 1, got 0"),
        (lambda m: m.ClearField("graph"), r"expected an ONNX model, got one without a graph"),
    ],
)
def test_malformed_headers(change, words: str) -> None:
    model = proto([helper.make_node("Neg", ["x"], ["y"])], [floats("x", 1)])
    change(model)
    with pytest.raises(ModelError, match=words):
        load_graph(model.SerializeToString())


def attribute(**fields) -> onnx.ModelProto:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="leaky")
    node.attribute.append(onnx.AttributeProto(name="alpha", **fields))
    return proto([node], [floats("x", 1)])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (attribute(f=1.0), r"node 'leaky' \(LeakyRelu\): attribute 'alpha': expected a known attribute type"),
        (attribute(type=onnx.AttributeProto.FLOAT, i=3), r"'alpha': expected a value in field 'f', got 'i'"),
        (attribute(type=onnx.AttributeProto.GRAPH), r"'alpha': expected a value in field 'g', got none"),
        (
            attribute(type=onnx.AttributeProto.TENSOR, t=TensorProto(data_type=1, dims=[2])),
            r"attribute 'alpha': expected 2 values in float_data for float32\[2\], got 0",
        ),
    ],
)
def test_malformed_attributes(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(model)


def test_one_attribute_twice() -> None:
    model = attribute(type=onnx.AttributeProto.FLOAT, f=1.0)
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])
    with pytest.raises(ModelError, match="one attribute 'alpha', got two"):
        load_graph(model)


def test_scalars_written_without_their_zero() -> None:
    model = attribute(type=onnx.AttributeProto.FLOAT)
    assert load_graph(model).nodes[0].attrs == {"alpha": 0.0}


def test_model_without_opset_import_before_ir_3() -> None:
    model = proto([helper.make_node("Upsample", ["x"], ["y"])], [floats("x", 1)])
    model.ir_version = 2
    del model.opset_import[:]
    with pytest.raises(UnsupportedError, match="opset 1"):
        load_checked(model)
