"""Let a matrix product read its operands as they lie before a Transpose."""

from __future__ import annotations

from dataclasses import replace

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter


def fold_transposes(graph: Graph) -> None:
    """A Transpose of the last two axes before Gemm or MatMul turns transA or transB; MatMul becomes FusedMatMul."""
    if not any(node.op_type == "Transpose" and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if (node.domain, node.op_type) in (("", "Gemm"), ("", "MatMul"), ("tilewise", "FusedMatMul")):
            _fold(rewriter, node)
    rewriter.finish()


def _fold(r: Rewriter, node: Node) -> None:
    inputs = list(node.inputs)
    attrs = {"transA": 0, "transB": 0} | node.attrs
    for i, flag in enumerate(("transA", "transB")):
        transpose = r.producer(inputs[i], "Transpose")
        if transpose is not None and _swaps_last(r, transpose) and (r.fact(inputs[1 - i]).rank or 0) > 1:
            inputs[i] = transpose.inputs[0]
            attrs[flag] = 1 - attrs[flag]
    if inputs == node.inputs:
        return
    if node.op_type == "Gemm":
        r.replace([node], replace(node, inputs=inputs, attrs=attrs))
    else:
        r.replace(
            [node], Node("FusedMatMul", inputs, node.outputs, attrs, node.name, "tilewise", node.version)
        )


def _swaps_last(r: Rewriter, transpose: Node) -> bool:
    rank = r.fact(transpose.outputs[0]).rank
    if rank is None or rank < 2:
        return False
    perm = transpose.attrs.get("perm") or list(range(rank))[::-1]
    return list(perm) == [*range(rank - 2), rank - 1, rank - 2]
