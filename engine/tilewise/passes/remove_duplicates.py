"""Compute once what several nodes compute, and keep one of equal small constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.ops.table import lookup

MAX_BYTES = 1 << 16
"""Constants above this are not compared: reading all weights at load would cost more than it saves."""


def remove_duplicates(graph: Graph) -> None:
    """Nodes of one operator, with equal attributes and inputs, become one; so do equal constants.

    Nodes whose results are graph outputs or read by subgraphs stay, and so do nodes with subgraphs and
    those whose results are not a function of their inputs alone.
    """
    renamed = _equal_constants(graph)
    fixed = {name for node in graph.nodes for name in node.captures} | set(graph.outputs)
    first: dict[tuple, Node] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        key = _key(node)
        twin = None if key is None else first.setdefault(key, node)
        if twin is None or twin is node or not fixed.isdisjoint(node.outputs):
            kept.append(node)
        else:
            renamed.update(zip(node.outputs, twin.outputs, strict=True))
            renamed.pop("", None)
    graph.nodes = kept


def _equal_constants(graph: Graph) -> dict[str, str]:
    """By the name of a constant, that of the first one equal to it. Bit by bit, so that -0 and NaN stay."""
    first: dict[tuple, str] = {}
    renamed = {}
    for name, array in graph.initializers.items():
        if array.nbytes <= MAX_BYTES and not array.dtype.hasobject:
            twin = first.setdefault((array.dtype, array.shape, array.tobytes()), name)
            if twin != name:
                renamed[name] = twin
    return renamed


def _key(node: Node) -> tuple | None:
    cls = lookup(node)
    if cls is None or not cls.foldable or cls.control_flow or node.captures:
        return None
    attrs = tuple(sorted((name, _frozen(value)) for name, value in node.attrs.items()))
    present = tuple(bool(name) for name in node.outputs)
    return node.domain, node.op_type, node.version, tuple(node.inputs), present, attrs


def _frozen(value: Any) -> Any:
    """Something hashable that is equal where attributes are; numbers of different types differ."""
    if isinstance(value, np.ndarray):
        return (
            "array",
            str(value.dtype),
            value.shape,
            value.tobytes() if not value.dtype.hasobject else id(value),
        )
    if isinstance(value, list | tuple):
        return "list", tuple(_frozen(v) for v in value)
    return type(value).__name__, repr(value)
