"""Let a convolution add a residual before it stores its result."""

from __future__ import annotations

from tilewise.graph import Fact, Graph, Node
from tilewise.passes.rewrite import Rewriter


def fuse_residual(graph: Graph) -> None:
    """Add(Conv(x), r), or Sum of two, becomes FusedConv(x, w, b, r) where r has the shape of its result."""
    if not any(_is_conv(node) for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for add in rewriter.nodes():
        if not add.domain and add.op_type in ("Add", "Sum") and len(add.inputs) == 2:
            _fuse(rewriter, add)
    rewriter.finish()


def _fuse(rewriter: Rewriter, add: Node) -> None:
    producers = [rewriter.producer(name) for name in add.inputs]
    found = [
        (rewriter.position(conv), i, conv)
        for i, conv in enumerate(producers)
        if conv is not None and _is_conv(conv)
        if rewriter.only_read_by(add.inputs[i], add) and add.inputs[0] != add.inputs[1]
    ]
    if not found or not _same_shape(*(rewriter.fact(name) for name in add.inputs)):
        return
    _, i, conv = max(found, key=lambda f: f[0])
    inputs = [*conv.inputs, *[""] * (3 - len(conv.inputs)), add.inputs[1 - i]]
    fused = Node(
        "FusedConv", inputs, list(add.outputs), dict(conv.attrs), conv.name, "tilewise", conv.version
    )
    rewriter.replace([conv, add], fused)


def _is_conv(node: Node) -> bool:
    return not node.domain and node.op_type == "Conv"


def _same_shape(a: Fact, b: Fact) -> bool:
    return a.shape is not None and a.shape == b.shape and None not in a.shape and a.dtype == b.dtype
