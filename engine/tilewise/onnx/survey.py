"""Facts of values as far as they can be known, in a graph that may hold unsupported or broken nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tilewise.errors import TilewiseError
from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.ops.inference import infer_node, refine
from tilewise.ops.table import make

Facts = dict[str, Fact]


def begin(graph: Graph, outer: Mapping[str, Fact] | None = None) -> Facts:
    """What is known before the first node: captured values, inputs as declared, constants."""
    facts = {name: fact for name, fact in (outer or {}).items() if name in graph.captures}
    facts.update({name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
    facts.update({name: Fact.of(array) for name, array in graph.initializers.items()})
    return facts


def inputs_of(node: Node, facts: Facts) -> list[Fact | None]:
    """Facts of the node's inputs, then of its captures."""
    return look_up(node.inputs, facts) + look_up(node.captures, facts)


def look_up(names: Iterable[str], facts: Facts) -> list[Fact | None]:
    """Facts by name, None for a value left out."""
    return [facts.get(name, UNKNOWN) if name else None for name in names]


def learn(node: Node, facts: Facts, declared: Mapping[str, Fact]) -> TilewiseError | None:
    """Add the facts of the node's outputs; what its inference raised, if it did."""
    error = None
    outs = [UNKNOWN] * len(node.outputs)
    try:
        outs = infer_node(make(node), inputs_of(node, facts))
    except TilewiseError as raised:
        error = raised
    for name, fact in zip(node.outputs, outs, strict=False):
        try:
            facts[name] = refine(node, name, fact, declared.get(name))
        except TilewiseError as raised:
            error, facts[name] = error or raised, declared[name]
    facts.pop("", None)
    return error
