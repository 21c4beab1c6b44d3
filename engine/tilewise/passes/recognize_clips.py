"""Clip, Relu and LeakyRelu from the Max, Min and Mul that they are written as."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter

_INFINITY = float("inf")
_BOUNDING = ("Clip", "Max", "Min", "Relu")
Bounds = tuple[float, float]


def recognize_clips(graph: Graph) -> None:
    """Max and Min with constants become Clip, one for several in a row; Max(x, 0) Relu; Max(x, a x) LeakyRelu."""
    if not any(node.op_type in ("Clip", "Max", "Min") and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if not node.domain and node.op_type in _BOUNDING:
            _leaky(rewriter, node) or _bounded(rewriter, node)
    rewriter.finish()


def _leaky(r: Rewriter, node: Node) -> bool:
    """Max(x, a x) with a in (0, 1]."""
    if node.op_type != "Max" or len(node.inputs) != 2:
        return False
    for x, scaled in (node.inputs, node.inputs[::-1]):
        product = r.producer(scaled, "Mul")
        if product is None or not r.only_read_by(scaled, node) or x not in product.inputs:
            continue
        other = product.inputs[1 - product.inputs.index(x)]
        slope = r.scalar(other, x)
        if slope is not None and 0 < slope <= 1:
            attrs = {"alpha": slope}
            r.replace([product, node], Node("LeakyRelu", [x], node.outputs, attrs, node.name, "", 16))
            return True
    return False


def _bounded(r: Rewriter, node: Node) -> bool:
    """One node's bounds, and those of the node before it where nothing else reads what that makes."""
    own = bounds(r, node)
    if own is None:
        return False
    x, (low, high) = own
    before = r.producer(x, *_BOUNDING)
    inner = None if before is None or not r.only_read_by(x, node) else bounds(r, before)
    old = [node]
    if before is not None and inner is not None:
        # min(max(x, a), b), then max(., c) and min(., d), is within [min(max(a, c), d), min(max(b, c), d)].
        x, (a, b) = inner
        low, high = (min(max(v, low), high) for v in (a, b))
        old = [before, node]
    elif node.op_type in ("Clip", "Relu"):
        return False
    dtype = r.fact(x).dtype
    if dtype is None or dtype.kind != "f" or low > high:
        return False
    r.replace(old, _clip(r, node, x, low, high, dtype))
    return True


def _clip(r: Rewriter, node: Node, x: str, low: float, high: float, dtype: np.dtype) -> Node:
    if low == 0 and high == _INFINITY:
        return Node("Relu", [x], node.outputs, {}, node.name, "", 14)
    names = [
        "" if abs(v) == _INFINITY else r.add_constant(f"{node.outputs[0]}.{what}", np.array(v, dtype))
        for v, what in ((low, "min"), (high, "max"))
    ]
    return Node("Clip", [x, *names], node.outputs, {}, node.name, "", 13)


def bounds(r: Rewriter, node: Node) -> tuple[str, Bounds] | None:
    """(x, (low, high)) of Clip, Relu, and Max or Min with a constant scalar; None where they are not constant."""
    x = node.inputs[0]
    if node.op_type == "Relu":
        return x, (0.0, _INFINITY)
    if node.op_type == "Clip":
        found = clip_bounds(r, node)
        return None if found is None else (x, found)
    if len(node.inputs) != 2:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        value = r.scalar(other, x)
        if value is not None and value == value and r.constant(x) is None:
            return x, ((value, _INFINITY) if node.op_type == "Max" else (-_INFINITY, value))
    return None


def clip_bounds(r: Rewriter, node: Node) -> Bounds | None:
    """From attributes (before opset 11) or constant inputs; None where they are not constant, or cross."""
    found = [node.attrs.get("min", -_INFINITY), node.attrs.get("max", _INFINITY)]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            value = r.constant(name)
            if value is None or value.size != 1:
                return None
            found[i] = float(value.reshape(-1)[0])
    return (found[0], found[1]) if found[0] <= found[1] else None
