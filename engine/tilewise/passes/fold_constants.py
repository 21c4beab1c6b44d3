"""Compute what depends on constants alone."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Graph
from tilewise.ops.inference import infer

MAX_ELEMENTS = 1 << 28


def fold_constants(graph: Graph) -> None:
    """Nodes with constant results become initializers; those above `MAX_ELEMENTS` elements stay."""
    inputs = {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs}
    facts = infer(graph, inputs, fold_limit=MAX_ELEMENTS)
    kept = []
    for node in graph.nodes:
        names = [name for name in node.outputs if name]
        if names and all(isinstance(facts[name].value, np.ndarray) for name in names):
            graph.initializers.update({name: facts[name].value for name in names})
        else:
            kept.append(node)
    graph.nodes = kept
