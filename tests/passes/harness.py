"""Models in ONNX's text form, optimized and run against the reference evaluator."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from tilewise.graph import Graph
from tilewise.onnx.load import load_graph
from tilewise.passes import optimize
from tilewise.runtime.model import Model

RNG = np.random.default_rng(3)
TOLERANCE = {"float16": 2e-2, "float32": 1e-4, "float64": 1e-10}
SINGLE, SINGLE_TOLERANCE = {"Erf", "HardSwish", "LayerNormalization"}, 1e-6
"""What the reference evaluator computes in float32, whatever its input."""


def rand(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.asarray(RNG.standard_normal(shape)).astype(dtype)


def model(text: str, opset: int = 21, **constants: np.ndarray) -> onnx.ModelProto:
    """A model from its text; what is named in `constants` becomes an initializer, declared as an input or not."""
    head = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    proto = parser.parse_model(head + text)
    inputs = [info for info in proto.graph.input if info.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    return proto


def kinds(graph: Graph) -> list[str]:
    """Operators in order, with the activation where a node applies one."""
    suffix = [node.attrs.get("activation") for node in graph.nodes]
    return [n.op_type + (f"/{a}" if a else "") for n, a in zip(graph.nodes, suffix, strict=True)]


def check(
    proto: onnx.ModelProto,
    want: list[str] | None = None,
    disable: Collection[str] = (),
    **feeds: np.ndarray,
) -> Graph:
    """Optimize, compare operators with `want` and results, by kernels and by NumPy, with the reference; the graph."""
    graph = optimize(load_graph(proto.SerializeToString()), disable)
    check_order(graph)
    if want is not None:
        assert kinds(graph) == want
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(proto).run(None, feeds)
    for native in (True, False):
        got = Model(graph, native=native).run(feeds)
        for info, y in zip(proto.graph.output, expected, strict=True):
            assert got[info.name].dtype == y.dtype
            single = not SINGLE.isdisjoint(n.op_type for n in proto.graph.node)
            limit = max(TOLERANCE.get(y.dtype.name, 0.0), SINGLE_TOLERANCE * single)
            np.testing.assert_allclose(got[info.name], y, rtol=limit, atol=limit, err_msg=info.name)
    return graph


def check_order(graph: Graph) -> None:
    """Every value is made before it is read, and once."""
    made = {*graph.inputs, *graph.initializers}
    for node in graph.nodes:
        assert made.issuperset(node.reads()), f"{node.label} reads what is not made"
        assert made.isdisjoint(name for name in node.outputs if name), f"{node.label} makes what is there"
        made.update(name for name in node.outputs if name)
    assert made.issuperset(graph.outputs)


def tensor(shape: str, dtype: str) -> str:
    """A type of ONNX's text form."""
    names = {"float16": "float16", "float32": "float", "float64": "double"}
    return f"{names[dtype]}[{shape}]"
