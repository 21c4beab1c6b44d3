"""What passes share: who reads a value, and how nodes are replaced."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tilewise.graph import Graph, Node


class Rewriter:
    """A graph under change: who makes and who reads each value, kept up to date through `replace`.

    The graph's list of nodes is only brought up to date by `finish`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._producers = graph.producers()
        self._consumers = graph.consumers()
        self._outputs = set(graph.outputs)
        self._slots: list[Node | None] = list(graph.nodes)
        self._place = {id(node): i for i, node in enumerate(graph.nodes)}

    def nodes(self) -> list[Node]:
        """The nodes at this moment, in order."""
        return [node for node in self._slots if node is not None]

    def finish(self) -> None:
        self.graph.nodes = self.nodes()

    def position(self, node: Node) -> int:
        """Grows in the order of the nodes."""
        return self._place[id(node)]

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

    def add_constant(self, like: str, array: np.ndarray) -> str:
        """Add an initializer under a fresh name made from `like`."""
        name, i = like, 0
        while name in self.graph.initializers or name in self._producers or name in self.graph.inputs:
            i += 1
            name = f"{like}.{i}"
        self.graph.initializers[name] = array
        return name

    def replace(self, old: list[Node], new: Node) -> None:
        """Put `new` where the last of `old` stood and drop the others."""
        for node in old:
            for name in dict.fromkeys(node.reads()):
                self._consumers[name] = [n for n in self._consumers[name] if n is not node]
        last = max(self.position(node) for node in old)
        for node in old:
            self._slots[self._place.pop(id(node))] = None
        self._slots[last] = new
        self._place[id(new)] = last
        self._producers.update({name: new for name in new.outputs if name})
        for name in dict.fromkeys(new.reads()):
            self._consumers.setdefault(name, []).append(new)
