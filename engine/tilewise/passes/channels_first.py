"""Compute between a Transpose that puts channels last and one that puts them first as if neither were there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.fuse_activation import ACTIVATIONS
from tilewise.passes.rewrite import Rewriter

_PRODUCTS = {("", "MatMul"), ("tilewise", "FusedMatMul")}
_BINARY = ("Add", "Div", "Mul", "Sub")


def channels_first(graph: Graph) -> None:
    """LayerNormalization over the last axis becomes ChannelNormalization, MatMul by a constant a 1x1 Conv.

    Activations, and arithmetic with constants of a channel and with each other, go along. Only between Transposes
    (N, C, *S) to (N, *S, C) and back, with two axes in S at least, and where nothing else reads what lies between.
    """
    if not any(node.op_type == "Transpose" and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    region = _region(rewriter)
    if region:
        _rewrite(rewriter, region)


def _turns(node: Node, *, last: bool) -> bool:
    """True for the Transpose that puts channels last, or the one that puts them first."""
    perm = node.attrs.get("perm") if node.op_type == "Transpose" and not node.domain else None
    if perm is None or len(perm) < 4:
        return False
    rank = len(perm)
    return list(perm) == ([0, *range(2, rank), 1] if last else [0, rank - 1, *range(1, rank - 1)])


def _region(r: Rewriter) -> list[Node]:
    """The nodes, in order, that can be computed with channels first and whose results nobody needs otherwise."""
    turned = {node.outputs[0] for node in r.nodes() if _turns(node, last=True)}
    known = set(turned)
    region = []
    for node in r.nodes():
        if _is_convertible(r, node, known):
            region.append(node)
            known.add(node.outputs[0])
    while True:
        inside = {id(node) for node in region}
        made = turned | {node.outputs[0] for node in region}
        kept = [n for n in region if _is_convertible(r, n, made) and _is_closed(r, n, inside)]
        if len(kept) == len(region):
            return kept
        region = kept


def _is_closed(r: Rewriter, node: Node, inside: set[int]) -> bool:
    name = node.outputs[0]
    readers = r.readers(name)
    used = [n for n in readers if id(n) in inside or _turns(n, last=False)]
    return bool(readers) and r.only_read_by(name, *used)


def _is_convertible(r: Rewriter, node: Node, turned: set[str]) -> bool:
    values = [name for name in node.inputs if name and r.constant(name) is None]
    x = r.fact(values[0]) if values else None
    if x is None or x.shape is None or not turned.issuperset(values) or any(node.outputs[1:]):
        return False
    channels = x.shape[-1]
    if not isinstance(channels, int) or node.inputs[0] not in values:
        return False
    constants = [c for name in node.inputs if name and (c := r.constant(name)) is not None]
    if (node.domain, node.op_type) in _PRODUCTS:
        attrs = node.attrs
        plain = not attrs.get("transA", 0) and not attrs.get("activation")
        return plain and len(values) == 1 and constants[0].ndim == 2
    if node.domain:
        return False
    if node.op_type == "LayerNormalization":
        over_last = node.attrs.get("axis", -1) in (-1, x.rank - 1)
        return over_last and len(values) == 1 and all(c.shape == (channels,) for c in constants)
    if node.op_type in _BINARY:
        if len(values) == 2:
            return all(r.fact(name).shape == x.shape and None not in x.shape for name in values)
        return constants[0].shape in ((), (1,), (channels,))
    return node.op_type in ACTIVATIONS and len(values) == 1


def _rewrite(r: Rewriter, region: list[Node]) -> None:
    """Every node with channels first; the first Transpose back of a result gives it its name, others copy it."""
    twins = {n.outputs[0]: n.inputs[0] for n in r.nodes() if _turns(n, last=True)}
    for node in region:
        back = next((n for n in r.readers(node.outputs[0]) if _turns(n, last=False)), None)
        twins[node.outputs[0]] = r.fresh(f"{node.outputs[0]}.first") if back is None else back.outputs[0]
        r.replace([node], _converted(r, node, twins))
        if back is not None:
            r.replace([back])
    for node in r.nodes():
        if _turns(node, last=False) and node.inputs[0] in twins:
            r.replace([node], Node("Identity", [twins[node.inputs[0]]], node.outputs, {}, node.name, "", 16))
    r.finish()


def _converted(r: Rewriter, node: Node, twins: dict[str, str]) -> Node:
    rank = r.fact(node.inputs[0]).rank
    inputs = [twins.get(name, name) for name in node.inputs]
    outputs = [twins[node.outputs[0]]]
    if node.op_type == "LayerNormalization":
        attrs = {"epsilon": node.attrs.get("epsilon", 1e-5)}
        return Node("ChannelNormalization", inputs, outputs, attrs, node.name, "tilewise", 1)
    if (node.domain, node.op_type) in _PRODUCTS:
        w = r.graph.initializers[node.inputs[1]]
        w = np.ascontiguousarray(w if node.attrs.get("transB", 0) else w.T)
        inputs[1] = r.add_constant(f"{node.inputs[1]}.kernel", w.reshape(*w.shape, *[1] * (rank - 2)))
        conv = {"kernel_shape": [1] * (rank - 2), "group": 1, "auto_pad": "NOTSET"}
        return Node("Conv", inputs, outputs, conv, node.name, "", 22)
    for i, name in enumerate(node.inputs[1:], 1) if node.op_type in _BINARY else ():
        value = r.constant(name)
        if value is not None and value.size > 1:
            inputs[i] = r.add_constant(f"{name}.first", value.reshape(-1, *[1] * (rank - 2)))
    return replace(node, inputs=inputs, outputs=outputs)
