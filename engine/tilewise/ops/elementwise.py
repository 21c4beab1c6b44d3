"""What element-wise operators share: type checks, broadcasting, lowering to maps and broadcast walks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs, Op
from tilewise.ops.blocked.steps import affine_blocked, blocked_operands
from tilewise.ops.layout import BLOCKED, PLAIN, VECTOR, block_count, blocked_floats
from tilewise.ops.lowering import Ref, chunks

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering

HALVES = frozenset({"float16", "bfloat16"})
FLOATS = HALVES | {"float32", "float64"}
FLOAT8 = frozenset({"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
UNSIGNED = frozenset({"uint8", "uint16", "uint32", "uint64"})
SIGNED = frozenset({"int8", "int16", "int32", "int64"})
INTS = SIGNED | UNSIGNED
NUMBERS = FLOATS | INTS
BOOL = frozenset({"bool"})

GRAIN = 1 << 14
"""Elements of a task."""
MAX_RANK = 8
"""Axes that a broadcast walk takes, after merging."""


def wide(x: Array) -> Array:
    """16-bit and 8-bit floats as float32, which computes as well and faster; others as they are."""
    return x.astype(np.float32) if x.dtype.name in HALVES | FLOAT8 else x


class ElementWise(Op):
    """An operator whose result at one place depends on its operands at that place alone.

    accepts: names of the NumPy dtypes of the operands, over all opsets.
    kernel: name of the kernel without its dtype; "" where there is none.
    """

    accepts: ClassVar[frozenset[str]] = FLOATS
    kernel: ClassVar[str] = ""

    def operand(self, ins: Inputs, i: int, accepts: frozenset[str] | None = None) -> Fact:
        """Fact of input `i`; an error where it is left out or its type is not one of `accepts`."""
        fact = ins[i] if i < len(ins) else None
        if fact is None:
            raise self.fail(f"input {i} is missing")
        accepts = self.accepts if accepts is None else accepts
        if fact.kind != "tensor" or (fact.dtype is not None and fact.dtype.name not in accepts):
            raise self.fail(f"input {i}: expected a tensor of {', '.join(sorted(accepts))}, got {fact}")
        return fact

    def common_dtype(self, facts: Sequence[Fact]) -> np.dtype | None:
        """The dtype that all operands share, None while none of them is known."""
        dtypes = [f.dtype for f in facts if f.dtype is not None]
        if any(d != dtypes[0] for d in dtypes):
            raise self.fail(f"expected operands of one type, got {', '.join(map(str, facts))}")
        return dtypes[0] if dtypes else None


class Unary(ElementWise):
    """y = f(x), of the shape and dtype of x."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = self.operand(ins, 0)
        return [Fact(x.dtype, x.shape)]

    def apply(self, x: Array) -> Array:
        """f(x) in NumPy; x is float32, float64 or an integer."""
        raise NotImplementedError(type(self).__name__)

    def parameters(self) -> tuple[float, float]:
        """What the kernel takes as alpha and beta."""
        return 0.0, 0.0

    def evaluate(self, x):
        return [np.asarray(self.apply(wide(x))).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        return lower_map(b, f"{self.kernel}_{b.ins[0].dtype.name}", *self.parameters())


class Binary(ElementWise):
    """z = f(x, y), broadcast, of the dtype of the operands (ONNX's numpy-style broadcasting, opset 7)."""

    result: ClassVar[np.dtype | None] = None  # where it is not the operands' dtype

    def infer(self, ins: Inputs) -> list[Fact]:
        x, y = self.operand(ins, 0), self.operand(ins, 1)
        dtype = self.common_dtype([x, y])
        return [Fact(self.result or dtype, self.broadcast(x.shape, y.shape))]

    def apply(self, x: Array, y: Array) -> Array:
        """f(x, y) in NumPy; the operands are float32, float64, integers, bools or strings."""
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, x, y):
        return [np.asarray(self.apply(wide(x), wide(y))).astype(self.result or x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        return lower_walk(b, f"{self.kernel}_{b.ins[0].dtype.name}", [0, 1])


class Variadic(ElementWise):
    """y = x0 op x1 op ..., broadcast (ONNX's numpy-style broadcasting, opset 8)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        facts = [self.operand(ins, i) for i in range(max(len(ins), 1))]
        return [Fact(self.common_dtype(facts), self.broadcast(*(f.shape for f in facts)))]

    def apply(self, x: Array, y: Array) -> Array:
        """x op y in NumPy."""
        raise NotImplementedError(type(self).__name__)

    def finish(self, y: Array, count: int) -> Array:
        """The result from what `apply` has gathered of `count` operands."""
        return y

    def evaluate(self, *inputs):
        y = wide(inputs[0])
        for x in inputs[1:]:
            y = self.apply(y, wide(x))
        return [np.asarray(self.finish(y, len(inputs))).astype(inputs[0].dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if len(b.ins) == 1:
            b.alias(0, 0)
            return True
        return self.lower_chain(b, f"{self.kernel}_{b.ins[0].dtype.name}")

    def lower_chain(self, b: Lowering, kernel: str) -> bool:
        """One step an operand, each but the first over the result so far."""
        if len(b.ins) == 2:
            return lower_walk(b, kernel, [0, 1])
        out, shape = b.output(0), b.outs[0].shape
        for i in range(1, len(b.ins)):
            x, x_shape = (out, shape) if i > 1 else (b.input(0), b.ins[0].shape)
            if not emit_walk(b, kernel, [x, b.input(i)], [x_shape, b.ins[i].shape], shape):
                return False
            if i == 1:
                allow_inplace(b, [0, 1])
        return True


def lower_map(b: Lowering, kernel: str, alpha: float = 0.0, beta: float = 0.0) -> bool:
    """One step of a unary kernel from input 0 to output 0; False where the process has no such kernel."""
    if not b.has(kernel):
        return False
    layout, size = PLAIN, b.outs[0].size
    if b.lies_blocked(0) and b.is_dtype("float32"):
        layout, size = BLOCKED, blocked_floats(b.outs[0].shape)
    y, x = b.output(0, layout), b.input(0, layout)
    b.step(kernel, chunks(size, GRAIN), y, x, size, GRAIN, float(alpha), float(beta))
    if b.ins[0].dtype == b.outs[0].dtype:
        b.inplace(0, 0, layout)
    return True


def lower_walk(b: Lowering, kernel: str, operands: Sequence[int]) -> bool:
    """One step of a broadcasting kernel over the inputs `operands`; False where it cannot be."""
    if scale_by_channel(b, kernel, operands):
        return True
    blocked = blocked_operands(b, operands)
    layout = PLAIN if blocked is None else BLOCKED
    refs, shapes, out = blocked or (
        [b.input(i) for i in operands],
        [b.ins[i].shape for i in operands],
        b.outs[0].shape,
    )
    if not emit_walk(b, kernel, refs, shapes, out, b.output(0, layout)):
        return False
    allow_inplace(b, operands, layout)
    return True


def scale_by_channel(b: Lowering, kernel: str, operands: Sequence[int]) -> bool:
    """A blocked operand times, or plus, one number a channel: what squeeze-and-excite does."""
    if kernel not in ("mul_float32", "add_float32") or len(operands) != 2:
        return False
    out = b.outs[0].shape
    for x, other in (operands, operands[::-1]):
        shape = b.ins[other].shape
        if b.ins[x].shape != out or not b.lies_blocked(x) or len(shape) != len(out) or len(out) < 3:
            continue
        if shape[1] != out[1] or any(d != 1 for d in shape[2:]) or shape == out or not b.is_dtype("float32"):
            continue
        ref = b.input(other, BLOCKED)
        stride = block_count(out[1]) * VECTOR if shape[0] > 1 else 0
        if kernel == "mul_float32":
            affine_blocked(b, ref, 0, (stride, 0), x=x)
        else:
            affine_blocked(b, 0, ref, (0, stride), x=x)
        return True
    return False


def emit_walk(
    b: Lowering,
    kernel: str,
    refs: Sequence[Ref],
    shapes: Sequence[Shape],
    out: Shape,
    into: Ref | None = None,
) -> bool:
    """A step that computes `into` (output 0 by default), of shape `out`, from operands that broadcast to it."""
    dims, strides = merge_axes(out, shapes)
    if not b.has(kernel) or len(dims) > MAX_RANK:
        return False
    size = int(np.prod(dims))
    flat = [s for row in strides for s in row]
    into = b.output(0) if into is None else into
    b.step(kernel, chunks(size, GRAIN), into, *refs, size, GRAIN, len(dims), *dims, *flat)
    return True


def allow_inplace(b: Lowering, operands: Sequence[int], layout: str = PLAIN) -> None:
    """Let the last step write over any of these inputs that is not broadcast."""
    out = b.outs[0]
    for i in operands:
        if b.ins[i].dtype == out.dtype and b.ins[i].shape == out.shape:
            b.inplace(0, i, layout)


def merge_axes(out: Shape, shapes: Sequence[Shape]) -> tuple[list[int], list[list[int]]]:
    """Dims of a loop nest over `out` and the strides of each operand, in elements, adjacent axes merged.

    Axes merge where every operand goes along them in the same way; there is at least one dim.
    """
    padded = [(1,) * (len(out) - len(s)) + tuple(s) for s in shapes]
    dims: list[int] = []
    varies: list[tuple[bool, ...]] = []
    for axis, dim in enumerate(out):
        if dim == 1:
            continue
        pattern = tuple(s[axis] != 1 for s in padded)
        if varies and varies[-1] == pattern:
            dims[-1] *= int(dim)
        else:
            dims.append(int(dim))
            varies.append(pattern)
    strides = [_strides(dims, [v[k] for v in varies]) for k in range(len(shapes))]
    return (dims, strides) if dims else ([1], [[1] for _ in shapes])


def _strides(dims: Sequence[int], varies: Sequence[bool]) -> list[int]:
    stride, out = 1, []
    for dim, moves in zip(reversed(dims), reversed(varies), strict=True):
        out.append(stride if moves else 0)
        stride *= dim if moves else 1
    return out[::-1]


def scalar_value(value: Array | None) -> float | None:
    """The number in a constant of one element, else None."""
    return float(value.reshape(())) if value is not None and value.size == 1 else None
