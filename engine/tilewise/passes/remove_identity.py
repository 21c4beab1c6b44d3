"""Take Identity, and Dropout as it is at inference, out of the way of other patterns."""

from __future__ import annotations

from tilewise.graph import Graph, Node


def remove_identity(graph: Graph) -> None:
    """Readers of such a node's result read its input; results that are graph outputs stay."""
    renamed: dict[str, str] = {}
    captured = {name for node in graph.nodes for name in node.captures}
    kept = []
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        source = node.inputs[0] if node.inputs else ""
        removable = _passes_through(node, graph) and source
        if removable and node.outputs[0] not in graph.outputs and node.outputs[0] not in captured:
            renamed[node.outputs[0]] = source
        else:
            kept.append(node)
    graph.nodes = kept


def _passes_through(node: Node, graph: Graph) -> bool:
    if node.domain:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout" or any(node.outputs[1:]):
        return False
    if len(node.inputs) > 2 and node.inputs[2]:
        training = graph.initializers.get(node.inputs[2])
        return training is not None and not training.any()
    return True
