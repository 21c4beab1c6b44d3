"""Operators that pick elements by index or condition."""

from __future__ import annotations

import math

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.lowering import Lowering, chunks
from tilewise.ops.strided import TASK_BYTES

INT64 = np.dtype(np.int64)


class Picking(Op):
    """Base of operators that pick blocks of input 0 by input 1.

    With constant indices they are one kernel and a table of offsets. Others are checked at run time, on the host.
    """

    def span(self, shapes: list[tuple[int, ...]]) -> tuple[int, int]:
        """Axes [first, last) of input 0 that indices walk over; those before `first` are all taken, in order."""
        raise NotImplementedError(type(self).__name__)

    def pick(self, x: Array, indices: Array) -> Array:
        """The output for an `x` that has the axes in `span` only; an IndexError for an index out of range."""
        raise NotImplementedError(type(self).__name__)

    def lower(self, b: Lowering) -> bool:
        x, indices = b.ins[0], b.value(1)
        if indices is None or x is None or x.dtype is None:
            return False
        shapes = [tuple(int(d) for d in f.shape) for f in b.ins if f is not None and f.shape is not None]  # type: ignore[arg-type]
        first, last = self.span(shapes)
        size = x.dtype.itemsize * math.prod(shapes[0][last:])
        walked = shapes[0][first:last]
        offsets = size * np.arange(math.prod(walked), dtype=np.int64).reshape(walked)
        try:
            table = self.pick(offsets, indices)
        except IndexError:  # a run raises
            return False
        total = table.size * math.prod(shapes[0][:first])
        grain = max(1, TASK_BYTES // size)
        outer = size * offsets.size
        refs = (b.output(), b.input(0), b.const(table))
        b.step("gather_blocks", chunks(total, grain), *refs, table.size, size, outer, grain, total)
        return True


class Gather(Picking):
    """Slices of `axis` by indices in [-n, n) of any shape (ONNX Gather, opset 1; negative ones from 11)."""

    attributes = frozenset({"axis"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, indices = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        if x.shape is None:
            return [Fact(x.dtype)]
        axis = self.axis(self.attr("axis", 0), len(x.shape))
        if indices.shape is None:
            return [Fact(x.dtype)]
        return [Fact(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))]

    def evaluate(self, x, indices):
        return [np.take(x, indices, self.axis(self.attr("axis", 0), x.ndim))]

    def span(self, shapes):
        axis = self.axis(self.attr("axis", 0), len(shapes[0]))
        return axis, axis + 1

    def pick(self, x, indices):
        return np.take(x, indices)


def element_index(op: Op, shape: Shape, indices: Array) -> tuple[Array, ...]:
    """Where each entry of `indices` points: at its own position, but on `axis` where the entry says.

    shape: that of the array, of the same rank as `indices`. An index out of [-n, n) is an IndexError in use.
    """
    rank = len(shape)
    axis = op.axis(op.attr("axis", 0), rank)
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return tuple(grid)


def check_elements(op: Op, x: Fact, indices: Fact) -> None:
    """Indices by element have the rank of the data and stay inside it on all axes but one."""
    if x.shape is None or indices.shape is None:
        return
    axis = op.axis(op.attr("axis", 0), len(x.shape))
    if len(indices.shape) != len(x.shape):
        raise op.fail(f"expected indices of rank {len(x.shape)} for shape {x.shape}, got {indices.shape}")
    for i, (n, limit) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if i != axis and isinstance(n, int) and isinstance(limit, int) and n > limit:
            raise op.fail(f"expected indices inside {x.shape} but for axis {axis}, got shape {indices.shape}")


class GatherElements(Picking):
    """Each element from its own position, but on `axis` as its index says (ONNX GatherElements, opset 11)."""

    attributes = frozenset({"axis"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, indices = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        check_elements(self, x, indices)
        return [Fact(x.dtype, indices.shape)]

    def evaluate(self, x, indices):
        self.infer([Fact.of(x), Fact.of(indices)])
        return [self.pick(x, indices)]

    def span(self, shapes):
        return 0, len(shapes[0])

    def pick(self, x, indices):
        return x[element_index(self, x.shape, indices)]


def nd_depth(op: Op, x: Fact, indices: Fact, batch: int = 0) -> int | None:
    """Axes that each tuple of `indices` addresses after `batch` common ones; None where it is not known."""
    if indices.shape is not None and not indices.shape:
        raise op.fail("expected indices of rank 1 or more, got a scalar")
    depth = None if indices.shape is None else indices.shape[-1]
    if not isinstance(depth, int) or x.shape is None:
        return None
    if not 1 <= depth <= len(x.shape) - batch:
        raise op.fail(f"expected tuples of 1 to {len(x.shape) - batch} indices for {x.shape}, got {depth}")
    return depth


class GatherND(Picking):
    """Slices at the tuples in the last axis of the indices (ONNX GatherND, opset 11; batch_dims from 12)."""

    attributes = frozenset({"batch_dims"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, indices = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        batch = self.attr("batch_dims", 0)
        for fact in (x, indices):
            if fact.shape is not None and not 0 <= batch < max(len(fact.shape), 1):
                raise self.fail(
                    f"batch_dims {batch} is outside [0, {len(fact.shape)}) for shape {fact.shape}"
                )
        depth = nd_depth(self, x, indices, batch)
        if depth is None or x.shape is None or indices.shape is None:
            return [Fact(x.dtype)]
        for n, m in zip(x.shape[:batch], indices.shape[:batch], strict=True):
            if isinstance(n, int) and isinstance(m, int) and n != m:
                raise self.fail(f"expected the same first {batch} dims, got {x.shape} and {indices.shape}")
        return [Fact(x.dtype, (*indices.shape[:-1], *x.shape[batch + depth :]))]

    def evaluate(self, x, indices):
        self.infer([Fact.of(x), Fact.of(indices)])
        return [self.pick(x, indices)]

    def span(self, shapes):
        return 0, self.attr("batch_dims", 0) + shapes[1][-1]

    def pick(self, x, indices):
        return x[self._address(indices)]

    def _address(self, indices: Array) -> tuple:
        batch = self.attr("batch_dims", 0)
        own = np.ogrid[tuple(slice(n) for n in indices.shape[:batch])] if batch else ()
        pad = (1,) * (indices.ndim - 1 - batch)
        index = [axis.reshape(axis.shape + pad) for axis in own]
        return (*index, *np.moveaxis(indices, -1, 0))


class ReverseSequence(Picking):
    """The first entries of each sequence of a batch reversed (ONNX ReverseSequence, opset 10)."""

    attributes = frozenset({"batch_axis", "time_axis"})

    def _axes(self) -> tuple[int, int]:
        batch, time = self.attr("batch_axis", 1), self.attr("time_axis", 0)
        if {batch, time} != {0, 1}:
            raise self.fail(f"expected batch_axis and time_axis to be 0 and 1, got {batch} and {time}")
        return batch, time

    def infer(self, ins: Inputs) -> list[Fact]:
        x, lengths = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        batch, _ = self._axes()
        if x.shape is not None and len(x.shape) < 2:
            raise self.fail(f"expected an input of rank 2 or more, got {x.shape}")
        if x.shape is not None and lengths.shape is not None:
            n, m = x.shape[batch], lengths.shape[0] if len(lengths.shape) == 1 else -1
            if isinstance(n, int) and isinstance(m, int) and n != m:
                raise self.fail(f"expected sequence_lens of shape ({n},), got {lengths.shape}")
        return [x.without_value()]

    def evaluate(self, x, lengths):
        self.infer([Fact.of(x), Fact.of(lengths)])
        return [self.pick(x, lengths)]

    def span(self, shapes):
        return 0, 2

    def pick(self, x, indices):
        batch, time = self._axes()
        steps = np.arange(x.shape[time])
        if indices.size and not 0 <= indices.min() <= indices.max() <= steps.size:
            raise IndexError(f"expected sequence_lens in [0, {steps.size}], got {indices.tolist()}")
        source = np.where(steps < indices[:, None], indices[:, None] - 1 - steps, steps)
        rows = np.arange(x.shape[batch])[:, None]
        return x[source.T, rows.T] if time == 0 else x[rows, source]


class Compress(Op):
    """Slices of `axis`, or elements of the flat input, for which the condition holds (ONNX Compress, opset 9)."""

    attributes = frozenset({"axis"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, axis = ins[0] or UNKNOWN, self.attr("axis")
        if axis is None:
            return [Fact(x.dtype, (None,))]
        if x.shape is None:
            return [Fact(x.dtype)]
        axis = self.axis(axis, len(x.shape))
        return [Fact(x.dtype, (*x.shape[:axis], None, *x.shape[axis + 1 :]))]

    def evaluate(self, x, condition):
        axis = self.attr("axis")
        if condition.ndim != 1:
            raise self.fail(f"expected a condition of rank 1, got shape {condition.shape}")
        return [np.take(x, np.flatnonzero(condition), None if axis is None else self.axis(axis, x.ndim))]


class NonZero(Op):
    """The indices of elements other than zero, one row an axis (ONNX NonZero, opset 9)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(INT64, (None if ins[0] is None else ins[0].rank, None))]

    def evaluate(self, x):
        if x.ndim == 0:
            return [np.zeros((0, int(bool(x))), INT64)]
        return [np.array(np.nonzero(x), INT64)]


class OneHot(Op):
    """`values[1]` where the new axis of `depth` equals the index, else `values[0]` (ONNX OneHot, opset 9)."""

    attributes = frozenset({"axis"})

    def infer(self, ins: Inputs) -> list[Fact]:
        indices, off_on = ins[0] or UNKNOWN, ins[2] or UNKNOWN
        if off_on.known_shape and off_on.shape != (2,):
            raise self.fail(f"expected values of shape (2,), got {off_on.shape}")
        if indices.shape is None:
            return [Fact(off_on.dtype)]
        depth = values(ins[1])
        if depth is not None and (len(depth) != 1 or depth[0] < 0):
            raise self.fail(f"expected a depth >= 0, got {depth}")
        axis = self.axis(self.attr("axis", -1), len(indices.shape) + 1)
        out = (*indices.shape[:axis], None if depth is None else depth[0], *indices.shape[axis:])
        return [Fact(off_on.dtype, out)]

    def evaluate(self, indices, depth, off_on):
        (shape,) = (f.shape for f in self.infer([Fact.of(a) for a in (indices, depth, off_on)]))
        axis = self.axis(self.attr("axis", -1), len(shape))
        positions = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        wanted = np.expand_dims(indices.astype(INT64), axis)
        off, on = off_on[:1].reshape(()), off_on[1:].reshape(())
        hot = (wanted == positions) | (wanted + shape[axis] == positions)
        return [np.where(hot, on, off).astype(off_on.dtype, copy=False)]


class Unique(Op):
    """Unique elements or slices of `axis`, their first places, the way back and counts (ONNX Unique, opset 11).

    They are in ascending order, or with `sorted` 0 in that of their first places.
    """

    attributes = frozenset({"axis", "sorted"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, axis = ins[0] or UNKNOWN, self.attr("axis")
        shape: Shape | None = (None,)
        if axis is not None:
            shape = x.shape
        if shape is not None and axis is not None:
            axis = self.axis(axis, len(shape))
            shape = (*shape[:axis], None, *shape[axis + 1 :])
        return [Fact(x.dtype, shape), *[Fact(INT64, (None,))] * 3][: len(self.node.outputs)]

    def evaluate(self, x):
        axis = self.attr("axis")
        if axis is None:
            x, axis = x.reshape(-1), 0
        axis = self.axis(axis, x.ndim)
        first, inverse, counts = _unique_slices(np.moveaxis(x, axis, 0))
        if not self.attr("sorted", 1):
            order = np.argsort(first)
            place = np.argsort(order)
            first, inverse, counts = first[order], place[inverse], counts[order]
        results = (np.take(x, first, axis), *(a.astype(INT64).reshape(-1) for a in (first, inverse, counts)))
        return list(results[: len(self.node.outputs)])


def _unique_slices(x: Array) -> tuple[Array, Array, Array]:
    """First places, inverse and counts of the distinct slices of axis 0, in lexicographic order."""
    axis = None
    if x.ndim > 1:
        codes = np.unique(x, return_inverse=True)[1]  # numbers in the order of the elements
        x, axis = codes.reshape(x.shape[0], math.prod(x.shape[1:])), 0
    return np.unique(x, return_index=True, return_inverse=True, return_counts=True, axis=axis)[1:]
