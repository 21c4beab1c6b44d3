"""Put nodes that compute gradients in the place of ONNX's operator Gradient."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tilewise.autodiff import Emitter, backward
from tilewise.errors import ModelError, Unsupported, UnsupportedError
from tilewise.graph import Graph, Node

DOMAIN = "ai.onnx.preview.training"


def expand_gradient(graph: Graph) -> None:
    """Replace every Gradient node (ONNX Gradient, ai.onnx.preview.training, version 1).

    Where the node's inputs are not `xs` and `zs` themselves, what lies between these and `y` is computed again
    from the inputs. `UnsupportedError` lists what has no gradient rule, and Gradient nodes in subgraphs;
    `ModelError` where `y` is not a function of the graph, or depends on the gradient itself.
    """
    findings = [_nested(node) for node in graph.nodes if node.captures or node.attrs if _holds_gradient(node)]
    pending = [node for node in graph.nodes if _is_gradient(node)]
    while pending:
        node = _first(graph, pending)
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
