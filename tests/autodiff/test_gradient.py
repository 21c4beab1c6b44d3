"""ONNX's operator Gradient (ai.onnx.preview.training, version 1) as nodes that make the gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from tests.autodiff.projection import graph_of
from tilewise.errors import ModelError, UnsupportedError
from tilewise.graph import Graph
from tilewise.onnx.check import check_graph, load_checked
from tilewise.ort import GraphOptimizationLevel, InferenceSession, SessionOptions
from tilewise.passes import optimize
from tilewise.passes.expand_gradient import expand_gradient
from tilewise.runtime.model import Model, load

GRADIENT = "ai.onnx.preview.training.Gradient"
AB = {"a": "double[2]", "b": "double[2]"}
A, B = np.array([2.0, 3.0]), np.array([5.0, 7.0])


def run(body: str, output: str, inputs: dict[str, str] = AB) -> list[np.ndarray]:
    """The outputs (names in ONNX's text form) for a = A and b = B, the same with and without other passes."""
    graph = expanded(body, output, inputs)
    models = Model(graph), Model(optimize(graph), native=False)
    results = [list(model.run({"a": A, "b": B}).values()) for model in models]
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other)
    return results[0]


def expanded(body: str, output: str, inputs: dict[str, str] = AB) -> Graph:
    """A graph that the check accepts, its Gradient nodes replaced."""
    graph = graph_of(body, inputs, output=output)
    assert check_graph(graph) == []
    expand_gradient(graph)
    assert all(node.op_type != "Gradient" for node in graph.nodes)
    return graph


@pytest.mark.parametrize("name", ["test_gradient_of_add", "test_gradient_of_add_and_mul"])
def test_cases_of_onnx(name: str) -> None:
    (folder,) = (Path(case.model_dir) for case in load_model_tests(kind="simple") if case.name == name)
    model = load(str(folder / "model.onnx"))
    data = folder / "test_data_set_0"
    inputs, outputs = (
        [numpy_helper.to_array(onnx.load_tensor(str(p))) for p in sorted(data.glob(f"{kind}_*.pb"))]
        for kind in ("input", "output")
    )
    for got, want in zip(model(*inputs), outputs, strict=True):
        np.testing.assert_array_equal(got, want)


def test_inputs_as_named() -> None:
    body = f'h = Mul(a, b) y = Exp(h) da, db = {GRADIENT} <xs = ["a", "b"], y = "y"> (a, b)'
    y, da, db = run(body.replace("Exp", "Tanh"), "y, da, db")
    np.testing.assert_allclose(da, (1 - y**2) * B)
    np.testing.assert_allclose(db, (1 - y**2) * A)


def test_other_inputs_are_substituted() -> None:
    body = f"""
        h = Mul(a, a) y = Mul(h, b) other = Add(b, b)
        da = {GRADIENT} <xs = ["a"], zs = ["b"], y = "y"> (other, a)
        at = {GRADIENT} <xs = ["a"], zs = ["b"], y = "y"> (a, other)"""
    y, da, at = run(body, "y, da, at")
    np.testing.assert_allclose(y, A * A * B)
    np.testing.assert_allclose(da, 2 * (2 * B) * A)
    np.testing.assert_allclose(at, 2 * A * (2 * B))


def test_one_tensor_for_two_variables() -> None:
    body = f'h = Mul(a, a) y = Mul(h, b) p, q = {GRADIENT} <xs = ["a", "b"], y = "y"> (b, b)'
    p, q = run(body, "p, q")
    np.testing.assert_allclose(p, 2 * B * B)
    np.testing.assert_allclose(q, B * B)


def test_variables_exchanged() -> None:
    body = f'y = Div(a, b) p, q = {GRADIENT} <xs = ["a", "b"], y = "y"> (b, a)'
    p, q = run(body, "p, q")
    np.testing.assert_allclose(p, 1 / A)
    np.testing.assert_allclose(q, -B / A**2)


def test_inner_values_as_variables() -> None:
    body = f"""
        h = Mul(a, a) y = Mul(h, b)
        dh = {GRADIENT} <xs = ["h"], zs = ["b"], y = "y"> (h, b)
        at = {GRADIENT} <xs = ["h", "b"], y = "y"> (a, b)"""
    dh, at = run(body, "dh, at")
    np.testing.assert_allclose(dh, B)
    np.testing.assert_allclose(at, B)


def test_held_values_are_constants() -> None:
    body = f'h = Mul(a, a) y = Mul(h, a) da = {GRADIENT} <xs = ["a"], zs = ["h"], y = "y"> (a, h)'
    np.testing.assert_allclose(run(body, "da")[0], A * A)


def test_the_node_before_its_function() -> None:
    body = f'da = {GRADIENT} <xs = ["a"], y = "y"> (a) z = Neg(da) h = Mul(a, a) y = Mul(h, b)'
    y, z = run(body, "y, z")
    np.testing.assert_allclose(y, A * A * B)
    np.testing.assert_allclose(z, -2 * A * B)


def test_outputs_left_out_and_variables_without_influence() -> None:
    body = f'y = Mul(a, a) "", db = {GRADIENT} <xs = ["a", "b"], y = "y"> (a, b)'
    np.testing.assert_array_equal(run(body, "db")[0], [0, 0])


