"""Gradient rules: for each operator and each of its inputs, the nodes that make the input's gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tilewise.autodiff.emitter import Emitter
from tilewise.errors import Unsupported, UnsupportedError
from tilewise.graph import UNKNOWN, Fact, Node


class Step:
    """One node on the way back: what a rule reads, and through a call makes nodes with.

    x: names of the inputs. y: that of output 0. dy: that of y's gradient. index: the input whose gradient is
    asked for.
    """

    def __init__(self, node: Node, index: int, dy: str, emit: Emitter, facts: Mapping[str, Fact]) -> None:
        self.node, self.index, self.dy, self.emit = node, index, dy, emit
        self.x, self.y = node.inputs, node.outputs[0]
        self._facts = facts

    def __call__(self, op_type: str, *inputs: str, domain: str = "", **attrs: object) -> str:
        """The output of a new node."""
        return self.emit(op_type, *inputs, domain=domain, **attrs)

    def scalar(self, value: float) -> str:
        """A constant of y's type."""
        dtype = self._facts.get(self.y, UNKNOWN).dtype
        if dtype is None:
            raise self._refuse(self.y, "type")
        return self.emit.constant(value, dtype)

    def rank(self, name: str) -> int:
        rank = self._facts.get(name, UNKNOWN).rank
        if rank is None:
            raise self._refuse(name, "rank")
        return rank

    def ints(self, values: list[int]) -> str:
        """A constant of type int64."""
        return self.emit.constant(values, np.int64)

    def _refuse(self, name: str, what: str) -> UnsupportedError:
        what = f"no gradient, since the {what} of value {name!r} is not known"
        return UnsupportedError([Unsupported(self.node.label, self.node.op_type, what)])


Rule = Callable[[Step], str]
"""The gradient of input `step.index`, of this input's shape and type, from that of the output."""


def summed(*rules: Rule | None) -> tuple[Rule | None, ...]:
    """Rules whose results have y's shape, summed over the axes along which the input was broadcast."""
    return tuple(rule and _sum_after(rule) for rule in rules)


def _sum_after(rule: Rule) -> Rule:
    return lambda s: _sum_to(s, rule(s), s.x[s.index])


def _sum_to(s: Step, dx: str, like: str) -> str:
    return s("SumTo", dx, like, domain="tilewise")


def _pass(s: Step) -> str:
    return s.dy


def _negate(s: Step) -> str:
    return s("Neg", s.dy)


def _divisor(s: Step) -> str:
    return s("Neg", s("Div", s("Mul", s.dy, s.y), s.x[1]))


def _base(s: Step) -> str:
    """dy p x^(p - 1), and 0 for p = 0, whatever x is."""
    x, p = s.x
    zero, one = (s("CastLike", s.scalar(value), p) for value in (0.0, 1.0))
    lower = s("Where", s("Equal", p, zero), zero, s("Sub", p, one))
    return s("Mul", s.dy, s("Mul", s("CastLike", p, x), s("Pow", x, lower)))


def _relu(s: Step) -> str:
    zero = s.scalar(0.0)
    return s("Where", s("Greater", s.y, zero), s.dy, zero)


def _sigmoid(s: Step) -> str:
    return s("Mul", s.dy, s("Sub", s.y, s("Mul", s.y, s.y)))


def _tanh(s: Step) -> str:
    return s("Mul", s.dy, s("Sub", s.scalar(1.0), s("Mul", s.y, s.y)))


def _chosen(s: Step) -> str:
    zero = s.scalar(0.0)
    branches = (s.dy, zero) if s.index == 1 else (zero, s.dy)
    return s("Where", s.x[0], *branches)


def _reshape(s: Step, dx: str, like: str) -> str:
    return s("Reshape", dx, s("Shape", like), allowzero=1)


def _restore(s: Step) -> str:
    return _reshape(s, s.dy, s.x[0])


def _expand(s: Step, dy: str) -> str:
    return s("Expand", dy, s("Shape", s.x[0]))


def _transpose(s: Step) -> str:
    perm = s.node.attrs.get("perm")
    if perm is None:
        return s("Transpose", s.dy)
    return s("Transpose", s.dy, perm=[int(axis) for axis in np.argsort(perm)])


def _spread(s: Step, dy: str) -> str:
    """`dy` repeated along the axes that the node reduces."""
    axes = s.x[1] if len(s.x) > 1 else ""
    if s.node.attrs.get("axes"):
        axes = s.ints(s.node.attrs["axes"])
    if axes and not s.node.attrs.get("keepdims", 1):
        dy = s("Unsqueeze", dy, axes)
    return _expand(s, dy)


def _mean(s: Step) -> str:
    terms = s("Div", s("Size", s.x[0]), s("Size", s.y))
    return _spread(s, s("Div", s.dy, s("CastLike", terms, s.dy)))


