"""Operators on shapes: new shapes for the same elements, and shapes as values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tilewise.graph import UNKNOWN, Fact, facts
from tilewise.graph.facts import Dim, known, product
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.parameters import ints, is_given, length
from tilewise.ops.view import View


class Reshaping(View):
    """Base of operators that give the same elements another shape."""

    def views(self, x: Array, ins: Inputs, shapes: Sequence[facts.Shape | None]) -> list[Array]:
        return [x.reshape(shapes[0])]

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        return [Fact(x.dtype, self.shape(x, ins))]

    def shape(self, x: Fact, ins: Inputs) -> facts.Shape | None:
        """The shape of the output."""
        raise NotImplementedError(type(self).__name__)


class Reshape(Reshaping):
    """The shape in input 1; -1 is what is left, 0 the input's dim unless `allowzero` (ONNX Reshape, opset 5)."""

    attributes = frozenset({"allowzero"})

    def shape(self, x: Fact, ins: Inputs) -> facts.Shape | None:
        target = values(ins[1])
        if target is None:
            rank = length(ins, 1)
            return None if rank is None else (None,) * rank
        return self._resolve(x.shape, target)

    def _resolve(self, shape: facts.Shape | None, target: list[int]) -> facts.Shape:
        keep_zero = bool(self.attr("allowzero", 0))
        if min(target, default=0) < -1 or target.count(-1) > 1 or (keep_zero and {0, -1} <= set(target)):
            raise self.fail(f"expected a shape of dims >= 0 and at most one -1, got {target}")
        copied = [i for i, d in enumerate(target) if d == 0 and not keep_zero]
        if shape is not None and copied and copied[-1] >= len(shape):
            raise self.fail(f"shape {target} copies dim {copied[-1]} of an input of rank {len(shape)}")
        out: list[Dim] = list(target)
        for i in copied:
            out[i] = None if shape is None else shape[i]
        written = math.prod(d for i, d in enumerate(target) if d != -1 and i not in copied)
        left = None if shape is None else [d for i, d in enumerate(shape) if i not in copied]
        if -1 in target:
            out[target.index(-1)] = None if left is None else self._rest(left, written, target, shape)
        elif left is not None and known(left) and product(left) != written:
            raise self.fail(f"expected a shape of {product(shape or ())} elements for {shape}, got {target}")
        return tuple(out)

    def _rest(self, left: list[Dim], written: int, target: list[int], shape: facts.Shape | None) -> Dim:
        """The dim that -1 stands for: dims that are not copied, divided by those written out."""
        size = math.prod(d for d in left if isinstance(d, int))
        free = [d for d in left if not isinstance(d, int)]
        if free:
            return free[0] if len(free) == 1 and size == written else None
        if written == 0 or size % written:
            raise self.fail(f"expected a shape that divides {shape}, got {target}")
        return size // written


class Flatten(Reshaping):
    """A matrix: dims before `axis` by those from it on (ONNX Flatten, opset 1; negative axes from 11)."""

    attributes = frozenset({"axis"})

    def shape(self, x: Fact, ins: Inputs) -> facts.Shape | None:
        if x.shape is None:
            return (None, None)
        axis, rank = self.attr("axis", 1), len(x.shape)
        if not -rank <= axis <= rank:
            raise self.fail(f"axis {axis} is outside [-{rank}, {rank}] for shape {x.shape}")
        axis += rank if axis < 0 else 0
        return (product(x.shape[:axis]), product(x.shape[axis:]))


class Squeeze(Reshaping):
    """Without the axes of one element, or without `axes` of them (ONNX Squeeze; axes an attribute before opset 13)."""

    attributes = frozenset({"axes"})

    def shape(self, x: Fact, ins: Inputs) -> facts.Shape | None:
        axes = ints(self, ins, 1, "axes")
        if x.shape is None:
            return None
        if axes is None and is_given(self, ins, 1, "axes"):
            count = length(ins, 1)
            return None if count is None else (None,) * (len(x.shape) - count)
        if axes is None:
            return tuple(d for d in x.shape if d != 1) if known(x.shape) else None
        dropped = self.axes(axes, len(x.shape))
        for axis in dropped:
            if isinstance(x.shape[axis], int) and x.shape[axis] != 1:
                raise self.fail(f"expected axis {axis} of {x.shape} to have one element")
        return tuple(d for i, d in enumerate(x.shape) if i not in dropped)


class Unsqueeze(Reshaping):
    """With axes of one element added at `axes` of the output (ONNX Unsqueeze; an attribute before opset 13)."""

    attributes = frozenset({"axes"})

    def shape(self, x: Fact, ins: Inputs) -> facts.Shape | None:
        if x.shape is None:
            return None
        axes = ints(self, ins, 1, "axes")
        if axes is None:
            count = length(ins, 1)
            return None if count is None else (None,) * (len(x.shape) + count)
        out: list[Dim] = list(x.shape)
        for axis in sorted(self.axes(axes, len(x.shape) + len(axes))):
            out.insert(axis, 1)
        return tuple(out)


class Shape(Op):
    """The dims of the input in [start, end) as int64 (ONNX Shape, opset 1; start and end from 15)."""

    attributes = frozenset({"start", "end"})

    def infer(self, ins: Inputs) -> list[Fact]:
        shape = None if ins[0] is None else ins[0].shape
        if shape is None:
            return [Fact(np.dtype(np.int64), (None,))]
        dims = self._clip(shape)
        content = np.array(dims, np.int64) if known(dims) else None
        return [Fact(np.dtype(np.int64), (len(dims),), content)]

    def evaluate(self, x):
        return [np.array(self._clip(x.shape), np.int64)]

    def _clip(self, shape: facts.Shape) -> facts.Shape:
        end = self.attr("end")
        return shape[slice(self.attr("start", 0), len(shape) if end is None else end)]


class Size(Op):
    """The number of elements as an int64 scalar (ONNX Size, opset 1)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        content = np.array(x.size, np.int64) if x.known_shape else None
        return [Fact(np.dtype(np.int64), (), content)]

    def evaluate(self, x):
        return [np.array(x.size, np.int64)]
