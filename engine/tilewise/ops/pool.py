"""Pooling over sliding windows, and over whole planes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as cartesian
from typing import ClassVar

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.blocked.steps import planes_blocked, pool_blocked
from tilewise.ops.lowering import Lowering, chunks
from tilewise.ops.windows import Windows, extent, read_windows

MAX, AVERAGE, L1, L2, LP = range(5)
"""What the kernels of `pool.pyx` call `op`."""

ROW = 4096
RUN = 16
"""Floats that the kernels hold at once, and work on together: TW_POOL_ROW and TW_POOL_RUN of `pool.h`."""

FEW_ROWS, FEW_COLUMNS, FEW_COLUMNS_1 = 16, 8, 48
"""For kernel `pool_few`: rows of a window at most (TW_FEW_ROWS of `pool_few.h`), and columns of the output at least;
the same of small planes at stride 1."""

GRAIN = 32768
"""Floats that a task reads, about."""

AVERAGED = frozenset({"float16", "bfloat16", "float32", "float64"})
MAXIMISED = AVERAGED | {"int8", "uint8"}

WINDOW_ATTRIBUTES = frozenset({"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"})


class WindowPool(Op):
    """Base of the poolings of x (N, C, *S) over windows to y (N, C, *oS).

    dtypes: names of the element types that the operator takes.
    """

    attributes = WINDOW_ATTRIBUTES
    dtypes: ClassVar[frozenset[str]] = AVERAGED

    def infer(self, ins: Inputs) -> list[Fact]:
        x = expect(self, ins[0], self.dtypes, 3)
        if x.shape is None:
            return [Fact(x.dtype)]
        return [Fact(x.dtype, x.shape[:2] + self.windows(x.shape).out)]

    def windows(self, shape: Shape) -> Windows:
        """The windows over an input of `shape`."""
        kernel = self.attr("kernel_shape")
        if not kernel:
            raise self.fail(f"expected the attribute kernel_shape, got {kernel}")
        return read_windows(self, shape[2:], kernel, bool(self.attr("ceil_mode", 0)))

    def lower_as(self, b: Lowering, op: int, p: float = 0.0, counts: list[Array] | None = None) -> bool:
        """Emit the kernel for `op`; p: of a norm; counts: of an average, taps along each axis."""
        shape = b.ins[0].shape
        n = len(shape) - 2
        windows = self.windows(shape)
        if b.ins[0].dtype != "float32" or n > 3 or extent(windows.kernel[-1], windows.dilations[-1]) > ROW:
            return False
        if covers(windows):
            return lower_planes(b, op, p)
        if op in (MAX, AVERAGE) and pool_blocked(b, windows, op == MAX, counts):
            return True
        table: object = 0
        if counts is not None:
            tables = [np.ones(1)] * (3 - n) + counts + [np.ones(RUN)]
            table = b.const(np.concatenate(tables).astype(np.float32))
        kernel, units, cost = choose(shape, windows)
        if op in (MAX, AVERAGE) and is_few(windows, kernel == "pool_planes") and b.has("pool_few"):
            kernel, units = "pool_few", int(np.prod([*shape[:2], *windows.out[:-1]]))
            cost = int(np.prod(windows.kernel[:-1])) * windows.sizes[-1]
        grain = max(1, GRAIN // cost)
        args = (b.output(), b.input(0), shape[0] * shape[1], units, grain, op, p, table, *geometry(windows))
        b.step(kernel, chunks(units, grain), *args)
        return True


class MaxPool(WindowPool):
    """y = maximum over a window, and its index in x (ONNX MaxPool, opset 1, 8, 10, 11, 12, 22).

    x of floats, int8 or uint8; indices int64, of the first maximum, in x as one row of elements: in the order
    of storage, or with `storage_order` 1 with the first spatial axis innermost. NaN is greater than all else.
    """

    attributes = WINDOW_ATTRIBUTES | {"storage_order"}
    dtypes = MAXIMISED

    def infer(self, ins: Inputs) -> list[Fact]:
        y = super().infer(ins)
        return [*y, Fact(np.dtype(np.int64), y[0].shape)]

    def evaluate(self, x):
        windows = self.windows(x.shape)
        if len(self.node.outputs) > 1:
            return argmax(x, windows, self._index_strides(x.shape))
        return [slide(x, windows, np.maximum, lowest(x.dtype))]

    def _index_strides(self, shape: Shape) -> list[int]:
        """What one step along each spatial axis of x adds to an index."""
        sizes = list(shape[2:])
        if self.attr("storage_order", 0) == 0:
            return [int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))]
        return [int(np.prod(sizes[:i])) for i in range(len(sizes))]

    def lower(self, b: Lowering) -> bool:
        if not b.wants(1):
            return self.lower_as(b, MAX)
        shape = b.ins[0].shape
        windows = self.windows(shape)
        if b.ins[0].dtype != "float32" or len(shape) > 5 or not b.wants(0) or np.prod(shape[2:]) >= 2**31:
            return False
        strides = [0] * (5 - len(shape)) + self._index_strides(shape)
        units = int(np.prod([*shape[:2], *windows.out[:-1]]))
        grain = max(1, GRAIN // (int(np.prod(windows.kernel)) * windows.out[-1]))
        args = (b.output(), b.input(0), shape[0] * shape[1], units, grain, MAX, 0.0, 0, *geometry(windows))
        b.step("pool_argmax", chunks(units, grain), *args, b.output(1), *strides)
        return True


class AveragePool(WindowPool):
    """y = mean over a window, of the taps inside x, or with `count_include_pad` inside x and its padding.

    Floats only; half-precision sums are made in float32 (ONNX AveragePool, opset 1, 7, 10, 11, 19, 22).
    """

    attributes = WINDOW_ATTRIBUTES | {"count_include_pad"}

    def evaluate(self, x):
        windows = self.windows(x.shape)
        total = slide(widen(x), windows, np.add, 0)
        for axis, counts in enumerate(self._counts(windows)):
            total = total / counts.reshape(-1, *[1] * (len(windows.out) - 1 - axis)).astype(total.dtype)
        return [total.astype(x.dtype, copy=False)]

    def _counts(self, windows: Windows) -> list[Array]:
        """Along each axis, how many taps of each window count."""
        padded = bool(self.attr("count_include_pad", 0))
        counts = []
        for axis, at in enumerate(taps(windows)):
            low = -windows.begins[axis] if padded else 0
            high = windows.sizes[axis] + (windows.ends[axis] if padded else 0)
            counts.append(((at >= low) & (at < high)).sum(axis=1))
        return counts

    def lower(self, b: Lowering) -> bool:
        return self.lower_as(b, AVERAGE, counts=self._counts(self.windows(b.ins[0].shape)))


class LpPool(WindowPool):
    """y = (sum over a window of |x|^p)^(1/p), padding being 0 (ONNX LpPool, opset 1, 2, 11, 18, 22)."""

    attributes = WINDOW_ATTRIBUTES | {"p"}

    def infer(self, ins: Inputs) -> list[Fact]:
        order(self)
        return super().infer(ins)

    def evaluate(self, x):
        p = order(self)
        total = slide(np.abs(widen(x)) ** p, self.windows(x.shape), np.add, 0)
        return [(total ** (1.0 / p)).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        return self.lower_as(b, *norm(order(self)))


class GlobalPool(Op):
    """Base of the poolings of x (N, C, *S) to y (N, C, 1, ...)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = expect(self, ins[0], AVERAGED, 2)
        if x.shape is None:
            return [Fact(x.dtype)]
        return [Fact(x.dtype, x.shape[:2] + (1,) * (len(x.shape) - 2))]


