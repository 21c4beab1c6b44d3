"""The graph: ONNX operators over named values, in topological order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewise.graph.facts import Fact


@dataclass(slots=True)
class Node:
    """One operator call.

    inputs/outputs: value names; "" stands for an optional one left out.
    attrs: plain Python values (int, float, str, bytes, lists of these), NumPy arrays for tensors, `Graph` for
        subgraphs. Defaults of the operator's version are filled in, so an operator reads `attrs` alone.
    version: the opset version of `domain` that the model imports.
    captures: names of outer values that subgraphs in `attrs` read.
    """

    op_type: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""
    version: int = 0
    captures: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How messages call this node: its name, or its operator and first output."""
        return self.name or f"{self.op_type}->{next((o for o in self.outputs if o), '')}"

    def reads(self) -> Iterator[str]:
        """Every value name that must exist before this node runs."""
        yield from (name for name in self.inputs if name)
        yield from self.captures


@dataclass(slots=True)
class Graph:
    """A graph of nodes in an order in which every value is made before it is read.

    inputs/outputs: value names. facts: what the file declares of them and of inner values.
    initializers: constant values by name.
    captures: for a subgraph, the names it reads from the graphs around it.
    overridable: names of initializers that a caller may feed instead (graph inputs with a default, IR >= 4).
    info: what the file says of itself: ir_version, producer_name, producer_version, domain, model_version,
        doc_string, graph_doc_string.
    """

    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    captures: tuple[str, ...] = ()
    overridable: list[str] = field(default_factory=list)
    info: dict[str, str | int] = field(default_factory=dict)

    def producers(self) -> dict[str, Node]:
        return {name: node for node in self.nodes for name in node.outputs if name}

    def consumers(self) -> dict[str, list[Node]]:
        """Nodes by the value they read, a node once per value; graph outputs are not listed."""
        table: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.reads()):
                table.setdefault(name, []).append(node)
        return table

    def copy(self) -> Graph:
        """A copy whose nodes and tables can be changed freely; arrays and subgraphs are shared."""
        nodes = [
            Node(
                n.op_type,
                list(n.inputs),
                list(n.outputs),
                dict(n.attrs),
                n.name,
                n.domain,
                n.version,
                n.captures,
            )
            for n in self.nodes
        ]
        return Graph(
            self.name,
            list(self.inputs),
            list(self.outputs),
            nodes,
            dict(self.initializers),
            dict(self.facts),
            dict(self.opsets),
            dict(self.metadata),
            self.captures,
            list(self.overridable),
            dict(self.info),
        )
