"""Put nodes that compute gradients in the place of ONNX's operator Gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tilewise.autodiff.backward import backward
from tilewise.autodiff.emitter import OPSET, Emitter
from tilewise.errors import ModelError, Unsupported, UnsupportedError
from tilewise.graph import Graph, Node

DOMAIN = "ai.onnx.preview.training"


def expand_gradient(graph: Graph) -> None:
    """Replace every Gradient node (ONNX Gradient, ai.onnx.preview.training, version 1).

    Where the node's inputs are not `xs` and `zs` themselves, what lies between these and `y` is computed again
    from the inputs. `UnsupportedError` lists what has no gradient rule, and Gradient nodes in subgraphs;
    `ModelError` where `xs`, `zs` or `y` name no value, or `y` depends on its own gradient.
    """
    findings = [
        Unsupported(node.label, node.op_type, "the operator in a subgraph is not supported")
        for outer in graph.nodes
        for inner in _subgraphs(outer)
        for node in _gradients(inner)
    ]
    pending = [node for node in graph.nodes if _is_gradient(node)]
    while pending:
        node = _next(graph, pending)
        pending = [other for other in pending if other is not node]
        try:
            _expand(graph, node)
        except UnsupportedError as error:
            needed = f", which node {node.label!r} (Gradient) needs"
            findings += [replace(finding, what=finding.what + needed) for finding in error.findings]
    if findings:
        raise UnsupportedError(findings)


def _is_gradient(node: Node) -> bool:
    return (node.domain, node.op_type) == (DOMAIN, "Gradient")


def _gradients(graph: Graph) -> Iterator[Node]:
    """The Gradient nodes of a graph and its subgraphs."""
    for node in graph.nodes:
        if _is_gradient(node):
            yield node
        for inner in _subgraphs(node):
            yield from _gradients(inner)


def _subgraphs(node: Node) -> Iterator[Graph]:
    for value in node.attrs.values():
        yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, Graph))


def _next(graph: Graph, pending: Sequence[Node]) -> Node:
    """A node whose function does not hold another that is still to be replaced."""
    waiting = {id(node) for node in pending}
    for node in pending:
        if not any(id(step) in waiting for step in _function(graph, node)):
            return node
    labels = ", ".join(repr(node.label) for node in pending)
    raise ModelError(f"expected gradients of values that do not depend on them, got node(s) {labels}")


def _function(graph: Graph, node: Node) -> list[Node]:
    """The nodes, in order, that make `y` from `xs`, `zs` and constants."""
    given = {*node.attrs["xs"], *node.attrs.get("zs", [])}
    needed, found = {node.attrs["y"]} - given, []
    for step in reversed(graph.nodes):
        if not needed.isdisjoint(step.outputs):
            found.append(step)
            needed.update(name for name in step.reads() if name not in given)
    return found[::-1]


def _expand(graph: Graph, node: Node) -> None:
    xs, y = node.attrs["xs"], node.attrs["y"]
    given = [*xs, *node.attrs.get("zs", [])]
    values = {*graph.inputs, *graph.initializers, *graph.producers()}
    for name in (*given, y):
        if name not in values:
            raise ModelError(f"node {node.label!r} (Gradient): expected the name of a value, got {name!r}")
    position = next(i for i, other in enumerate(graph.nodes) if other is node)
    head = replace(graph, nodes=graph.nodes[:position])
    emit = Emitter(head, node.label, values)
    names = {
        name: name if name == value else emit("Identity", value)
        for name, value in zip(given, node.inputs, strict=True)
    }
    fixed = list(names.values())
    _recompute(_function(graph, node), names, emit)
    targets = {names[x]: out for x, out in zip(xs, node.outputs, strict=False) if out}
    grads = backward(head, {names.get(y, y): None}, list(targets), fixed=fixed, emit=emit)
    outputs = [Node("Identity", [grads[x]], [out], {}, out, "", OPSET) for x, out in targets.items()]
    graph.nodes = [*head.nodes, *outputs, *graph.nodes[position + 1 :]]


def _recompute(function: Sequence[Node], names: dict[str, str], emit: Emitter) -> None:
    """Copy what reads a value that goes by another name in `names`, or is not made yet; add the new names."""
    made = {id(step) for step in emit.graph.nodes}
    for step in function:
        renamed = [name for name in step.reads() if names.get(name, name) != name]
        if not set(step.captures).isdisjoint(renamed):
            what = "a subgraph that reads values for which others are substituted is not supported"
            raise UnsupportedError([Unsupported(step.label, step.op_type, what)])
        if renamed or id(step) not in made:
            emit.copy(step, names)
