"""Reductions over axes, and the position of the greatest or least element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Inputs, Op, values
from tilewise.ops.columns import Blocks, collapse, fold_blocks
from tilewise.ops.lowering import Lowering

# How a kernel takes an element, and what it does at the end (columns.h and reduce.pyx).
SUM, MAX, MIN, PROD, ABS, SQUARE = range(6)
NOTHING, DIVIDE, ROOT, LOGARITHM = range(4)


def wide(x: np.ndarray, *, integers: bool = False) -> np.ndarray:
    """The array as NumPy should compute with it: small floats in float32, integers in float64 if asked."""
    if x.dtype.kind in "iub":
        return x.astype(np.float64) if integers else x
    return x if x.dtype.itemsize >= 4 else x.astype(np.float32)


def accumulator(dtype: np.dtype) -> np.dtype:
    """The dtype to sum in: float64 for floats, the same for integers, which wrap around."""
    return dtype if dtype.kind in "iub" else np.dtype(np.float64)


def reduced_shape(shape: Shape, axes: Sequence[int], keepdims: bool) -> Shape:
    """The shape after reducing `axes`, counted from the front."""
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


class Reduce(Op):
    """Base of the Reduce operators: y = finish(fold(take(x))) over `axes`, in x's dtype.

    ONNX opsets 1 to 28. Axes come as an attribute, from opset `axes_input_since` on as input 1; none means all
    of them, or with noop_with_empty_axes no fold at all.
    """

    attributes = frozenset({"axes", "keepdims", "noop_with_empty_axes"})
    empty_constants = True
    axes_input_since: ClassVar[int] = 18
    take: ClassVar[int] = SUM
    fold: ClassVar[int] = SUM
    finish: ClassVar[int] = NOTHING

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        if x.shape is None:
            return [Fact(x.dtype)]
        keepdims = bool(self.attr("keepdims", 1))
        given = ins[1] if self._axes_are_input() and len(ins) > 1 else None
        if given is not None and given.value is None:
            return [Fact(x.dtype, self._open_shape(x.shape, given, keepdims))]
        return [Fact(x.dtype, reduced_shape(x.shape, self._axes(values(given), len(x.shape)), keepdims))]

    def evaluate(self, x, axes=None):
        given = None if axes is None else [int(a) for a in np.ravel(axes)]
        y = self.compute(x, self._axes(given, x.ndim), bool(self.attr("keepdims", 1)))
        return [np.asarray(y).astype(x.dtype, copy=False)]

    def compute(self, x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
        """The reduction in NumPy, in any dtype."""
        raise NotImplementedError

    def lower(self, b: Lowering) -> bool:
        if b.ins[0].dtype != "float32":
            return False
        given = None
        if self._axes_are_input() and len(b.ins) > 1 and b.ins[1] is not None:
            given = values(b.ins[1])
            if given is None:
                return False
        shape = b.ins[0].shape
        axes = self._axes(given, len(shape))
        count = math.prod(shape[a] for a in axes)
        if count == 1 and self.take in (SUM, MAX, MIN, PROD) and self.finish in (NOTHING, DIVIDE):
            b.alias(0, 0)
            return True
        stages = list(_stages(shape, axes))
        x = b.input(0)
        for i, blocks in enumerate(stages):
            last = i == len(stages) - 1
            y = b.output(0) if last else b.temp(4 * blocks.outer * blocks.parts * blocks.inner)
            take, finish = self.take if i == 0 else self.fold, self.finish if last else NOTHING
            self.emit(b, blocks, y, x, take, finish, count)
            x = y
        return True

    def emit(self, b: Lowering, blocks: Blocks, y, x, take: int, finish: int, count: int) -> None:
        """One kernel step; `count` is how many elements are reduced to one in all."""
        b.step("reduce", blocks.tasks, y, x, *blocks.args, blocks.part, take, finish, float(count))

    def _axes_are_input(self) -> bool:
        return self.version >= self.axes_input_since

    def _axes(self, given: list[int] | None, rank: int) -> tuple[int, ...]:
        """The axes to reduce, counted from the front; `given` is what input 1 holds."""
        if not self._axes_are_input():
            given = self.attr("axes")
        if given:
            return self.axes(given, rank)
        if self._axes_are_input() and self.attr("noop_with_empty_axes", 0):
            return ()
        return tuple(range(rank))

    def _open_shape(self, shape: Shape, axes: Fact, keepdims: bool) -> Shape | None:
        """The shape while the axes are not known."""
        if keepdims:
            return (None,) * len(shape)
        count = axes.shape[0] if axes.shape is not None and len(axes.shape) == 1 else None
        if not isinstance(count, int) or count == 0 or count > len(shape):
            return None
        return (None,) * (len(shape) - count)


def _stages(shape: Sequence[int], axes: Sequence[int]):
    """Reductions along one axis each, one after the other; a long one in parts that a second one combines."""
    for outer, rows, inner in collapse(shape, axes):
        blocks = fold_blocks(outer, rows, inner)
        yield blocks
        if blocks.parts > 1:
            yield fold_blocks(outer, blocks.parts, inner, split=False)


class ReduceSum(Reduce):
    """Sums; of nothing 0 (ONNX ReduceSum)."""

    axes_input_since = 13

    def compute(self, x, axes, keepdims):
        return np.sum(x, axis=axes, keepdims=keepdims, dtype=accumulator(x.dtype))


class ReduceMean(Reduce):
    """Means, of integers rounded towards zero; of nothing NaN or 0 (ONNX ReduceMean)."""

    finish = DIVIDE

    def compute(self, x, axes, keepdims):
        count = math.prod(x.shape[a] for a in axes)
        dtype = {"i": np.int64, "u": np.uint64}.get(x.dtype.kind, np.float64)
        total = np.sum(x, axis=axes, keepdims=keepdims, dtype=dtype)
        if dtype is np.float64:
            return np.divide(total, count)
        return np.sign(total) * (np.abs(total) // max(count, 1))


class ReduceMax(Reduce):
    """Maxima, NaN where one is met; of nothing -inf or the least value of the dtype (ONNX ReduceMax)."""

    take = fold = MAX

    def compute(self, x, axes, keepdims):
        x = wide(x)
        initial = _extreme(x.dtype, -1) if x.size == 0 else None
        return np.maximum.reduce(x, axis=axes, keepdims=keepdims, initial=initial)


class ReduceMin(Reduce):
    """Minima, NaN where one is met; of nothing inf or the greatest value of the dtype (ONNX ReduceMin)."""

    take = fold = MIN

    def compute(self, x, axes, keepdims):
        x = wide(x)
        initial = _extreme(x.dtype, 1) if x.size == 0 else None
        return np.minimum.reduce(x, axis=axes, keepdims=keepdims, initial=initial)


class ReduceProd(Reduce):
    """Products; of nothing 1 (ONNX ReduceProd)."""

    take = fold = PROD

    def compute(self, x, axes, keepdims):
        return np.prod(x, axis=axes, keepdims=keepdims, dtype=accumulator(x.dtype))


class ReduceL1(Reduce):
    """Sums of absolute values (ONNX ReduceL1)."""

    take = ABS

    def compute(self, x, axes, keepdims):
        return np.sum(np.abs(x), axis=axes, keepdims=keepdims, dtype=accumulator(x.dtype))


class ReduceL2(Reduce):
    """Roots of sums of squares (ONNX ReduceL2)."""

    take, finish = SQUARE, ROOT

    def compute(self, x, axes, keepdims):
        square = np.square(wide(x, integers=True))
        return np.sqrt(np.sum(square, axis=axes, keepdims=keepdims, dtype=np.float64))


class ReduceSumSquare(Reduce):
    """Sums of squares (ONNX ReduceSumSquare)."""

    take = SQUARE

    def compute(self, x, axes, keepdims):
        return np.sum(np.square(wide(x)), axis=axes, keepdims=keepdims, dtype=accumulator(x.dtype))


class ReduceLogSum(Reduce):
    """Logarithms of sums; of nothing -inf (ONNX ReduceLogSum)."""

    finish = LOGARITHM

    def compute(self, x, axes, keepdims):
        return np.log(np.sum(x, axis=axes, keepdims=keepdims, dtype=np.float64))


class ReduceLogSumExp(Reduce):
    """log(sum(exp(x))) without overflow; of nothing -inf (ONNX ReduceLogSumExp)."""

    def compute(self, x, axes, keepdims):
        x = x.astype(np.float64)
        top = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0)
        y = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
        return y if keepdims else np.squeeze(y, axes)

    def emit(self, b, blocks, y, x, take, finish, count):
        """Parts are combined as they are made: the logarithm of a sum of exponentials is associative."""
        b.step("reduce_log_sum_exp", blocks.tasks, y, x, *blocks.args, blocks.part)


def _extreme(dtype: np.dtype, sign: int):
    """The greatest (sign 1) or least (sign -1) value of a dtype."""
    if dtype.kind == "b":
        return sign > 0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return info.max if sign > 0 else info.min
    return sign * math.inf


class ArgMax(Op):
    """The index along `axis` of the maximum, int64; a NaN counts as one (ONNX ArgMax, to opset 13)."""

    attributes = frozenset({"axis", "keepdims", "select_last_index"})
    sign: ClassVar[int] = 1

    def infer(self, ins: Inputs) -> list[Fact]:
        shape = ins[0].shape
        if shape is None:
            return [Fact(np.dtype(np.int64))]
        axis = self._axis(len(shape))
        if shape[axis] == 0:
            raise self.fail(f"expected at least one element along axis {axis}, got shape {list(shape)}")
        return [Fact(np.dtype(np.int64), reduced_shape(shape, (axis,), bool(self.attr("keepdims", 1))))]

    def evaluate(self, x):
        axis = self._axis(x.ndim)
        x = wide(x)
        last = self.attr("select_last_index", 0)
        find = np.argmax if self.sign > 0 else np.argmin
        index = find(np.flip(x, axis) if last else x, axis=axis, keepdims=bool(self.attr("keepdims", 1)))
        return [np.asarray(x.shape[axis] - 1 - index if last else index, np.int64)]

    def lower(self, b: Lowering) -> bool:
        if b.ins[0].dtype != "float32":
            return False
        shape = b.ins[0].shape
        ((outer, rows, inner),) = collapse(shape, (self._axis(len(shape)),))
        blocks = fold_blocks(outer, rows, inner, split=False)
        choice = (self.sign, self.attr("select_last_index", 0))
        b.step("arg_max", blocks.tasks, b.output(0), b.input(0), *blocks.args, blocks.part, *choice)
        return True

    def _axis(self, rank: int) -> int:
        return self.axis(self.attr("axis", 0), rank)


class ArgMin(ArgMax):
    """The index along `axis` of the minimum, int64; a NaN counts as one (ONNX ArgMin, to opset 13)."""

    sign = -1
