"""Reshape, Transpose, Reshape that interleave groups of channels become one node."""

from __future__ import annotations

from tilewise.graph import Fact, Graph, Node
from tilewise.passes.rewrite import Rewriter, same_dims


def recognize_shuffle(graph: Graph) -> None:
    """(N, C, *S) to (N, groups, C / groups, *S), axes 1 and 2 exchanged, and back: ChannelShuffle."""
    if not any(node.op_type == "Transpose" and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if not node.domain and node.op_type == "Transpose":
            _replace(rewriter, node)
    rewriter.finish()


def _replace(r: Rewriter, transpose: Node) -> None:
    split = r.producer(transpose.inputs[0], "Reshape")
    joined = r.sole_reader(transpose.outputs[0], "Reshape", "Flatten")
    if split is None or joined is None or not r.only_read_by(split.outputs[0], transpose):
        return
    x, parts, y = (r.fact(name) for name in (split.inputs[0], split.outputs[0], joined.outputs[0]))
    perm = transpose.attrs.get("perm")
    if (
        perm is None
        or list(perm) != [0, 2, 1, *range(3, len(perm))]
        or joined.inputs[0] != transpose.outputs[0]
    ):
        return
    if x.shape is None or parts.shape is None or len(parts.shape) != len(x.shape) + 1:
        return
    groups, channels = parts.shape[1], x.shape[1]
    if not (isinstance(groups, int) and isinstance(channels, int) and groups > 0 and channels % groups == 0):
        return
    whole = Fact(x.dtype, (x.shape[0], groups, channels // groups, *x.shape[2:]))
    if same_dims(parts, whole, unknown=1) and same_dims(x, y, unknown=1):
        attrs = {"groups": groups}
        new = Node("ChannelShuffle", [split.inputs[0]], joined.outputs, attrs, transpose.name, "tilewise", 1)
        r.replace([split, transpose, joined], new)
