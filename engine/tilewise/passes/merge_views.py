"""One Transpose for several in a row, one Reshape for several nodes that give elements another shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter

_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def merge_views(graph: Graph) -> None:
    """The second of two such nodes reads what the first one reads; the first may be dead then."""
    if not any(node.op_type in ("Transpose", *_RESHAPING) and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if node.domain:
            continue
        merged = None
        if node.op_type == "Transpose":
            merged = _transposes(rewriter, node)
        elif node.op_type in _RESHAPING:
            merged = _reshapes(rewriter, node)
        if merged is not None:
            rewriter.replace([node], merged)
    rewriter.finish()


def _transposes(r: Rewriter, node: Node) -> Node | None:
    first = r.producer(node.inputs[0], "Transpose")
    inner = None if first is None else first.attrs.get("perm")
    outer = node.attrs.get("perm")
    if first is None or inner is None or outer is None:
        return None
    return replace(node, inputs=[first.inputs[0]], attrs=dict(node.attrs, perm=[inner[i] for i in outer]))


def _reshapes(r: Rewriter, node: Node) -> Node | None:
    first = r.producer(node.inputs[0], *_RESHAPING)
    target = None if first is None else _target(r, node)
    if first is None or target is None:
        return None
    shape = r.add_constant(f"{node.outputs[0]}.shape", np.array(target, np.int64))
    return Node("Reshape", [first.inputs[0], shape], node.outputs, {"allowzero": 0}, node.name, "", 14)


def _target(r: Rewriter, node: Node) -> list[int] | None:
    """The result's shape as Reshape takes it, with -1 for at most one dim, and no dim that may be 0."""
    dims = r.fact(node.outputs[0]).shape
    if dims is None:
        return None
    target = [d if isinstance(d, int) else -1 for d in dims]
    return None if target.count(-1) > 1 or 0 in target else target