def test_a_variable_as_target() -> None:
    body = f'h = Neg(a) da, db = {GRADIENT} <xs = ["a", "b"], y = "a"> (h, b)'
    np.testing.assert_array_equal(run(body, "da, db"), [[1, 1], [0, 0]])


def test_gradients_of_gradients() -> None:
    body = f"""
        h = Mul(a, a) y = Mul(h, b)
        da = {GRADIENT} <xs = ["a"], zs = ["b"], y = "y"> (a, b)
        daa, dab = {GRADIENT} <xs = ["a", "b"], y = "da"> (a, b)
        elsewhere = {GRADIENT} <xs = ["a"], zs = ["b"], y = "daa"> (b, a)"""
    da, daa, dab, elsewhere = run(body, "da, daa, dab, elsewhere")
    np.testing.assert_allclose(da, 2 * A * B)
    np.testing.assert_allclose(daa, 2 * B)
    np.testing.assert_allclose(dab, 2 * A)
    np.testing.assert_array_equal(elsewhere, [0, 0])


def test_the_graph_is_left_as_it_is_by_a_copy() -> None:
    graph = graph_of(f'y = MatMul(a, b) da = {GRADIENT} <xs = ["a"], y = "y"> (a)', AB, output="da")
    before = graph.copy()
    expand_gradient(graph.copy())
    assert graph.nodes == before.nodes
    assert list(graph.initializers) == list(before.initializers)


def test_operators_without_a_rule_are_named() -> None:
    body = f"""
        y = Erf(a) z = Sinh(b)
        da = {GRADIENT} <xs = ["a"], y = "y"> (a)
        db = {GRADIENT} <xs = ["b"], y = "z"> (b)"""
    with pytest.raises(UnsupportedError) as error:
        expanded(body, "da, db")
    assert [f.op_type for f in error.value.findings] == ["Erf", "Sinh"]
    assert "which node 'Gradient->da' (Gradient) needs" in str(error.value)


def test_circular_gradients_are_refused() -> None:
    body = f'y = Mul(a, da) da = {GRADIENT} <xs = ["a"], y = "y"> (a)'
    with pytest.raises(ModelError, match="do not depend on them, got node"):
        expanded(body, "y")


def test_gradients_in_subgraphs_are_refused() -> None:
    body = f"""
        c = Constant <value = bool {{1}}> ()
        y = If (c) <
            then_branch = t () => (u) {{ n = Exp(a) m = Erf(n) u = {GRADIENT} <xs = ["a"], y = "m"> (a) }},
            else_branch = e () => (v) {{ v = Neg(b) }}>"""
    with pytest.raises(UnsupportedError, match=r"'Gradient->u' \(Gradient\): the operator in a subgraph"):
        expanded(body, "y")


def test_substitution_into_a_subgraph_is_refused() -> None:
    body = f"""
        c = Constant <value = bool {{1}}> ()
        h = If (c) <then_branch = t () => (u) {{ u = Neg(b) }}, else_branch = e () => (v) {{ v = Exp(b) }}>
        y = Mul(h, a)
        da = {GRADIENT} <xs = ["a"], zs = ["b"], y = "y"> (a, WITH)"""
    np.testing.assert_allclose(run(body.replace("WITH", "b"), "da")[0], -B)
    with pytest.raises(UnsupportedError, match=r"\(If\): a subgraph that reads values"):
        expanded(body.replace("WITH", "a"), "da")


@pytest.mark.parametrize("name", ["xs", "zs", "y"])
def test_names_of_no_value(name: str) -> None:
    named = {"xs": "a", "zs": "b", "y": "y", name: "gone"}
    attrs = f'xs = ["{named["xs"]}"], zs = ["{named["zs"]}"], y = "{named["y"]}"'
    with pytest.raises(ModelError, match=r"Gradient.*expected the name of a value, got 'gone'"):
        expanded(f"y = Neg(a) da = {GRADIENT} <{attrs}> (a, b)", "da")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ('da = {} <xs = ["a", "b"], y = "y"> (a)', "expected an input for each of xs and zs"),
        ('da, db = {} <xs = ["a"], zs = ["b"], y = "y"> (a, b)', "expected at most an output for each of xs"),
        ('da = {} <xs = ["a"], zs = ["a"], y = "y"> (a, b)', "xs and zs name a value twice"),
        ('da = {} <xs = ["a"]> (a)', "attribute 'y' is required and missing"),
        ('da = {} <y = "y"> (a)', "attribute 'xs' is required and missing"),
    ],
)
def test_malformed_nodes_are_found_by_the_check(node: str, message: str) -> None:
    (finding,) = check_graph(graph_of(f"y = Neg(a) {node.format(GRADIENT)}", AB, output="da"))
    assert (finding.op_type, message in finding.what) == ("Gradient", True)


def test_gradients_are_expanded_when_a_model_is_checked() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "ai.onnx.preview.training" : 1]> g (float[2] a) => (da)
        {{ y = {}(a) da = ai.onnx.preview.training.Gradient <xs = ["a"], y = "y"> (a) }}"""
    with pytest.raises(UnsupportedError, match=r"\(Erf\): no gradient rule"):
        load_checked(onnx.parser.parse_model(text.format("Erf")))
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    data = onnx.parser.parse_model(text.format("Exp")).SerializeToString()
    a = np.array([0.5, 1.5], np.float32)
    (da,) = InferenceSession(data, options).run(None, {"a": a})
    np.testing.assert_allclose(da, np.exp(a), rtol=1e-6)
