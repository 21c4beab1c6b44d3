"""Graph to graph, before any shape is known: each pass is one file and can be left out by name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tilewise.graph import Graph
from tilewise.passes.dead_code import remove_dead_code
from tilewise.passes.fold_affine import fold_affine
from tilewise.passes.fold_constants import fold_constants
from tilewise.passes.fuse_activation import fuse_activation
from tilewise.passes.fuse_residual import fuse_residual
from tilewise.passes.remove_identity import remove_identity

PASSES: dict[str, Callable[[Graph], None]] = {
    "fold_constants": fold_constants,
    "remove_identity": remove_identity,
    "fold_affine": fold_affine,
    "fuse_residual": fuse_residual,
    "fuse_activation": fuse_activation,
    "remove_dead_code": remove_dead_code,
}
"""In the order in which they run; each changes the graph it is given."""


def optimize(graph: Graph, disable: Collection[str] = ()) -> Graph:
    """A graph that computes the same values within rounding; `disable` names passes to leave out.

    All initializers are taken for constants, those that a caller may feed instead too.
    """
    unknown = set(disable) - set(PASSES)
    if unknown:
        raise ValueError(f"no such pass: {', '.join(sorted(unknown))}; there are {', '.join(PASSES)}")
    result = graph.copy()
    for name, apply in PASSES.items():
        if name not in disable:
            apply(result)
    return result
