"""What the attention operators share: the sizes of heads, products of grouped heads, softmax in a given precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Dim, Shape, product
from tilewise.ops.base import Array, Op
from tilewise.ops.elementwise import FLOATS, wide
from tilewise.ops.linalg import matmul

PRECISIONS = (1, 10, 11, 16)
"""Values of attribute softmax_precision: float, float16, double, bfloat16."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of an attention; a dim may be a name or None.

    q_len: queries. kv_len: keys, those in the past first. head: length of a query and of a key. v_head: of a value.
    """

    batch: Dim
    q_heads: Dim
    kv_heads: Dim
    q_len: Dim
    kv_len: Dim
    head: Dim
    v_head: Dim

    @property
    def scores(self) -> Shape:
        return (self.batch, self.q_heads, self.q_len, self.kv_len)

    @property
    def result(self) -> Shape:
        return (self.batch, self.q_heads, self.q_len, self.v_head)

    @property
    def packed_result(self) -> Shape:
        """The result with the heads side by side: [batch, q_len, q_heads * v_head]."""
        return (self.batch, self.q_len, product([self.q_heads, self.v_head]))


class HeadsOp(Op):
    """Base of the attention operators: checks of what their inputs must agree on."""

    def float_input(self, ins: Sequence[Fact | None], i: int, name: str, rank: int | None = None) -> Fact:
        """The fact of input `i`; an error unless it is a float tensor, of `rank` where that is given."""
        fact = ins[i] if i < len(ins) else None
        if fact is None:
            raise self.fail(f"input {name} is missing")
        if fact.kind != "tensor" or (fact.dtype is not None and fact.dtype.name not in FLOATS):
            raise self.fail(f"input {name}: expected a tensor of floats, got {fact}")
        if rank is not None and fact.rank not in (None, rank):
            raise self.fail(f"input {name}: expected rank {rank}, got {fact}")
        return fact

    def common_dtype(self, facts: dict[str, Fact | None]) -> np.dtype | None:
        """The dtype that the inputs present share, None while none of them is known."""
        known = {name: f.dtype for name, f in facts.items() if f is not None and f.dtype is not None}
        if len(set(known.values())) > 1:
            shown = ", ".join(f"{name} {dtype.name}" for name, dtype in known.items())
            raise self.fail(f"expected inputs of one type, got {shown}")
        return next(iter(known.values()), None)

    def same(self, what: str, *dims: Dim) -> Dim:
        """The dim that all of `dims` are; an error where two of them differ."""
        sizes = sorted({d for d in dims if isinstance(d, int)})
        if len(sizes) > 1:
            raise self.fail(f"expected one {what}, got {' and '.join(map(str, sizes))}")
        return sizes[0] if sizes else next((d for d in dims if d is not None), None)

    def fit(self, name: str, fact: Fact | None, shape: Shape) -> None:
        """An error where an input is there and is not of this shape."""
        if fact is None or fact.shape is None:
            return
        pairs = zip(fact.shape, shape, strict=False)
        if len(fact.shape) != len(shape) or any(_differ(a, b) for a, b in pairs):
            expected = ", ".join("?" if d is None else str(d) for d in shape)
            raise self.fail(f"input {name}: expected shape [{expected}], got {fact}")

    def check_groups(self, q_heads: Dim, kv_heads: Dim) -> None:
        """An error unless every head of keys serves equally many heads of queries."""
        known = isinstance(q_heads, int) and isinstance(kv_heads, int)
        if known and (kv_heads < 1 or q_heads < 1 or q_heads % kv_heads):  # type: ignore[operator]
            raise self.fail(
                f"expected query heads in a positive multiple of key heads, got {q_heads} and {kv_heads}"
            )

    def split_width(self, name: str, width: Dim, heads: Dim) -> Dim:
        """The length of one of `heads` vectors that lie side by side in `width`."""
        if heads == 1:
            return width
        if not isinstance(width, int) or not isinstance(heads, int):
            return None
        if width % heads:
            raise self.fail(f"input {name}: expected a width that {heads} heads divide, got {width}")
        return width // heads


def _differ(a: Dim, b: Dim) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a != b


def split_heads(x: Array, heads: int) -> Array:
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def join_heads(x: Array) -> Array:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)


def grouped_matmul(a: Array, b: Array) -> Array:
    """a [batch, q_heads, m, k] times b [batch, kv_heads, k, n], in a's dtype.

    Head h of `a` meets head h // (q_heads / kv_heads) of `b`.
    """
    batch, q_heads, m, k = a.shape
    rows = q_heads // b.shape[1] * m
    y = matmul(a.reshape(batch, b.shape[1], rows, k), b)
    return y.reshape(batch, q_heads, m, b.shape[3])


def scaled_scores(q: Array, k: Array, scale: float | None) -> Array:
    """scale * q kᵀ in q's dtype, where both sides are scaled by the root; 1 / sqrt(head size) by default."""
    if scale is None:
        scale = 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    root = math.sqrt(abs(scale))
    left, right = q.dtype.type(math.copysign(root, scale)), k.dtype.type(root)
    return grouped_matmul(q * left, (k * right).transpose(0, 1, 3, 2))


def softmax_rows(x: Array) -> Array:
    """Softmax along the last axis, every step rounded to x's dtype; zeros where all of a row is -inf."""
    if x.shape[-1] == 0:
        return x

    def rounded(y: Array) -> Array:
        return wide(y.astype(x.dtype, copy=False))

    top = wide(x).max(axis=-1, keepdims=True)
    e = rounded(np.exp(rounded(wide(x) - np.where(np.isneginf(top), 0, top))))
    total = rounded(e.sum(axis=-1, keepdims=True))
    return (e / np.where(total == 0, 1, total)).astype(x.dtype)