def _matmul(s: Step) -> str:
    """da = dy b^T, db = a^T dy; a vector is a matrix of one row as a, of one column as b."""
    (a, b), dy = s.x, s.dy
    ranks = [s.rank(a), s.rank(b)]
    if ranks[1] == 1:
        b, dy = s("Unsqueeze", b, s.ints([-1])), s("Unsqueeze", dy, s.ints([-1]))
    if ranks[0] == 1:
        a, dy = s("Unsqueeze", a, s.ints([0])), s("Unsqueeze", dy, s.ints([-2]))
    ranks = [max(rank, 2) for rank in ranks]
    matrix, flat = (a, b)[s.index], max(ranks) == 2
    if s.index == 0:
        dx = s("Gemm", dy, b, transB=1) if flat else s("MatMul", dy, _flip(s, b, ranks[1]))
    else:
        dx = s("Gemm", a, dy, transA=1) if flat else s("MatMul", _flip(s, a, ranks[0]), dy)
    dx = _sum_to(s, dx, matrix)
    return dx if matrix == s.x[s.index] else _reshape(s, dx, s.x[s.index])


def _flip(s: Step, matrices: str, rank: int) -> str:
    return s("Transpose", matrices, perm=[*range(rank - 2), rank - 1, rank - 2])


def _gemm(s: Step) -> str:
    """With y = alpha A' B' + beta C: dA' = alpha dy B'^T, dB' = alpha A'^T dy."""
    attrs = s.node.attrs
    alpha, flip_a, flip_b = attrs.get("alpha", 1.0), attrs.get("transA", 0), attrs.get("transB", 0)
    if s.index == 0:
        if flip_a:
            return s("Gemm", s.x[1], s.dy, alpha=alpha, transA=flip_b, transB=1)
        return s("Gemm", s.dy, s.x[1], alpha=alpha, transB=1 - flip_b)
    if flip_b:
        return s("Gemm", s.dy, s.x[0], alpha=alpha, transA=1, transB=flip_a)
    return s("Gemm", s.x[0], s.dy, alpha=alpha, transA=1 - flip_a)


def _gemm_bias(s: Step) -> str:
    beta, dc = s.node.attrs.get("beta", 1.0), _sum_to(s, s.dy, s.x[2])
    return dc if beta == 1.0 else s("Mul", dc, s.scalar(beta))


RULES: Mapping[tuple[str, str], tuple[Rule | None, ...]] = {
    # arithmetic
    ("", "Identity"): (_pass,),
    ("", "Neg"): (_negate,),
    ("", "Add"): summed(_pass, _pass),
    ("", "Sub"): summed(_pass, _negate),
    ("", "Mul"): summed(lambda s: s("Mul", s.dy, s.x[1]), lambda s: s("Mul", s.dy, s.x[0])),
    ("", "Div"): summed(lambda s: s("Div", s.dy, s.x[1]), _divisor),
    ("", "Pow"): summed(_base),
    ("", "Sum"): summed(_pass),
    # functions
    ("", "Exp"): (lambda s: s("Mul", s.dy, s.y),),
    ("", "Log"): (lambda s: s("Div", s.dy, s.x[0]),),
    ("", "Sqrt"): (lambda s: s("Div", s.dy, s("Add", s.y, s.y)),),
    ("", "Relu"): (_relu,),
    ("", "Sigmoid"): (_sigmoid,),
    ("", "Tanh"): (_tanh,),
    # matrix products
    ("", "MatMul"): (_matmul, _matmul),
    ("", "Gemm"): (_gemm, _gemm, _gemm_bias),
    # reductions
    ("", "ReduceMean"): (_mean,),
    ("", "ReduceSum"): (lambda s: _spread(s, s.dy),),
    # shape
    ("", "Flatten"): (_restore,),
    ("", "Reshape"): (_restore,),
    ("", "Squeeze"): (_restore,),
    ("", "Transpose"): (_transpose,),
    ("", "Unsqueeze"): (_restore,),
    # what these rules are made of, so that gradients have gradients
    ("", "CastLike"): (lambda s: s("CastLike", s.dy, s.x[0]), None),
    ("", "Expand"): summed(_pass),
    ("", "Where"): summed(None, _chosen, _chosen),
    ("tilewise", "SumTo"): (lambda s: _expand(s, s.dy), None),
}
"""A rule for each input, by domain and operator; None where the result does not depend on the input's content.

An input beyond the last rule has none: its gradient is refused.
"""

VARIADIC = frozenset({("", "Sum")})
"""Operators whose first rule is that of every input."""


def depends(node: Node, index: int) -> bool:
    """False where the content of input `index` has no influence on the outputs."""
    rules = RULES.get((node.domain, node.op_type), ())
    return index >= len(rules) or rules[index] is not None


def rule_of(node: Node, index: int) -> Rule | None:
    """The rule for input `index`, None where there is none."""
    key = (node.domain, node.op_type)
    rules = RULES.get(key, ())
    index = 0 if key in VARIADIC else index
    return rules[index] if index < len(rules) else None
