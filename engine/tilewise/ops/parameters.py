"""Parameters of operators that are attributes in some opsets and inputs in others."""

from __future__ import annotations

from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op, values


def is_given(op: Op, ins: Inputs, i: int, name: str) -> bool:
    """True where the node carries attribute `name`, or input `i` is not left out."""
    return name in op.node.attrs or (i < len(ins) and ins[i] is not None)


def ints(op: Op, ins: Inputs, i: int, name: str) -> list[int] | None:
    """Attribute `name`, or else the content of input `i`; None where left out or not constant."""
    attr = op.attr(name)
    if attr is not None:
        return [int(v) for v in attr]
    return values(ins[i]) if i < len(ins) else None


def is_unknown(op: Op, ins: Inputs, i: int, name: str) -> bool:
    """True where the parameter is an input whose content is not known before the run."""
    return is_given(op, ins, i, name) and ints(op, ins, i, name) is None


def length(ins: Inputs, i: int) -> int | None:
    """Number of elements of input `i`, a list of integers, where it is known."""
    fact = ins[i] if i < len(ins) else None
    if fact is None or fact.shape is None or len(fact.shape) != 1:
        return None
    return fact.shape[0] if isinstance(fact.shape[0], int) else None


def facts_of(arrays) -> list[Fact | None]:
    """Facts of arrays at hand, as `infer` takes them."""
    return [None if a is None else Fact.of(a) for a in arrays]
