"""Fold what is done to the columns of a matrix product into its matrix and bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter

_PRODUCTS = {("", "MatMul"), ("tilewise", "FusedMatMul"), ("", "Gemm")}


def fold_columns(graph: Graph) -> None:
    """Add, Sub, Mul and Div by constants along the last axis disappear into the MatMul or Gemm before them.

    A MatMul becomes FusedMatMul, which has a bias. Mul and Div need a constant matrix, and constant bias.
    """
    if not any((node.domain, node.op_type) in _PRODUCTS for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if not node.domain and node.op_type in ("Add", "Sub", "Mul", "Div"):
            _fold(rewriter, node)
    rewriter.finish()


def _fold(r: Rewriter, node: Node) -> None:
    for i in (0, 1) if node.op_type in ("Add", "Mul") else (0,):
        product, value = r.producer(node.inputs[i]), r.constant(node.inputs[1 - i])
        if product is None or (product.domain, product.op_type) not in _PRODUCTS or value is None:
            continue
        row = _row(r, value, product)
        if row is None or not r.only_read_by(node.inputs[i], node):
            continue
        folded = _scaled(r, product, node.op_type, row) if row.all() or node.op_type != "Div" else None
        if folded is not None:
            r.replace([product, node], replace(folded, outputs=list(node.outputs)))
            return


def _row(r: Rewriter, value: np.ndarray, product: Node) -> np.ndarray | None:
    """(n,) where the constant spreads along the last axis alone of a product of n columns, else None."""
    y, b = r.fact(product.outputs[0]), r.fact(product.inputs[1])
    if y.shape is None or y.rank < 2 or b.rank is None or b.rank < 2 or value.dtype.kind != "f":
        return None
    n = y.shape[-1]
    if not isinstance(n, int) or value.ndim > y.rank or value.dtype != y.dtype:
        return None
    if value.size not in (1, n) or (value.size > 1 and value.shape[-1] != n):
        return None
    return np.broadcast_to(value.reshape(-1), (n,)).astype(np.float64)


def _scaled(r: Rewriter, product: Node, op_type: str, row: np.ndarray) -> Node | None:
    """The product with its columns changed, or None where it cannot take that in."""
    if product.attrs.get("activation") or product.attrs.get("beta", 1.0) != 1.0:
        return None
    inputs = [*product.inputs, *[""] * (3 - len(product.inputs))]
    dtype = r.fact(product.outputs[0]).dtype
    bias = np.zeros(len(row)) if not inputs[2] else r.constant(inputs[2])
    if bias is None or dtype is None or bias.size not in (1, len(row)) or bias.shape[:-1] not in ((), (1,)):
        return None
    bias = np.broadcast_to(bias.reshape(-1).astype(np.float64), row.shape)
    if op_type in ("Add", "Sub"):
        bias = bias + (row if op_type == "Add" else -row)
    else:
        factor = row if op_type == "Mul" else 1 / row
        w = r.constant(inputs[1])
        if w is None or w.ndim != 2:
            return None
        by_column = factor[:, None] if product.attrs.get("transB", 0) else factor
        inputs[1] = r.add_constant(f"{inputs[1]}.folded", (w * by_column).astype(w.dtype))
        bias = bias * factor
    if inputs[2] or op_type in ("Add", "Sub"):
        inputs[2] = r.add_constant(f"{product.outputs[0]}.bias", bias.astype(dtype))
    if product.op_type == "Gemm":
        return replace(product, inputs=inputs if inputs[2] else inputs[:2])
    attrs = {"transA": 0, "transB": 0} | product.attrs
    return Node("FusedMatMul", inputs, [], attrs, product.name, "tilewise", product.version)
