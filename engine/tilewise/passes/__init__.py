"""Graph to graph, before any shape is known: each pass is one file and can be left out by name."""

from __future__ import annotations

from collections.abc import Callable, Collection

from tilewise.graph import Graph
from tilewise.passes.canonicalize_gates import canonicalize_gates
from tilewise.passes.channels_first import channels_first
from tilewise.passes.dead_code import remove_dead_code
from tilewise.passes.fold_affine import fold_affine
from tilewise.passes.fold_columns import fold_columns
from tilewise.passes.fold_constants import fold_constants
from tilewise.passes.fold_pad import fold_pad
from tilewise.passes.fold_shapes import fold_shapes
from tilewise.passes.fold_transposes import fold_transposes
from tilewise.passes.fuse_activation import fuse_activation
from tilewise.passes.fuse_residual import fuse_residual
from tilewise.passes.merge_views import merge_views
from tilewise.passes.recognize_activations import recognize_activations
from tilewise.passes.recognize_clips import recognize_clips
from tilewise.passes.recognize_norms import recognize_norms
from tilewise.passes.recognize_shuffle import recognize_shuffle
from tilewise.passes.remove_duplicates import remove_duplicates
from tilewise.passes.remove_identity import remove_identity
from tilewise.passes.remove_noops import remove_noops

PASSES: dict[str, Callable[[Graph], None]] = {
    "fold_constants": fold_constants,
    "remove_identity": remove_identity,
    "fold_shapes": fold_shapes,
    "remove_duplicates": remove_duplicates,
    "merge_views": merge_views,
    "remove_noops": remove_noops,
    "recognize_clips": recognize_clips,
    "recognize_activations": recognize_activations,
    "recognize_norms": recognize_norms,
    "recognize_shuffle": recognize_shuffle,
    "fold_transposes": fold_transposes,
    "fold_columns": fold_columns,
    "channels_first": channels_first,
    "canonicalize_gates": canonicalize_gates,
    "fold_pad": fold_pad,
    "fold_affine": fold_affine,
    "fuse_residual": fuse_residual,
    "fuse_activation": fuse_activation,
    "remove_dead_code": remove_dead_code,
}
"""In the order in which they run; each changes the graph it is given. The last one runs after every other too:
dead readers would hide what is read only once."""


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
            if "remove_dead_code" not in disable:
                remove_dead_code(result)
    return result
