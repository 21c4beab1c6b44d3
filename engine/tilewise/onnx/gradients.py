"""ONNX's operator Gradient (ai.onnx.preview.training, opset 1) rewritten as the nodes that compute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tilewise.graph import Graph, Node
from tilewise.onnx.schema import max_opset
from tilewise.onnx.topology import arrange

DOMAIN = "ai.onnx.preview.training"


class Emitter:
    """Adds nodes with fresh names to a list."""

    def __init__(self, prefix: str, taken: set[str]) -> None:
        self.nodes: list[Node] = []
        self._prefix = prefix
        self._taken = taken

    def __call__(self, op_type: str, *inputs: str, domain: str = "", **attrs: object) -> str:
        """The output of a new node."""
        out = self.fresh(op_type)
        self.nodes.append(Node(op_type, list(inputs), [out], attrs, out, domain, max_opset()))
        return out

    def fresh(self, hint: str) -> str:
        number = len(self._taken)
        while (name := f"{self._prefix}/{hint}_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name


Rule = Callable[[Emitter, Sequence[str], str, str], str]
"""From (emit, names of inputs, name of the output y, name of dy) to the gradient for one input, broadcast or not."""

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Add": (lambda e, x, y, dy: dy, lambda e, x, y, dy: dy),
    "Sub": (lambda e, x, y, dy: dy, lambda e, x, y, dy: e("Neg", dy)),
    "Mul": (lambda e, x, y, dy: e("Mul", dy, x[1]), lambda e, x, y, dy: e("Mul", dy, x[0])),
    "Div": (
        lambda e, x, y, dy: e("Div", dy, x[1]),
        lambda e, x, y, dy: e("Neg", e("Div", e("Mul", dy, y), x[1])),
    ),
    "Neg": (lambda e, x, y, dy: e("Neg", dy),),
    "Identity": (lambda e, x, y, dy: dy,),
    "Exp": (lambda e, x, y, dy: e("Mul", dy, y),),
    "Log": (lambda e, x, y, dy: e("Div", dy, x[0]),),
    "Sqrt": (lambda e, x, y, dy: e("Div", dy, e("Add", y, y)),),
    "Tanh": (lambda e, x, y, dy: e("Sub", dy, e("Mul", dy, e("Mul", y, y))),),
    "Sigmoid": (lambda e, x, y, dy: e("Mul", dy, e("Sub", y, e("Mul", y, y))),),
}
"""By operator, a rule for each input."""


def expand_gradients(graph: Graph) -> Graph:
    """`graph` itself, its Gradient nodes replaced by others.

    A node whose graph from `xs` and `zs` to `y` holds an operator without a rule is kept, which the check reports.
    """
    found = [node for node in graph.nodes if (node.domain, node.op_type) == (DOMAIN, "Gradient")]
    for node in found:
        taken = {*graph.inputs, *graph.initializers, *graph.producers()}
        emit = Emitter(node.label, taken)
        if _expand(graph, node, emit):
            position = graph.nodes.index(node)
            graph.nodes[position : position + 1] = emit.nodes
    if found:
        arrange(graph)
    return graph


def _expand(graph: Graph, node: Node, emit: Emitter) -> bool:
    xs, zs, y = (node.attrs.get(name, []) for name in ("xs", "zs", "y"))
    assert isinstance(xs, list)
    assert isinstance(zs, list)
    given = [*xs, *zs]
    if not isinstance(y, str) or len(node.inputs) != len(given) or len(node.outputs) > len(xs):
        return False
    path, active = _path(graph, xs, given, y)
    if any(step.op_type not in RULES or step.domain or len(step.outputs) != 1 for step in path):
        return False
    names = _forward(path, dict(zip(given, node.inputs, strict=True)), emit)
    grads = {y: emit("FillLike", names.get(y, y), domain="tilewise", value=1.0)}
    for step in reversed(path):
        _backward(step, names, active, grads, emit)
    for name, out in zip(xs, node.outputs, strict=False):
        if out:
            value = grads.get(name) or emit("FillLike", names[name], domain="tilewise", value=0.0)
            emit.nodes.append(Node("Identity", [value], [out], {}, out, "", max_opset()))
    return True


def _path(graph: Graph, xs: list[str], given: list[str], y: str) -> tuple[list[Node], set[str]]:
    """The nodes between `xs` and `y`, in order, and the values that depend on `xs`; `given` values are not traced."""
    active = set(xs)
    for node in graph.nodes:
        if any(name in active for name in node.reads()):
            active.update(name for name in node.outputs if name not in given)
    needed, path = {y}, []
    for node in reversed(graph.nodes):
        if any(out in needed and out in active and out not in given for out in node.outputs):
            path.append(node)
            needed.update(node.reads())
    return path[::-1], active


def _forward(path: list[Node], names: dict[str, str], emit: Emitter) -> dict[str, str]:
    """Names by which the path's values go where the given values go by `names`: their own, or those of copies."""
    if all(name == value for name, value in names.items()):
        return names
    for step in path:
        (out,) = step.outputs
        names[out] = emit(step.op_type, *(names.get(name, name) for name in step.inputs), **step.attrs)
    return names


def _backward(
    step: Node, names: Mapping[str, str], active: set[str], grads: dict[str, str], emit: Emitter
) -> None:
    (out,) = step.outputs
    inputs = [names.get(name, name) for name in step.inputs]
    for name, value, rule in zip(step.inputs, inputs, RULES[step.op_type], strict=True):
        if name not in active or out not in grads:
            continue
        dx = emit("SumTo", rule(emit, inputs, names.get(out, out), grads[out]), value, domain="tilewise")
        grads[name] = emit("Add", grads[name], dx) if name in grads else dx
