"""Drop nodes that give back their first input, element by element and in its shape and type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewise.dtypes import from_onnx
from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter, bypass, same_dims

_SHAPED = ("Expand", "Flatten", "Reshape", "Slice", "Squeeze", "Tile", "Unsqueeze")
_JOINING = ("Concat", "Max", "Mean", "Min", "Sum")


def remove_noops(graph: Graph) -> None:
    """Readers of such a node's result read its input; results that are graph outputs stay.

    Reshaping to the same shape, Transpose that turns nothing, Slice of everything, Cast to the type that is
    there, Concat and Sum of one value, Pad by nothing, Clip without bounds, pooling over one element, and
    Add, Sub, Mul, Div and Pow with a constant that changes nothing.
    """
    if not any(node.op_type in _RULES and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)

    def source(node: Node) -> str:
        rule = None if node.domain else _RULES.get(node.op_type)
        return (rule(rewriter, node) or "") if rule is not None else ""

    bypass(graph, source)


def _shaped(r: Rewriter, node: Node) -> str | None:
    if node.op_type == "Slice" and not _slices_all(r, node):
        return None
    return node.inputs[0] if same_dims(r.fact(node.inputs[0]), r.fact(node.outputs[0])) else None


def _slices_all(r: Rewriter, node: Node) -> bool:
    """True where the order stays; the shape is looked at elsewhere."""
    starts = r.integers(node, 1, "starts")
    steps = r.integers(node, 4, "steps") if len(node.inputs) > 4 and node.inputs[4] else [1]
    return starts is not None and steps is not None and set(steps) == {1}


def _turned(r: Rewriter, node: Node) -> str | None:
    rank = r.fact(node.inputs[0]).rank
    perm = node.attrs.get("perm")
    if perm is None:
        return node.inputs[0] if rank is not None and rank < 2 else None
    return node.inputs[0] if list(perm) == list(range(len(perm))) else None


def _cast(r: Rewriter, node: Node) -> str | None:
    dtype = r.fact(node.inputs[0]).dtype
    target = from_onnx(node.attrs["to"]) if node.op_type == "Cast" else r.fact(node.inputs[1]).dtype
    return node.inputs[0] if dtype is not None and dtype == target else None


def _joining(r: Rewriter, node: Node) -> str | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _pad(r: Rewriter, node: Node) -> str | None:
    pads = r.integers(node, 1, "pads")
    return node.inputs[0] if pads is not None and not any(pads) else None


def _clip(r: Rewriter, node: Node) -> str | None:
    bounded = any(node.inputs[1:]) or "min" in node.attrs or "max" in node.attrs
    return None if bounded else node.inputs[0]


def _pool(r: Rewriter, node: Node) -> str | None:
    ones = all(set(node.attrs.get(name) or [1]) == {1} for name in ("kernel_shape", "strides"))
    padded = any(node.attrs.get("pads") or []) or any(node.outputs[1:])
    return node.inputs[0] if ones and not padded else None


def _arithmetic(r: Rewriter, node: Node) -> str | None:
    neutral = 1 if node.op_type in ("Mul", "Div", "Pow") else 0
    for i in (1, 0) if node.op_type in ("Add", "Mul") else (1,):
        other, fact = node.inputs[1 - i], r.fact(node.inputs[1 - i])
        value = r.constant(node.inputs[i])
        if value is None or value.dtype.kind not in "fiu" or fact.dtype != value.dtype:
            continue
        if np.all(value == neutral) and same_dims(fact, r.fact(node.outputs[0])):
            return other
    return None


_RULES: dict[str, Callable[[Rewriter, Node], str | None]] = {
    **dict.fromkeys(_SHAPED, _shaped),
    **dict.fromkeys(_JOINING, _joining),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), _arithmetic),
    **dict.fromkeys(("Cast", "CastLike"), _cast),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    "Clip": _clip,
    "Pad": _pad,
    "Transpose": _turned,
}
