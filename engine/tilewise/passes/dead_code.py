"""Drop nodes whose results nobody reads, and initializers that nobody reads."""

from __future__ import annotations

from tilewise.graph import Graph


def remove_dead_code(graph: Graph) -> None:
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(name in needed for name in node.outputs):
            kept.append(node)
            needed.update(node.reads())
    graph.nodes = kept[::-1]
    graph.initializers = {name: array for name, array in graph.initializers.items() if name in needed}
