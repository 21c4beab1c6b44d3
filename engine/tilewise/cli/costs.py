"""Parameters and floating-point operations of nodes, from their facts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
Cost = Callable[[Node, Facts, Fact], int]


def _convolution(weight: int) -> Cost:
    """Two operations for each output element and each element of one filter."""
    return lambda node, ins, y: 2 * y.size * math.prod(known_dims(ins[weight])[1:])


def _transposed(node: Node, ins: Facts, y: Fact) -> int:
    return 2 * math.prod(known_dims(ins[0])) * math.prod(known_dims(ins[1])[1:])


def _gemm(node: Node, ins: Facts, y: Fact) -> int:
    return 2 * y.size * known_dims(ins[0])[0 if node.attrs.get("transA") else 1]


def _matmul(node: Node, ins: Facts, y: Fact) -> int:
    return 2 * y.size * known_dims(ins[0])[-2 if node.attrs.get("transA") else -1]


def _window(node: Node, ins: Facts, y: Fact) -> int:
    return y.size * math.prod(node.attrs["kernel_shape"])  # type: ignore[call-overload]


_PRODUCTS: dict[str, Cost] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "DeformConv": _convolution(1),
    "ConvTranspose": _transposed,
    "FusedConv": _convolution(1),
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
}
_COSTS: dict[str, Cost] = {
    **_PRODUCTS,
    "MaxPool": _window,
    "AveragePool": _window,
    "LpPool": _window,
}
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


def multiplies(node: Node) -> bool:
    """True for operators whose floating-point operations are multiply-adds."""
    return node.op_type in _PRODUCTS


def flops(node: Node, ins: Facts, outs: Facts) -> int | None:
    """Floating-point operations of one run of the node; None where shapes are not known.

    A multiply-add counts as two. Operators other than convolutions, products and pools count one for each
    element that they make or reduce.
    """
    if any(f is not None and not f.known_shape for f in (*ins, *outs)) or not outs or outs[0] is None:
        return None
    if node.op_type in _FREE:
        return 0
    if node.op_type in _COSTS:
        return _COSTS[node.op_type](node, ins, outs[0])
    if node.op_type.startswith(_OVER_INPUT):
        return math.prod(known_dims(ins[0]))
    return sum(f.size for f in outs if f is not None)


def known_dims(fact: Fact | None) -> tuple[int, ...]:
    """The shape of a fact that is known to be there and in full."""
    assert fact is not None
    assert fact.shape is not None
    return tuple(int(d) for d in fact.shape)  # type: ignore[arg-type]
