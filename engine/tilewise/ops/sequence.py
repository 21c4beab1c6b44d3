"""Sequences and optionals. A sequence is a Python list; an optional is its value, or None when empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewise import dtypes
from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, Shape, union
from tilewise.ops.base import Array, Inputs, Op, values


def sequence_of(elem: Fact | None) -> Fact:
    """The fact of a sequence whose elements `elem` describes."""
    return Fact(kind="sequence", elem=elem.without_value() if elem is not None else None)


def element(fact: Fact | None) -> Fact:
    """What is known of the elements of a sequence or the content of an optional."""
    return fact.elem if fact is not None and fact.elem is not None else UNKNOWN


def all_of(facts: Sequence[Fact | None]) -> Fact:
    """What holds of each of `facts`; a ValueError where element types differ."""
    merged = facts[0]
    for fact in facts[1:]:
        merged = union(merged, fact)
    return merged if merged is not None else UNKNOWN


def _position(position: Array, low: int, high: int) -> int:
    """`position` as an int; a ValueError outside [low, high)."""
    index = int(np.asarray(position).reshape(()))
    if not low <= index < high:
        raise ValueError(f"position {index} is outside [{low}, {high})")
    return index


class SequenceEmpty(Op):
    """An empty sequence of tensors of type `dtype`, float32 by default (ONNX SequenceEmpty, opset 11)."""

    attributes = frozenset({"dtype"})

    def unsupported(self) -> str | None:
        try:
            self._dtype()
        except (KeyError, AttributeError):
            return f"attribute 'dtype' = {self.attr('dtype')!r} is not an element type"
        return None

    def _dtype(self) -> np.dtype:
        return dtypes.from_onnx(self.attr("dtype", 1))

    def infer(self, ins: Inputs) -> list[Fact]:
        return [sequence_of(Fact(self._dtype()))]

    def evaluate(self):
        return [[]]


class SequenceConstruct(Op):
    """The sequence of the inputs, tensors of one element type (ONNX SequenceConstruct, opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        try:
            return [sequence_of(all_of(ins))]
        except ValueError as error:
            raise self.fail(f"{error}") from None

    def evaluate(self, *inputs):
        return [list(inputs)]


class SequenceAt(Op):
    """The element at `position` in [-n, n) (ONNX SequenceAt, opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [element(ins[0])]

    def evaluate(self, sequence, position):
        return [sequence[_position(position, -len(sequence), len(sequence))]]


class SequenceInsert(Op):
    """The sequence with a tensor put before `position` in [-n, n], at the end by default (opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        # The input may be an empty sequence, of which nothing but the element type holds.
        elem, tensor = element(ins[0]), ins[1] or UNKNOWN
        try:
            union(elem, tensor)
        except ValueError as error:
            raise self.fail(f"{error}") from None
        return [sequence_of(Fact(tensor.dtype if elem.dtype is None else elem.dtype))]

    def evaluate(self, sequence, tensor, position=None):
        n = len(sequence)
        index = n if position is None else _position(position, -n, n + 1)
        out = list(sequence)
        out.insert(index, tensor)
        return [out]


class SequenceErase(Op):
    """The sequence without the element at `position` in [-n, n), the last by default (opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [sequence_of(element(ins[0]))]

    def evaluate(self, sequence, position=None):
        n = len(sequence)
        index = _position(np.array(-1) if position is None else position, -n, n)
        out = list(sequence)
        del out[index]
        return [out]


class SequenceLength(Op):
    """The number of elements, a scalar int64 (ONNX SequenceLength, opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(np.dtype(np.int64), ())]

    def evaluate(self, sequence):
        return [np.array(len(sequence), np.int64)]


class SplitToSequence(Op):
    """A tensor cut along `axis` into a sequence (ONNX SplitToSequence, opsets 11 and 24).

    split: a scalar length of the pieces (the last may be shorter), their lengths, or left out for pieces of
    1, which lose the axis where `keepdims` is 0.
    """

    attributes = frozenset({"axis", "keepdims"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        if x is None or x.shape is None:
            return [sequence_of(Fact(x.dtype if x is not None else None))]
        axis = self.axis(self.attr("axis", 0), len(x.shape))
        split = ins[1] if len(ins) > 1 else None
        if split is None:
            piece: tuple[Dim, ...] = (1,) if self.attr("keepdims", 1) else ()
        else:
            piece = (_piece(values(split), split, x.shape[axis]),)
        return [sequence_of(Fact(x.dtype, (*x.shape[:axis], *piece, *x.shape[axis + 1 :])))]

    def evaluate(self, x, split=None):
        axis = self.axis(self.attr("axis", 0), x.ndim)
        n = x.shape[axis]
        if split is None:
            pieces = np.split(x, n, axis) if n else []
            return [pieces if self.attr("keepdims", 1) else [np.squeeze(p, axis) for p in pieces]]
        if split.ndim == 0:
            if split < 1:
                raise ValueError(f"split {split} must be positive")
            return [np.split(x, range(int(split), n, int(split)), axis) if n else []]
        if split.ndim != 1 or (split < 0).any() or split.sum() != n:
            raise ValueError(f"split {split.tolist()} does not add up to {n}, the size of axis {axis}")
        return [np.split(x, np.cumsum(split)[:-1], axis) if split.size else []]


def _piece(lengths: list[int] | None, split: Fact, size: Dim) -> Dim:
    """The length that all pieces share, where it is known."""
    if not lengths or not isinstance(size, int):
        return None
    if split.rank == 0:
        return lengths[0] if lengths[0] > 0 and size % lengths[0] == 0 else None
    return lengths[0] if len(set(lengths)) == 1 else None


class ConcatFromSequence(Op):
    """The elements concatenated along `axis`, or stacked on a new one (ONNX ConcatFromSequence, opset 11)."""

    attributes = frozenset({"axis", "new_axis"})

    def unsupported(self) -> str | None:
        new_axis = self.attr("new_axis", 0)
        return None if new_axis in (0, 1) else f"attribute 'new_axis' = {new_axis!r}, expected 0 or 1"

    def infer(self, ins: Inputs) -> list[Fact]:
        elem = element(ins[0])
        if elem.shape is None:
            return [Fact(elem.dtype)]
        stack = self.attr("new_axis", 0)
        axis = self.axis(self.attr("axis"), len(elem.shape) + stack)
        shape: Shape = (*elem.shape[:axis], None, *elem.shape[axis + (1 - stack) :])
        return [Fact(elem.dtype, shape)]

    def evaluate(self, sequence):
        if self.attr("new_axis", 0):
            return [np.stack(sequence, self.attr("axis"))]
        return [np.concatenate(sequence, self.attr("axis"))]


class Optional(Op):
    """An optional holding the input, or an empty one of the attribute `type` (ONNX Optional, opset 15)."""

    attributes = frozenset({"type"})

    def infer(self, ins: Inputs) -> list[Fact]:
        content = ins[0].without_value() if ins and ins[0] is not None else self.attr("type")
        return [Fact(kind="optional", elem=content)]

    def evaluate(self, x=None):
        return [x]


class OptionalHasElement(Op):
    """True where the optional is not empty, as a plain value never is (OptionalHasElement, opsets 15, 18)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(np.dtype(np.bool_), ())]

    def evaluate(self, x=None):
        return [np.array(x is not None)]


class OptionalGetElement(Op):
    """The content of an optional, or a plain value as it is (ONNX OptionalGetElement, opsets 15, 18)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        if x is None:
            raise self.fail("an empty optional has no element")
        return [element(x) if x.kind == "optional" else x]

    def evaluate(self, x):
        if x is None:
            raise ValueError("an empty optional has no element")
        return [x]
