"""Gradients held against central differences by one random projection (as autograd's `check_vjp`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import parser

from tilewise.autodiff.backward import backward
from tilewise.graph import Fact, Graph
from tilewise.onnx.load import load_graph
from tilewise.passes import optimize
from tilewise.runtime.model import Model

STEP = 1e-6
Shape = tuple[int, ...]


def graph_of(body: str, inputs: dict[str, str], *, opset: int = 18, output: str = "y") -> Graph:
    """The graph of a body in ONNX's text form; inputs by name with their types, as in "double[2, N]"."""
    declared = ", ".join(f"{kind} {name}" for name, kind in inputs.items())
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "ai.onnx.preview.training" : 1]>'
    proto = parser.parse_model(f"{head} g ({declared}) => ({output}) {{ {body} }}")
    return load_graph(proto.SerializeToString())


def differentiate(graph: Graph, wrt: Sequence[str]) -> Graph:
    """A copy that takes the gradient of its output as a further input "dy", and answers those of `wrt` too."""
    result = graph.copy()
    (y,) = graph.outputs
    result.inputs.append("dy")
    result.facts["dy"] = Fact(np.dtype(np.float64))
    result.outputs += backward(result, {y: "dy"}, wrt).values()
    return result


def check_gradients(
    body: str,
    shapes: dict[str, Shape],
    *,
    opset: int = 18,
    low: float = 0.5,
    high: float = 2.0,
    free: bool = False,
) -> None:
    """Assert the gradients of y with respect to all inputs, float64 within [low, high), in all ways to run.

    For random directions v of an input and u of y: <u, (f(x + h v) - f(x - h v)) / 2h> = <dx, v>. free: the
    model declares ranks alone.
    """
    rng = np.random.default_rng(0)
    kinds = {
        name: "double[" + ", ".join(f"{name}{i}" if free else str(d) for i, d in enumerate(shape)) + "]"
        for name, shape in shapes.items()
    }
    graph = graph_of(body, kinds, opset=opset)
    feeds = {name: rng.uniform(low, high, shape) for name, shape in shapes.items()}
    forward = Model(graph)
    u = rng.standard_normal(forward.run(feeds)["y"].shape)
    backed = differentiate(graph, list(shapes))
    for model in (Model(optimize(backed)), Model(backed, native=False)):
        _, *grads = model.run({**feeds, "dy": u}).values()
        for name, dx in zip(shapes, grads, strict=True):
            assert dx.shape == shapes[name], name
            v = rng.standard_normal(dx.shape)
            ends = [forward.run({**feeds, name: feeds[name] + h * v})["y"] for h in (STEP, -STEP)]
            want = np.sum(u * (ends[0] - ends[1])) / (2 * STEP)
            np.testing.assert_allclose(np.sum(dx * v), want, rtol=1e-6, atol=1e-8, err_msg=f"{body} {name}")
