"""Take Identity, and Dropout as it is at inference, out of the way of other patterns."""

from __future__ import annotations

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import bypass


def remove_identity(graph: Graph) -> None:
    """Readers of such a node's result read its input; results that are graph outputs stay."""
    read = {name for node in graph.nodes for name in node.reads()} | set(graph.outputs)
    bypass(graph, lambda node: node.inputs[0] if _passes_through(node, graph, read) else "")


def _passes_through(node: Node, graph: Graph, read: set[str]) -> bool:
    if node.domain:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or not read.isdisjoint(node.outputs[1:]):
        return False
    if node.version < 7:
        return bool(node.attrs.get("is_test", 0))
    if len(node.inputs) > 2 and node.inputs[2]:
        training = graph.initializers.get(node.inputs[2])
        return training is not None and not training.any()
    return True
