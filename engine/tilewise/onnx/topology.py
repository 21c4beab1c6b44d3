"""Names to structure: every value made once, nodes in order, and what a subgraph reads from outside."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tilewise.errors import ModelError
from tilewise.graph import Graph, Node


def arrange(graph: Graph) -> None:
    """Check that each value is made once, put nodes in order (kept where it is valid) and set `captures`.

    `ModelError` names a value made twice and its makers, or the nodes of a cycle.
    """
    _check_single_assignment(graph)
    _sort(graph)
    made = {*graph.inputs, *graph.initializers, *graph.producers()}
    reads = [name for node in graph.nodes for name in node.reads()]
    graph.captures = tuple(dict.fromkeys(name for name in (*reads, *graph.outputs) if name not in made))


def check_complete(graph: Graph) -> None:
    """`ModelError` naming the values that a whole model reads and nothing makes, and who reads them."""
    if graph.captures:
        lines = "; ".join(f"{name!r}, read by {_reader(graph, name)}" for name in graph.captures[:8])
        more = len(graph.captures) - 8
        raise ModelError(
            "expected every value to be a graph input, an initializer or a node's output; nothing makes "
            + lines
            + (f"; and {more} more" if more > 0 else "")
        )


def subgraphs(node: Node) -> Iterator[tuple[str, Graph]]:
    """The graphs among a node's attributes, with the attribute's name."""
    for name, value in node.attrs.items():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, Graph):
                yield name, item


def captured(node: Node) -> tuple[str, ...]:
    """Names of outer values that the node's subgraphs read."""
    return tuple(dict.fromkeys(name for _, graph in subgraphs(node) for name in graph.captures))


def _check_single_assignment(graph: Graph) -> None:
    makers: dict[str, str] = {}

    def add(name: str, maker: str) -> None:
        if name in makers:
            raise ModelError(f"expected value {name!r} to be made once, got {makers[name]} and {maker}")
        makers[name] = maker

    for name in graph.inputs:
        add(name, "a graph input")
    for name in graph.initializers:
        add(name, "an initializer or Constant")
    for node in graph.nodes:
        for name in filter(None, node.outputs):
            add(name, f"an output of node {node.label!r} ({node.op_type})")


def _sort(graph: Graph) -> None:
    producers = graph.producers()
    index = {id(node): i for i, node in enumerate(graph.nodes)}
    readers: list[list[int]] = [[] for _ in graph.nodes]
    missing = [0] * len(graph.nodes)
    for i, node in enumerate(graph.nodes):
        for maker in {index[id(producers[name])] for name in node.reads() if name in producers}:
            readers[maker].append(i)
            missing[i] += 1
    ready = [i for i, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(graph.nodes[i])
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(graph.nodes):
        stuck = {id(node) for node, count in zip(graph.nodes, missing, strict=True) if count}
        path = " -> ".join(repr(node.label) for node in _cycle(graph, producers, stuck))
        raise ModelError(f"expected a graph without cycles, got {path}")
    graph.nodes = order


def _cycle(graph: Graph, producers: dict[str, Node], stuck: set[int]) -> list[Node]:
    """One cycle among nodes that wait for each other, in the order of the data, first node repeated."""
    node = next(n for n in graph.nodes if id(n) in stuck)
    path: list[Node] = []
    seen: dict[int, int] = {}
    while id(node) not in seen:
        seen[id(node)] = len(path)
        path.append(node)
        node = next(producers[n] for n in node.reads() if n in producers and id(producers[n]) in stuck)
    return [node, *reversed(path[seen[id(node)] :])]


def _reader(graph: Graph, name: str) -> str:
    for node in graph.nodes:
        if name in node.inputs:
            return f"node {node.label!r} ({node.op_type})"
        if name in node.captures:
            attr, inner = next((a, g) for a, g in subgraphs(node) if name in g.captures)
            return f"{_reader(inner, name)} in {attr!r} of node {node.label!r} ({node.op_type})"
    return "a graph output"