class GlobalMaxPool(GlobalPool):
    """y = maximum of a plane; NaN where it holds one (ONNX GlobalMaxPool, opset 1, 22)."""

    def evaluate(self, x):
        return [x.max(axis=spatial(x), keepdims=True, initial=lowest(x.dtype))]

    def lower(self, b: Lowering) -> bool:
        return b.is_dtype() and lower_planes(b, MAX)


class GlobalAveragePool(GlobalPool):
    """y = mean of a plane (ONNX GlobalAveragePool, opset 1, 22)."""

    def evaluate(self, x):
        return [widen(x).mean(axis=spatial(x), keepdims=True).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        return b.is_dtype() and lower_planes(b, AVERAGE)


class GlobalLpPool(GlobalPool):
    """y = (sum over a plane of |x|^p)^(1/p) (ONNX GlobalLpPool, opset 1, 2, 22)."""

    attributes = frozenset({"p"})

    def infer(self, ins: Inputs) -> list[Fact]:
        order(self)
        return super().infer(ins)

    def evaluate(self, x):
        p = order(self)
        total = (np.abs(widen(x)) ** p).sum(axis=spatial(x), keepdims=True)
        return [(total ** (1.0 / p)).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        return b.is_dtype() and lower_planes(b, *norm(order(self)))


class MaxUnpool(Op):
    """y = 0, but x at `indices` (ONNX MaxUnpool, opset 9, 11, 22).

    x and indices (N, C, *S), indices int64. They count in a tensor of the size that kernel_shape, strides and
    pads imply; where `output_shape` is given, that tensor lies at the start of a y of this shape.
    """

    attributes = frozenset({"kernel_shape", "pads", "strides"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = expect(self, ins[0], AVERAGED, 3)
        if len(ins) > 2 and ins[2] is not None:
            given = values(ins[2])
            if given is None:
                return [Fact(x.dtype, None if x.shape is None else (None,) * len(x.shape))]
            if x.shape is not None and len(given) != len(x.shape):
                raise self.fail(f"expected an output_shape of {x.rank} dims for x {x}, got {given}")
            return [Fact(x.dtype, tuple(given))]
        if x.shape is None:
            return [Fact(x.dtype)]
        return [Fact(x.dtype, self._shape(x.shape))]

    def _shape(self, shape: Shape) -> Shape:
        n = len(shape) - 2
        kernel = self.attr("kernel_shape")
        if not kernel or len(kernel) != n:
            raise self.fail(f"expected {n} values in kernel_shape for x of shape {list(shape)}, got {kernel}")
        strides = self.attr("strides") or [1] * n
        pads = self.attr("pads") or [0] * (2 * n)
        out = [
            (size - 1) * strides[i] - pads[i] - pads[n + i] + kernel[i] if isinstance(size, int) else None
            for i, size in enumerate(shape[2:])
        ]
        return (*shape[:2], *out)

    def evaluate(self, x, indices, output_shape=None):
        implied = self._shape(x.shape)
        size = int(np.prod(implied))
        if indices.shape != x.shape:
            raise ValueError(f"expected indices of shape {x.shape}, got {indices.shape}")
        if x.size and (indices.min() < 0 or indices.max() >= size):
            raise ValueError(
                f"expected indices in [0, {size}), got some in [{indices.min()}, {indices.max()}]"
            )
        y = np.zeros(size, x.dtype)
        y[indices.ravel()] = x.ravel()
        y = y.reshape(implied)
        if output_shape is None:
            return [y]
        wanted = tuple(int(d) for d in output_shape)
        if any(w < d for w, d in zip(wanted, implied, strict=True)):
            raise ValueError(f"expected an output_shape of at least {implied}, got {wanted}")
        return [np.pad(y, [(0, w - d) for w, d in zip(wanted, implied, strict=True)])]


# What the operators have in common.


def expect(op: Op, x: Fact | None, dtypes: frozenset[str], rank: int) -> Fact:
    """The input's fact; an error where its element type or rank does not fit."""
    x = x or UNKNOWN
    if x.dtype is not None and x.dtype.name not in dtypes:
        raise op.fail(f"expected x of {', '.join(sorted(dtypes))}, got {x}")
    if x.shape is not None and len(x.shape) < rank:
        raise op.fail(f"expected x of rank {rank} or more (N, C, ...), got {x}")
    return x


def order(op: Op) -> float:
    """The order of a norm; an error below 1 (an integer from opset 2 on, a float before)."""
    p = op.attr("p", 2)
    if not p >= 1:
        raise op.fail(f"expected p of at least 1, got {p}")
    return p


def norm(p: float) -> tuple[int, float]:
    """The kernels' code for an Lp norm, and p."""
    return L1 if p == 1 else L2 if p == 2 else LP, float(p)


def spatial(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def widen(x: Array) -> Array:
    """x in a type that sums can be made in."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def lowest(dtype: np.dtype) -> float:
    """The identity of the maximum."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


# Lowering.


def covers(windows: Windows) -> bool:
    """True where the one window is the whole input."""
    return (
        all(o == 1 for o in windows.out)
        and windows.kernel == windows.sizes
        and not any(windows.begins)
        and all(d == 1 for d in windows.dilations)
    )


def lower_planes(b: Lowering, op: int, p: float = 0.0) -> bool:
    """Emit the reduction of whole planes."""
    if op in (MAX, AVERAGE) and planes_blocked(b, op == MAX):
        return True
    N, C, *sizes = b.ins[0].shape
    size = int(np.prod(sizes))
    grain = max(1, GRAIN // size)
    b.step("pool_global", chunks(N * C, grain), b.output(), b.input(0), N * C, size, grain, op, p)
    return True


def choose(shape: Shape, windows: Windows) -> tuple[str, int, int]:
    """The kernel for windows over 1 to 3 axes, its number of units, about how many floats one touches."""
    planes = shape[0] * shape[1]
    spans = [extent(k, d) for k, d in zip(windows.kernel, windows.dilations, strict=True)]
    touched = [(o - 1) * s + span for o, s, span in zip(windows.out, windows.strides, spans, strict=True)]
    begin, width = windows.begins[-1], windows.sizes[-1]
    frame = int(np.prod(touched[:-1])) * (width + max(begin, touched[-1] - begin - width)) + begin
    if len(touched) < 3 and frame <= ROW:
        return "pool_planes", planes, frame * (len(touched) + 1)
    rows = int(np.prod(windows.out[:-1]))
    taps_above = int(np.prod(windows.kernel[:-1]))
    return "pool_rows", planes * rows, taps_above * touched[-1] + windows.kernel[-1] * windows.out[-1]


def is_few(windows: Windows, small: bool) -> bool:
    """True where kernel `pool_few` takes the windows and is the fastest one.

    small: `pool_planes` takes them too; at stride 1 its vectors run across rows.
    """
    if small and windows.strides[-1] == 1 and windows.out[-1] < FEW_COLUMNS_1:
        return False
    return (
        windows.kernel[-1] in (2, 3)
        and windows.strides[-1] in (1, 2)
        and windows.dilations[-1] == 1
        and int(np.prod(windows.kernel[:-1])) <= FEW_ROWS
        and FEW_COLUMNS <= windows.out[-1] <= ROW
    )


def geometry(windows: Windows) -> list[int]:
    """Input, output, kernel, stride, dilation and leading pad, three axes each."""
    missing = 3 - len(windows.out)
    args: list[int] = []
    for triple, fill in (
        (windows.sizes, 1),
        (windows.out, 1),
        (windows.kernel, 1),
        (windows.strides, 1),
        (windows.dilations, 1),
        (windows.begins, 0),
    ):
        args += [fill] * missing + list(triple)
    return args


# Evaluation.


def taps(windows: Windows) -> list[Array]:
    """For each axis the positions in x, (windows, taps), that the windows look at; outside x is padding."""
    return [
        np.arange(out)[:, None] * stride - begin + np.arange(kernel) * dilation
        for out, kernel, stride, dilation, begin in zip(
            windows.out, windows.kernel, windows.strides, windows.dilations, windows.begins, strict=True
        )
    ]


def slide(x: Array, windows: Windows, join: Callable, identity: float) -> Array:
    """Each window of x (N, C, *S) joined into one element, axis by axis; `identity` is what padding holds."""
    for axis, at in enumerate(taps(windows), 2):
        if at.size == 0:
            shape = (*x.shape[:axis], at.shape[0], *x.shape[axis + 1 :])
            x = np.full(shape, identity, x.dtype)
            continue
        low, high = at[0, 0], at[-1, -1]
        before, after = max(-low, 0), max(high + 1 - x.shape[axis], 0)
        if before or after:
            width = [(0, 0)] * x.ndim
            width[axis] = (before, after)
            x = np.pad(x, width, constant_values=identity)
        stride = windows.strides[axis - 2]
        views = [
            x[(slice(None),) * axis + (slice(first, last + 1, stride),)]
            for first, last in (at[[0, -1]].T + before).tolist()
        ]
        total = views[0].copy() if len(views) == 1 else join(views[0], views[1])
        for view in views[2:]:
            join(total, view, out=total)
        x = total
    return x


def argmax(x: Array, windows: Windows, strides: list[int]) -> list[Array]:
    """The maximum of each window of x (N, C, *S), and the index of its first place; -1 for padding alone."""
    shape = x.shape[:2] + windows.out
    best = np.full(shape, lowest(x.dtype), x.dtype)
    index = np.full(shape, -1, np.int64)
    plane = np.arange(shape[0] * shape[1], dtype=np.int64).reshape(*shape[:2], *[1] * len(windows.out))
    plane = plane * int(np.prod(x.shape[2:]))
    positions = taps(windows)
    for tap in cartesian(*map(range, windows.kernel)):
        at = [p[:, k] for p, k in zip(positions, tap, strict=True)]
        inside = [(a >= 0) & (a < size) for a, size in zip(at, windows.sizes, strict=True)]
        source = np.ix_(*[a[i] for a, i in zip(at, inside, strict=True)])
        where = sum(s * stride for s, stride in zip(source, strides, strict=True))
        grid: tuple = (slice(None), slice(None), *np.ix_(*[np.flatnonzero(i) for i in inside]))
        v = x[(slice(None), slice(None), *source)]
        top, there = best[grid], index[grid]
        take = (v > top) | (there < 0) | ((v != v) & (top == top))
        best[grid] = np.where(take, v, top)
        index[grid] = np.where(take, plane + where, there)
    return [best, index]
