"""Normalization by statistics of the input itself, and across channels."""

from __future__ import annotations

import math

import numpy as np

from tilewise.dtypes import from_onnx
from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Inputs, Op
from tilewise.ops.batch_norm import Planes, agree, batch_stats, scale_planes
from tilewise.ops.blocked.norm import channels_blocked, lrn_blocked
from tilewise.ops.columns import MAX_WIDTH, TASK_FLOATS, collapse, even_width, map_blocks
from tilewise.ops.lowering import Arg, Lowering, chunks

CHANNELS_WIDTH = 256
"""Columns that `normalize_channels` holds at once: TW_CHANNELS_WIDTH of `norm.h`."""


def working_dtype(dtype: np.dtype) -> type:
    """What normalization computes in: float64 for float64, else float32."""
    return np.float64 if dtype == np.float64 else np.float32


def moments(x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population variance over `axes`, kept as dims of 1."""
    mean = x.mean(axis=axes, keepdims=True)
    return mean, np.square(x - mean).mean(axis=axes, keepdims=True)


def plane_steps(
    b: Lowering,
    rows: int,
    planes: int,
    inner: int,
    affine: tuple[Arg, Arg] = (0, 0),
    channels: tuple[int, int] = (1, 1),
    epsilon: tuple[float, bool] = (0.0, False),
) -> None:
    """The step that normalizes `rows` rows of `planes` planes of `inner` floats.

    affine: scale and bias. channels: how many planes there are before channels repeat, and how many planes
    share one. epsilon: its value, and whether it is added to the root instead.
    """
    grain = max(1, TASK_FLOATS // (planes * inner))
    sizes = (rows, planes, inner, *channels)
    b.step("normalize_planes", chunks(rows, grain), b.output(0), b.input(0), *affine, *sizes, *epsilon, grain)
    b.inplace(0, 0)


class LayerNormalization(Op):
    """(x - mean) / sqrt(var + epsilon) * scale + bias over axes from `axis` on (ONNX LayerNormalization).

    Opset 17. scale, bias: broadcast to x. Outputs: y; mean and 1 / sqrt(var + epsilon) of the dtype that
    stash_type names. All is computed in float32, float64 inputs in float64.
    """

    attributes = frozenset({"axis", "epsilon", "stash_type"})
    centered = True

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        stats: Shape | None = None
        if x.shape is not None:
            axis = self._axis(len(x.shape))
            stats = x.shape[:axis] + (1,) * (len(x.shape) - axis)
            for fact in ins[1:]:
                shape = None if fact is None else self.broadcast(x.shape, fact.shape)
                if shape is not None and not agree(shape, x.shape):
                    raise self.fail(f"expected scale and bias that broadcast to {x}, got {fact}")
        stash = Fact(from_onnx(self.attr("stash_type", 1)), stats)
        return [self._result(ins), stash, stash][: len(self.node.outputs)]

    def evaluate(self, x, scale, bias=None):
        axes = tuple(range(self._axis(x.ndim), x.ndim))
        dtype = working_dtype(x.dtype)
        wide = x.astype(dtype, copy=False)
        mean, rstd = self._statistics(wide, axes)
        y = (wide - mean) * rstd * scale.astype(dtype)
        if bias is not None:
            y = y + bias.astype(dtype)
        stash = from_onnx(self.attr("stash_type", 1))
        outs = [y.astype(self._result_dtype(x, scale), copy=False), mean.astype(stash), rstd.astype(stash)]
        return outs[: len(self.node.outputs)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        shape = b.ins[0].shape
        axis = self._axis(len(shape))
        rows, n = math.prod(shape[:axis]), math.prod(shape[axis:])
        scale, bias = (row_parameter(b, i, shape[axis:]) for i in (1, 2))
        if scale is None or bias is None:
            return False
        stats = [b.output(i) if b.wants(i) else 0 for i in (1, 2)]
        grain = max(1, TASK_FLOATS // n)
        sizes = (rows, n, float(self.attr("epsilon", 1e-5)), self.centered, grain)
        b.step("normalize_rows", chunks(rows, grain), b.output(0), b.input(0), scale, bias, *stats, *sizes)
        b.inplace(0, 0)
        return True

    def _statistics(self, x: np.ndarray, axes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        mean, var = moments(x, axes)
        return mean, 1 / np.sqrt(var + x.dtype.type(self.attr("epsilon", 1e-5)))

    def _axis(self, rank: int) -> int:
        return self.axis(self.attr("axis", -1), rank)

    def _result(self, ins: Inputs) -> Fact:
        return ins[0].without_value()

    def _result_dtype(self, x: np.ndarray, scale: np.ndarray) -> np.dtype:
        return x.dtype


class RMSNormalization(LayerNormalization):
    """x / sqrt(mean(x^2) + epsilon) * scale, otherwise as `LayerNormalization`, in scale's dtype.

    (ONNX RMSNormalization, opset 23.)
    """

    centered = False

    def _statistics(self, x, axes):
        square = np.square(x).mean(axis=axes, keepdims=True)
        return x.dtype.type(0), 1 / np.sqrt(square + x.dtype.type(self.attr("epsilon", 1e-5)))

    def _result(self, ins):
        return Fact(ins[1].dtype, ins[0].shape)

    def _result_dtype(self, x, scale):
        return scale.dtype


class ByChannel(Op):
    """Base of normalizations of x (N, C, d1, ...) with a scale (C,) and a bias (C,)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        if x.shape is not None:
            if len(x.shape) < 2:
                raise self.fail(f"expected an input of rank 2 or more, got {x}")
            check_vectors(self, ins, x.shape[1])
        return [x.without_value()]


class ChannelNormalization(ByChannel):
    """`LayerNormalization` over axis 1 of x (N, C, ...), scale (C,) and bias (C,), without its further outputs."""

    domain = "tilewise"
    attributes = frozenset({"epsilon"})

    def evaluate(self, x, scale, bias=None):
        dtype = working_dtype(x.dtype)
        wide = x.astype(dtype, copy=False)
        mean, var = moments(wide, (1,))
        by_channel = (-1,) + (1,) * (x.ndim - 2)
        y = (wide - mean) / np.sqrt(var + dtype(self._epsilon())) * scale.astype(dtype).reshape(by_channel)
        if bias is not None:
            y = y + bias.astype(dtype).reshape(by_channel)
        return [y.astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        if channels_blocked(b, self._epsilon()):
            return True
        rows = Planes.of(b.ins[0].shape)
        width = even_width(rows.inner, min(CHANNELS_WIDTH, max(64, TASK_FLOATS // rows.C)))
        tasks = rows.N * chunks(rows.inner, width)
        parameters = (b.input(1), b.optional(2), self._epsilon())
        sizes = (rows.C, rows.inner, width)
        b.step("normalize_channels", tasks, b.output(0), b.input(0), *sizes, *parameters)
        b.inplace(0, 0)
        return True

    def _epsilon(self) -> float:
        return float(self.attr("epsilon", 1e-5))


def row_parameter(b: Lowering, i: int, shape: tuple[int, ...]) -> Arg | None:
    """Input `i` as one number for each element of a row of `shape`; 0 if left out, None if it is not so."""
    fact = b.ins[i] if i < len(b.ins) else None
    if fact is None:
        return 0
    given = fact.shape
    while len(given) > len(shape) and given[0] == 1:
        given = given[1:]
    if given == shape:
        return b.input(i)
    value = b.value(i)
    if value is None or len(given) > len(shape):
        return None
    return b.packed(i, f"row {shape}", lambda: np.broadcast_to(value.reshape(given), shape))


class InstanceNormalization(ByChannel):
    """Each plane of (N, C, d1, ...) normalized, then scale and bias (C,) (ONNX InstanceNormalization)."""

    attributes = frozenset({"epsilon", "consumed_inputs"})

    def evaluate(self, x, scale, bias):
        C = x.shape[1]
        return [normalize_groups(x, C, scale, bias, self.attr("epsilon", 1e-5))]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        rows = Planes.of(b.ins[0].shape)
        epsilon = (float(self.attr("epsilon", 1e-5)), False)
        plane_steps(b, rows.N * rows.C, 1, rows.inner, (b.input(1), b.input(2)), (rows.C, 1), epsilon)
        return True


class GroupNormalization(Op):
    """Normalization of each of `num_groups` groups of channels of (N, C, ...), then scale and bias.

    scale, bias: one number a channel, in opset 18 one a group (ONNX GroupNormalization, opsets 18 and 21).
    All is computed in float32 at least, whatever stash_type allows.
    """

    attributes = frozenset({"epsilon", "num_groups", "stash_type"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, groups = ins[0], self._groups()
        if x.shape is not None:
            if len(x.shape) < 2:
                raise self.fail(f"expected an input of rank 2 or more, got {x}")
            C = x.shape[1]
            if isinstance(C, int) and C % groups:
                raise self.fail(f"expected num_groups to divide the {C} channels, got {groups}")
            check_vectors(self, ins, groups if self.version < 21 else C)
        return [x.without_value()]

    def evaluate(self, x, scale, bias):
        groups = self._groups()
        if self.version < 21:
            scale, bias = (np.repeat(a, x.shape[1] // groups) for a in (scale, bias))
        return [normalize_groups(x, groups, scale, bias, self.attr("epsilon", 1e-5))]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        rows, groups = Planes.of(b.ins[0].shape), self._groups()
        planes = rows.C // groups
        channels = (rows.C, planes if self.version < 21 else 1)
        epsilon = (float(self.attr("epsilon", 1e-5)), False)
        plane_steps(b, rows.N * groups, planes, rows.inner, (b.input(1), b.input(2)), channels, epsilon)
        return True

    def _groups(self) -> int:
        groups = self.attr("num_groups")
        if groups is None or groups < 1:
            raise self.fail(f"expected num_groups of at least 1, got {groups}")
        return groups


def normalize_groups(
    x: np.ndarray, groups: int, scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> np.ndarray:
    """Each of `groups` groups of channels normalized, then scale and bias by channel; in x's dtype."""
    dtype = working_dtype(x.dtype)
    if x.size == 0:
        return x
    rows: np.ndarray = x.astype(dtype, copy=False).reshape(x.shape[0], groups, -1)
    mean, var = moments(rows, (2,))
    y = ((rows - mean) / np.sqrt(var + dtype(epsilon))).reshape(x.shape)
    by_channel = (-1,) + (1,) * (x.ndim - 2)
    y = y * scale.astype(dtype).reshape(by_channel) + bias.astype(dtype).reshape(by_channel)
    return y.astype(x.dtype, copy=False)


def check_vectors(op: Op, ins: Inputs, size) -> None:
    """Refuse a scale or bias (inputs 1 and 2) that is not a vector of `size`."""
    for fact in ins[1:3]:
        shape = None if fact is None else fact.shape
        if shape is None:
            continue
        if len(shape) != 1 or (isinstance(size, int) and isinstance(shape[0], int) and shape[0] != size):
            raise op.fail(f"expected scale and bias of shape [{size}] for input {ins[0]}, got {fact}")


class MeanVarianceNormalization(Op):
    """(x - mean) / (sqrt(var) + 1e-9) over `axes` (ONNX MeanVarianceNormalization, opsets 9 and 13)."""

    attributes = frozenset({"axes"})
    epsilon = 1e-9

    def infer(self, ins: Inputs) -> list[Fact]:
        if ins[0].shape is not None:
            self._axes(len(ins[0].shape))
        return [ins[0].without_value()]

    def evaluate(self, x):
        wide = x.astype(working_dtype(x.dtype), copy=False)
        if x.size == 0:
            return [x]
        mean, var = moments(wide, self._axes(x.ndim))
        return [((wide - mean) / (np.sqrt(var) + wide.dtype.type(self.epsilon))).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        shape = b.ins[0].shape
        axes = self._axes(len(shape))
        stages = collapse(shape, axes)
        if len(stages) == 1 and stages[0][2] == 1:
            outer, n, _ = stages[0]
            plane_steps(b, outer, 1, n, epsilon=(self.epsilon, True))
            return True
        if len(shape) < 2 or axes != (0, *range(2, len(shape))):
            return False
        rows = Planes.of(shape)
        mean, var = b.temp(4 * rows.C), b.temp(4 * rows.C)
        batch_stats(b, rows, mean, var, self.epsilon)
        ones, zeros = (b.const(np.full(rows.C, v, np.float32)) for v in (1, 0))
        scale_planes(b, rows, (ones, zeros, mean, var), 0.0)
        return True

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(sorted(self.axes(self.attr("axes", [0, 2, 3]), rank)))


class LpNormalization(Op):
    """x divided by its L1 or L2 norm along `axis`, 0 where that is 0 (ONNX LpNormalization, from opset 1)."""

    attributes = frozenset({"axis", "p"})

    def infer(self, ins: Inputs) -> list[Fact]:
        if self.attr("p", 2) not in (1, 2):
            raise self.fail(f"expected p to be 1 or 2, got {self.attr('p')}")
        if ins[0].shape is not None:
            self._axis(len(ins[0].shape))
        return [ins[0].without_value()]

    def evaluate(self, x):
        wide = x.astype(working_dtype(x.dtype), copy=False)
        norm = np.linalg.norm(wide, ord=self.attr("p", 2), axis=self._axis(x.ndim), keepdims=True)
        y = np.divide(wide, norm, out=np.zeros_like(wide), where=norm != 0)
        return [y.astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        shape = b.ins[0].shape
        axis = self._axis(len(shape))
        blocks = map_blocks(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
        b.step("lp_normalize", blocks.tasks, b.output(0), b.input(0), *blocks.args, self.attr("p", 2))
        b.inplace(0, 0)
        return True

    def _axis(self, rank: int) -> int:
        return self.axis(self.attr("axis", -1), rank)


class LRN(Op):
    """x / (bias + alpha / size * sum of x^2 over `size` channels around)^beta (ONNX LRN, opsets 1 and 13)."""

    attributes = frozenset({"alpha", "beta", "bias", "size"})

    def infer(self, ins: Inputs) -> list[Fact]:
        if ins[0].shape is not None and len(ins[0].shape) < 2:
            raise self.fail(f"expected an input of rank 2 or more, got {ins[0]}")
        if (self.attr("size") or 0) < 1:
            raise self.fail(f"expected size of at least 1, got {self.attr('size')}")
        return [ins[0].without_value()]

    def evaluate(self, x):
        wide = x.astype(working_dtype(x.dtype), copy=False)
        alpha, beta, bias = self._coefficients()
        before, after = self._reach()
        C, square = x.shape[1], np.square(wide)
        total = square.copy()
        for shift in range(1, min(max(before, after), C - 1) + 1):
            if shift <= before:
                total[:, shift:] += square[:, :-shift]
            if shift <= after:
                total[:, :-shift] += square[:, shift:]
        return [(wide / (bias + alpha * total) ** beta).astype(x.dtype, copy=False)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        if lrn_blocked(b, self._reach(), self._coefficients()):
            return True
        rows = Planes.of(b.ins[0].shape)
        width = even_width(rows.inner, min(MAX_WIDTH, max(64, 2 * TASK_FLOATS // rows.C)))
        tasks = rows.N * chunks(rows.inner, width)
        numbers = (*self._reach(), *self._coefficients())
        b.step("lrn", tasks, b.output(0), b.input(0), rows.C, rows.inner, width, *numbers)
        return True

    def _coefficients(self) -> tuple[float, float, float]:
        """alpha / size, beta, bias."""
        alpha = self.attr("alpha", 1e-4) / self.attr("size")
        return float(alpha), float(self.attr("beta", 0.75)), float(self.attr("bias", 1.0))

    def _reach(self) -> tuple[int, int]:
        """Channels before and after the one in the middle."""
        return (self.attr("size") - 1) // 2, self.attr("size") // 2
