"""Adding nodes to a graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import numpy as np

from tilewise.graph import Graph, Node

OPSET = 18
"""The opset whose forms are written."""


class Emitter:
    """Appends nodes and constants to a graph under fresh names, which start with `prefix`.

    avoid: names that are taken besides those of the graph itself.
    """

    def __init__(self, graph: Graph, prefix: str, avoid: Iterable[str] = ()) -> None:
        self.graph = graph
        self._prefix = prefix
        self._taken = {*graph.inputs, *graph.captures, *graph.initializers, *graph.producers(), *avoid}
        self._numbers = count()

    def __call__(self, op_type: str, *inputs: str, domain: str = "", **attrs: object) -> str:
        """The output of a new node."""
        out = self._fresh(op_type)
        self.graph.nodes.append(Node(op_type, list(inputs), [out], attrs, out, domain, OPSET))
        return out

    def constant(self, value: object, dtype: np.dtype | type) -> str:
        """A new initializer."""
        name = self._fresh("constant")
        self.graph.initializers[name] = np.array(value, dtype)
        return name

    def full(self, value: float, dtype: np.dtype, like: str) -> str:
        """`value` everywhere in the shape of `like`."""
        return self("Expand", self.constant(value, dtype), self("Shape", like))

    def copy(self, node: Node, names: dict[str, str]) -> None:
        """A node that reads what `node` does by the names in `names`, to which its outputs are added."""
        inputs = [names.get(name, name) for name in node.inputs]
        names.update({name: self._fresh(node.op_type) for name in node.outputs if name})
        outputs = [names.get(name, "") for name in node.outputs]
        self.graph.nodes.append(
            replace(node, inputs=inputs, outputs=outputs, attrs=dict(node.attrs), name="")
        )

    def _fresh(self, hint: str) -> str:
        name = next(n for i in self._numbers if (n := f"{self._prefix}/{hint}_{i}") not in self._taken)
        self._taken.add(name)
        return name
