"""Parameters and floating-point operations of nodes, from their facts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewise.graph import Fact, Graph, Node

Facts = Sequence[Fact | None]

_FREE = frozenset(
    [
        "Cast",
        "CastLike",
        "Concat",
        "ConstantOfShape",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "EyeLike",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "OneHot",
        "Pad",
        "Range",
        "Reshape",
        "Scatter",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that move data and compute nothing of it."""
_WINDOWED = frozenset({"MaxPool", "AveragePool", "LpPool"})
_OVER_INPUT = ("Global", "Reduce", "Arg")
"""Operators of these prefixes touch each element of their input once."""


def parameters(graph: Graph) -> dict[int, int]:
    """Elements of floating-point and 8-bit initializers by index of the first node that reads them.

    Other integers are shapes, axes and indices, not parameters.
    """
    counts: dict[int, int] = {}
    seen: set[str] = set()
    for i, node in enumerate(graph.nodes):
        for name in dict.fromkeys(node.reads()):
            array = graph.initializers.get(name)
            if array is not None and name not in seen and _is_parameter(array.dtype):
                seen.add(name)
                counts[i] = counts.get(i, 0) + array.size
    return counts


def _is_parameter(dtype: np.dtype) -> bool:
    return dtype.kind not in "biuOUS" or (dtype.kind in "iu" and dtype.itemsize == 1)


def flops(node: Node, ins: Facts, outs: Facts) -> int | None:
    """Floating-point operations of one run of the node; None where shapes are not known.

    A multiply-add counts as two. Operators other than convolutions and products count one for each element that they make or read.
    """
    if any(f is not None and not f.known_shape for f in (*ins, *outs)) or not outs or outs[0] is None:
        return None
    op, y = node.op_type, outs[0]
    if op in _FREE:
        return 0
    if op in ("Conv", "ConvInteger", "QLinearConv", "DeformConv"):
        w = ins[3 if op == "QLinearConv" else 1]
        return None if w is None else 2 * y.size * _product(w.shape[1:])
    if op == "ConvTranspose" and ins[0] is not None and ins[1] is not None:
        return 2 * ins[0].size * _product(ins[1].shape[1:])
    if op == "Gemm" and ins[0] is not None:
        return 2 * y.size * ins[0].shape[0 if node.attrs.get("transA") else 1]
    if op in ("MatMul", "MatMulInteger") and ins[0] is not None:
        return 2 * y.size * ins[0].shape[-1]
    if op in _WINDOWED:
        return y.size * _product(node.attrs["kernel_shape"])
    if op.startswith(_OVER_INPUT) and ins and ins[0] is not None:
        return ins[0].size
    return sum(f.size for f in outs if f is not None)


def _product(dims: Sequence[int]) -> int:
    total = 1
    for dim in dims:
        total *= int(dim)
    return total
