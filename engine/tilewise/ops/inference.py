"""Facts for every value of a graph, node by node, with constants folded on the way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilewise.errors import ExecutionError, ShapeError, TilewiseError
from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.graph.facts import Dim, Shape, merge_dims
from tilewise.ops.base import Op
from tilewise.ops.table import make

FOLD_LIMIT = 1 << 16
"""Elements of a result above which inference does not compute it (a pass does, once, for the whole graph)."""

SURPRISES = (
    ValueError,
    IndexError,
    TypeError,
    KeyError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
)
"""What a malformed model makes NumPy and our own rules raise; reported with the node's name."""


def infer(
    graph: Graph,
    inputs: Mapping[str, Fact],
    outer: Mapping[str, Fact] | None = None,
    fold_limit: int = FOLD_LIMIT,
) -> dict[str, Fact]:
    """Facts by value name, from those of the graph's inputs; `outer` gives those of captured names.

    A result of at most `fold_limit` elements whose inputs are all constants is computed. Raises `ShapeError`
    where a node's inputs do not fit, or a declared type contradicts the inferred one.
    """
    facts: dict[str, Fact] = dict(outer or {})
    facts.update({name: Fact.of(array) for name, array in graph.initializers.items()})
    facts.update(inputs)
    for node in graph.nodes:
        infer_in(graph, node, facts, fold_limit)
    return facts


def infer_in(graph: Graph, node: Node, facts: dict[str, Fact], fold_limit: int = FOLD_LIMIT) -> None:
    """Add the facts of one node's outputs to those of its inputs; see `infer`."""
    op = make(node)
    ins = [facts.get(name, UNKNOWN) if name else None for name in (*node.inputs, *node.captures)]
    outs = infer_node(op, ins)
    folded = fold(op, ins, outs, fold_limit) if op.foldable else None
    for i, name in enumerate(node.outputs):
        if name:
            fact = folded[i] if folded is not None else outs[i]
            facts[name] = refine(node, name, fact, graph.facts.get(name))


def infer_node(op: Op, ins: list[Fact | None]) -> list[Fact]:
    """One node's output facts; any surprise inside a shape rule is reported with the node's name."""
    try:
        outs = list(op.infer(ins))
    except TilewiseError:
        raise
    except SURPRISES as error:
        shown = ", ".join("-" if f is None else str(f) for f in ins)
        raise ShapeError(
            f"node {op.node.label!r} ({op.node.op_type}): inputs {shown} do not fit: {error}"
        ) from error
    return outs + [UNKNOWN] * (len(op.node.outputs) - len(outs))


def fold(op: Op, ins: list[Fact | None], outs: list[Fact], limit: int) -> list[Fact] | None:
    """Constant results where all inputs are constants and the results are small enough, else None."""
    if op.control_flow or any(f is not None and f.value is None for f in ins):
        return None
    if any(f.kind == "tensor" and (not f.known_shape or f.size > limit) for f in outs):
        return None
    arrays = [None if f is None else f.value for f in ins]
    results = evaluate(op, arrays)
    return [
        Fact.of(r) if isinstance(r, np.ndarray) else out for r, out in zip(results, outs, strict=False)
    ] + (outs[len(results) :])


def evaluate(op: Op, arrays: list, call=None) -> list:
    """`op.evaluate`, its results as arrays of the outputs asked for and its surprises as `ExecutionError`."""
    try:
        with np.errstate(all="ignore"):
            results = op.evaluate(call, *arrays) if op.control_flow else op.evaluate(*arrays)
    except TilewiseError:
        raise
    except SURPRISES as error:
        shown = ", ".join(
            "-"
            if a is None
            else f"{a.dtype}{list(a.shape)}"
            if isinstance(a, np.ndarray)
            else type(a).__name__
            for a in arrays
        )
        raise ExecutionError(
            f"node {op.node.label!r} ({op.node.op_type}) failed on inputs {shown}: {error}"
        ) from error
    return [np.asarray(r) if isinstance(r, np.generic) else r for r in results]


def refine(node: Node, name: str, fact: Fact, declared: Fact | None) -> Fact:
    """The inferred fact, completed by what the file declares; an error where the two contradict."""
    if declared is None or fact.kind != "tensor" or declared.kind != "tensor":
        return fact if fact is not UNKNOWN or declared is None else declared
    if fact.dtype is not None and declared.dtype is not None and fact.dtype != declared.dtype:
        raise ShapeError(
            f"node {node.label!r} ({node.op_type}): output {name!r} is {fact}, but the model declares {declared}"
        )
    return Fact(fact.dtype or declared.dtype, merge_shapes(node, name, fact, declared), fact.value)


def merge_shapes(node: Node, name: str, fact: Fact, declared: Fact) -> Shape | None:
    if fact.shape is None or declared.shape is None:
        return declared.shape if fact.shape is None else fact.shape
    if fact.known_shape:
        return fact.shape
    if len(fact.shape) != len(declared.shape):
        return fact.shape
    return tuple(_merge(f, d) for f, d in zip(fact.shape, declared.shape, strict=True))


def _merge(inferred: Dim, declared: Dim) -> Dim:
    if isinstance(inferred, int) and isinstance(declared, int):
        return inferred
    return merge_dims(inferred, declared)
