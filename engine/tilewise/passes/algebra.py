"""Sums and products as exporters write them: in any order, with any grouping, with constants anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tilewise.graph import Node
from tilewise.passes.rewrite import Rewriter

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10}


@dataclass(slots=True)
class Terms:
    """`constant` times (or plus) the values `leaves`; `nodes` are those that combine them, the last one first."""

    constant: float
    leaves: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)


def product(r: Rewriter, name: str) -> Terms:
    """A tree of Mul, Div by constants, squares and cubes, as far as only the tree reads its inner values."""
    terms = Terms(1.0)
    _gather(r, name, terms, ("Mul", "Div"), None)
    return terms


def total(r: Rewriter, name: str) -> Terms:
    """A tree of Add, and Sub of constants, as far as only the tree reads its inner values."""
    terms = Terms(0.0)
    _gather(r, name, terms, ("Add", "Sub"), None)
    return terms


def close(value: float, expected: float, dtype: np.dtype | None) -> bool:
    """True where one number is the other, written as a float of `dtype` and rounded a few times."""
    epsilon = _EPSILON.get("" if dtype is None else dtype.name, 2.0**-23)
    return math.isclose(value, expected, rel_tol=4 * epsilon)


def _gather(r: Rewriter, name: str, terms: Terms, kinds: tuple[str, str], parent: Node | None) -> None:
    powers = ("Pow",) if kinds[0] == "Mul" else ()
    node = r.producer(name, *kinds, *powers)
    if node is None or (parent is not None and not r.only_read_by(name, parent)):
        terms.leaves.append(name)
        return
    a, b = node.inputs
    scalars = r.scalar(a, b), r.scalar(b, a)
    if a == b or node.op_type == "Pow":
        exponent = 2 if a == b else scalars[1]
        if node.op_type in ("Mul", "Pow") and exponent in (2, 3):
            terms.nodes.append(node)
            terms.leaves += [a] * int(exponent)
        else:
            terms.leaves.append(name)
    elif node.op_type == kinds[1]:
        _inverse(r, name, terms, kinds, node, scalars[1])
    else:
        terms.nodes.append(node)
        for operand, scalar in ((a, scalars[0]), (b, scalars[1])):
            if scalar is None:
                _gather(r, operand, terms, kinds, node)
            else:
                terms.constant = _combine(node.op_type, terms.constant, scalar)


def _inverse(
    r: Rewriter, name: str, terms: Terms, kinds: tuple[str, str], node: Node, scalar: float | None
) -> None:
    if scalar is None or (scalar == 0 and node.op_type == "Div"):
        terms.leaves.append(name)
        return
    terms.nodes.append(node)
    terms.constant = _combine(node.op_type, terms.constant, scalar)
    _gather(r, node.inputs[0], terms, kinds, node)


def _combine(op_type: str, constant: float, scalar: float) -> float:
    if op_type in ("Mul", "Div"):
        return constant * scalar if op_type == "Mul" else constant / scalar
    return constant + scalar if op_type == "Add" else constant - scalar
