"""In-place Concat: which values are made where the concatenation of theirs will lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilewise.graph import Fact, Graph, Node
from tilewise.ops.layout import BLOCKED, whole_blocks


@dataclass(frozen=True, slots=True)
class Home:
    """A place within the value `parent`, `elements` from its start."""

    parent: str
    elements: int


def find_homes(graph: Graph, facts: Mapping[str, Fact], layout: str) -> dict[str, Home]:
    """Homes in `layout` of values whose elements lie side by side in a Concat's result.

    Where a later Concat takes all that an earlier one takes, and more, the earlier result is a part of the later
    one and nothing is copied for it at all.
    """
    made = {name for node in graph.nodes for name in node.outputs if name}
    homes: dict[str, Home] = {}
    for node in reversed(graph.nodes):
        starts = _starts(node, facts, layout)
        if starts is None:
            continue
        out = node.outputs[0]
        inside = [homes.get(name) for name in node.inputs]
        if out not in homes and inside[0] is not None and _follow(inside, starts):
            homes[out] = inside[0]
            continue
        for name, start in zip(node.inputs, starts, strict=True):
            if name in made and name not in homes and facts[name].value is None:
                homes[name] = Home(out, start)
    return homes


def _follow(inside: Sequence[Home | None], starts: Sequence[int]) -> bool:
    """True where the inputs lie in one parent, one behind the other."""
    first = inside[0]
    assert first is not None
    return all(
        home == Home(first.parent, first.elements + start) for home, start in zip(inside, starts, strict=True)
    )


def _starts(node: Node, facts: Mapping[str, Fact], layout: str) -> list[int] | None:
    """Where each input of a Concat begins, in elements of its memory; None where they do not lie side by side."""
    if node.op_type != "Concat" or node.domain or len(node.inputs) < 2:
        return None
    parts = [facts[name] for name in node.inputs]
    if not all(f.known_shape and f.size and f.dtype is not None and not f.dtype.hasobject for f in parts):
        return None
    shapes = [f.shape for f in parts]
    axis = node.attrs["axis"] % len(shapes[0])
    if math.prod(shapes[0][:axis]) != 1:
        return None
    sizes = [math.prod(s) for s in shapes]
    by_blocks = axis == 1 and len(shapes[0]) > 2 and all(whole_blocks(s) for s in shapes[:-1])
    if layout == BLOCKED and not by_blocks:
        return None
    return [sum(sizes[:i]) for i in range(len(sizes))]
