"""What passes share: who reads a value, and how nodes are replaced."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tilewise.graph import Graph, Node

CONVOLUTIONS = (("", "Conv"), ("tilewise", "FusedConv"))


class Uses:
    """Producers and readers of every value, as they were when this was made."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._producers = graph.producers()
        self._consumers = graph.consumers()
        self._outputs = set(graph.outputs)

    def producer(self, name: str) -> Node | None:
        return self._producers.get(name)

    def readers(self, name: str) -> list[Node]:
        return self._consumers.get(name, [])

    def only_read_by(self, name: str, *nodes: Node) -> bool:
        """True where the nodes are all that reads a value, and it is no output of the graph."""
        if name in self._outputs:
            return False
        readers = self.readers(name)
        return len(readers) == len(nodes) and all(any(r is n for n in nodes) for r in readers)

    def constant(self, name: str) -> np.ndarray | None:
        return self.graph.initializers.get(name)

    def constants(self, names: Iterable[str]) -> list[np.ndarray] | None:
        """All of them, or None where one is not constant."""
        found = [self.constant(name) for name in names]
        return None if any(c is None for c in found) else [c for c in found if c is not None]


def new_initializer(graph: Graph, like: str, array: np.ndarray) -> str:
    """Add an array under a fresh name made from `like`."""
    taken = set(graph.initializers) | {o for node in graph.nodes for o in node.outputs} | set(graph.inputs)
    name, i = like, 0
    while name in taken:
        i += 1
        name = f"{like}.{i}"
    graph.initializers[name] = array
    return name


def is_convolution(node: Node | None) -> bool:
    return node is not None and (node.domain, node.op_type) in CONVOLUTIONS


def replace(graph: Graph, old: Iterable[Node], new: Node) -> None:
    """Put `new` where the last of `old` stood and drop the others."""
    gone = {id(node) for node in old}
    last = max(i for i, node in enumerate(graph.nodes) if id(node) in gone)
    graph.nodes = [
        new if i == last else node for i, node in enumerate(graph.nodes) if i == last or id(node) not in gone
    ]
