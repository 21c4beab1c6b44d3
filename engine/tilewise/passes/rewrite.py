"""What passes share: who reads a value, what is known of it, and how nodes are replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np

from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.ops.inference import infer


class Rewriter:
    """A graph under change: who makes and who reads each value, kept up to date through `replace`.

    The graph's list of nodes is only brought up to date by `finish`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._producers = graph.producers()
        self._consumers = graph.consumers()
        self._outputs = set(graph.outputs)
        self._slots: list[tuple[Node, ...]] = [(node,) for node in graph.nodes]
        self._place = {id(node): i for i, node in enumerate(graph.nodes)}

    @cached_property
    def facts(self) -> dict[str, Fact]:
        """What is known of the values that the graph had when this was first asked for."""
        self.finish()
        return known_facts(self.graph)

    def fact(self, name: str) -> Fact:
        """What is known of a value; of one made since then, only where it is a constant."""
        value = self.graph.initializers.get(name)
        return self.facts.get(name, UNKNOWN) if value is None else Fact.of(value)

    def nodes(self) -> list[Node]:
        """The nodes at this moment, in order."""
        return [node for slot in self._slots for node in slot]

    def holds(self, node: Node) -> bool:
        """False for a node that has been replaced."""
        return id(node) in self._place

    def finish(self) -> None:
        self.graph.nodes = self.nodes()

    def position(self, node: Node) -> int:
        """Grows in the order of the nodes."""
        return self._place[id(node)]

    def producer(self, name: str, *op_types: str) -> Node | None:
        """The node that makes a value; where ONNX operators are named, only if it is one of these."""
        node = self._producers.get(name)
        if node is None or (op_types and (node.domain or node.op_type not in op_types)):
            return None
        return node

    def readers(self, name: str) -> list[Node]:
        return self._consumers.get(name, [])

    def only_read_by(self, name: str, *nodes: Node) -> bool:
        """True where the nodes are all that reads a value, and it is no output of the graph."""
        if name in self._outputs:
            return False
        readers = self.readers(name)
        return len(readers) == len(nodes) and all(any(r is n for n in nodes) for r in readers)

    def sole_reader(self, name: str, *op_types: str) -> Node | None:
        """The one node that reads a value, as its first input; where ONNX operators are named, only one of these."""
        readers = self.readers(name)
        if len(readers) != 1 or name in self._outputs or list(readers[0].reads()).count(name) != 1:
            return None
        node = readers[0]
        named = not op_types or (not node.domain and node.op_type in op_types)
        return node if named and name in node.inputs else None

    def constant(self, name: str) -> np.ndarray | None:
        return self.graph.initializers.get(name)

    def constants(self, names: Iterable[str]) -> list[np.ndarray] | None:
        """All of them, or None where one is not constant."""
        found = [self.constant(name) for name in names]
        return None if any(c is None for c in found) else [c for c in found if c is not None]

    def scalar(self, name: str, other: str) -> float | None:
        """A constant of one float that leaves the shape of `other` as it is when combined with it, else None."""
        value = self.constant(name)
        if value is None or value.size != 1 or value.dtype.kind not in "fV":
            return None
        rank = self.fact(other).rank if value.ndim else 0
        return None if rank is None or value.ndim > rank else float(value.reshape(()).astype(np.float64))

    def integers(self, node: Node, i: int, attr: str) -> list[int] | None:
        """Attribute `attr`, or else the constant integers of input `i`; None where there are none."""
        if node.attrs.get(attr) is not None:
            return [int(v) for v in node.attrs[attr]]
        value = self.constant(node.inputs[i]) if len(node.inputs) > i and node.inputs[i] else None
        return None if value is None else [int(v) for v in value.reshape(-1)]

    def add_constant(self, like: str, array: np.ndarray) -> str:
        """Add an initializer under a fresh name made from `like`."""
        name = self.fresh(like)
        self.graph.initializers[name] = array
        return name

    def fresh(self, like: str) -> str:
        """A name that no value has."""
        name, i = like, 0
        while name in self.graph.initializers or name in self._producers or name in self.graph.inputs:
            i += 1
            name = f"{like}.{i}"
        return name

    def replace(self, old: list[Node], *new: Node) -> None:
        """Put `new`, in order, where the last of `old` stood and drop the others."""
        for node in old:
            for name in dict.fromkeys(node.reads()):
                self._consumers[name] = [n for n in self._consumers[name] if n is not node]
        last = max(self.position(node) for node in old)
        for node in old:
            i = self._place.pop(id(node))
            self._slots[i] = tuple(n for n in self._slots[i] if n is not node)
        self._slots[last] += new
        for node in new:
            self._place[id(node)] = last
            self._producers.update({name: node for name in node.outputs if name})
            for name in dict.fromkeys(node.reads()):
                self._consumers.setdefault(name, []).append(node)


def known_facts(graph: Graph) -> dict[str, Fact]:
    """What is known of every value before shapes are fed."""
    return infer(graph, {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})


def bypass(graph: Graph, source: Callable[[Node], str]) -> None:
    """Drop nodes whose one result is the value `source` names; its readers read that. "" keeps a node.

    Results that are graph outputs, or read by subgraphs, stay.
    """
    renamed: dict[str, str] = {}
    fixed = {name for node in graph.nodes for name in node.captures} | set(graph.outputs)
    kept = []
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        name = "" if node.outputs[0] in fixed else source(node)
        if name:
            renamed[node.outputs[0]] = name
        else:
            kept.append(node)
    graph.nodes = kept


def same_dims(a: Fact, b: Fact, unknown: int = 0) -> bool:
    """True where two shapes are equal but for at most `unknown` dims of which that cannot be told."""
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    pairs = [(x, y) for x, y in zip(a.shape, b.shape, strict=True) if x is None or x != y]
    return len(pairs) <= unknown and not any(isinstance(x, int) and isinstance(y, int) for x, y in pairs)
