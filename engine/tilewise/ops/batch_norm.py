"""Batch normalization."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops import epilogue
from tilewise.ops.base import Inputs, Op
from tilewise.ops.blocked.steps import affine_blocked, channel_constant
from tilewise.ops.columns import MAX_WIDTH, TASK_FLOATS
from tilewise.ops.lowering import Arg, Lowering, chunks

SMALL_PLANE = 16
PARAMETERS = ("scale", "bias", "mean", "variance")


@dataclass(frozen=True, slots=True)
class Planes:
    """A tensor as [N, C, inner], with one set of statistics a channel."""

    N: int
    C: int
    inner: int

    @staticmethod
    def of(shape: tuple[int, ...]) -> Planes:
        """The channel is axis 1; a single axis counts as one channel."""
        if len(shape) == 1:
            return Planes(1, 1, shape[0])
        return Planes(shape[0], shape[1], math.prod(shape[2:]))


class BatchNormalization(Op):
    """y = (x - mean) / sqrt(var + epsilon) * scale + bias by channel (ONNX BatchNormalization, to opset 15).

    x: (N, C, d1, ...); the other inputs (C,), or with the old attribute spatial=0 (C, d1, ...). In training
    mode mean and var are the batch's own (population variance), and the outputs behind y are the running ones
    and, before opset 14, the batch's. Training mode is asked for by training_mode, from opset 7 to 13 by a
    second output, before by is_test=0.
    """

    attributes = frozenset({"epsilon", "momentum", "spatial", "is_test", "training_mode", "consumed_inputs"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, stats = ins[0], ins[3]
        if x.shape is not None and not x.shape:
            raise self.fail(f"expected an input of rank 1 or more, got {x}")
        if not self._training() and any(self.node.outputs[1:]):
            raise self.fail(f"expected one output outside training mode, got {len(self.node.outputs)}")
        shape = self._parameter_shape(x)
        for fact, what in zip(ins[1:5], PARAMETERS, strict=True):
            if shape is not None and fact.shape is not None and not agree(fact.shape, shape):
                raise self.fail(f"expected {what} of shape {list(shape)} for input {x}, got {fact}")
        extra = Fact(stats.dtype, stats.shape if stats.shape is not None else shape)
        return [x.without_value()] + [extra] * (len(self.node.outputs) - 1)

    def evaluate(self, x, scale, bias, mean, var):
        rows = self._planes(x.shape)
        dtype = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        wide = x.astype(dtype, copy=False).reshape(rows.N, rows.C, rows.inner)
        old = [np.ravel(a).astype(dtype) for a in (mean, var)]
        extra = []
        used = old
        if self._training():
            used = [wide.mean(axis=(0, 2)), wide.var(axis=(0, 2))]
            momentum = float(self.attr("momentum", 0.9))
            running = [o * momentum + n * (1 - momentum) for o, n in zip(old, used, strict=True)]
            extra = [a.reshape(mean.shape).astype(mean.dtype) for a in (*running, *used)]
        factor = np.ravel(scale).astype(dtype) / np.sqrt(used[1] + self._epsilon())
        y = (wide - used[0][:, None]) * factor[:, None] + np.ravel(bias).astype(dtype)[:, None]
        y = epilogue.apply(self, y.reshape(x.shape).astype(x.dtype, copy=False))
        return [y, *extra][: len(self.node.outputs)]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        if self._lower_blocked(b):
            return True
        rows = self._planes(b.ins[0].shape)
        mean, var = b.input(3), b.input(4)
        if self._training():
            saved = b.wants(3), b.wants(4)
            new_mean, new_var = (b.output(3 + i) if saved[i] else b.temp(4 * rows.C) for i in range(2))
            batch_stats(b, rows, new_mean, new_var)
            momentum = float(self.attr("momentum", 0.9))
            for i, (old, new) in enumerate(((mean, new_mean), (var, new_var))):
                if b.wants(1 + i):
                    b.step("running_average", 1, b.output(1 + i), old, new, momentum, rows.C)
            mean, var = new_mean, new_var
        scale_planes(b, rows, (b.input(1), b.input(2), mean, var), self._epsilon(), epilogue.activation(self))
        return True

    def _lower_blocked(self, b: Lowering) -> bool:
        """One multiplication and addition by channel, where x lies blocked and the rest is constant."""
        given = [b.value(i) for i in range(1, 5)]
        if self._training() or not self._spatial() or not b.lies_blocked(0) or any(v is None for v in given):
            return False
        scale, bias, mean, var = (v.astype(np.float64).ravel() for v in given)
        factor = scale / np.sqrt(var + self._epsilon())
        refs = (channel_constant(b, factor), channel_constant(b, bias - mean * factor))
        affine_blocked(b, *refs, activation=epilogue.activation(self))
        return True

    def _epsilon(self) -> float:
        return float(self.attr("epsilon", 1e-5))

    def _training(self) -> bool:
        if self.version >= 14:
            return bool(self.attr("training_mode", 0))
        if self.version >= 7:
            return any(self.node.outputs[1:])
        return not self.attr("is_test", 0)

    def _spatial(self) -> bool:
        return self.version >= 9 or bool(self.attr("spatial", 1))

    def _parameter_shape(self, x: Fact) -> Shape | None:
        """The shape that scale and the others must have."""
        if x.shape is None:
            return None
        if not self._spatial():
            return x.shape[1:]
        return (1,) if len(x.shape) == 1 else (x.shape[1],)

    def _planes(self, shape: tuple[int, ...]) -> Planes:
        rows = Planes.of(shape)
        return rows if self._spatial() else Planes(rows.N, rows.C * rows.inner, 1)


class FusedBatchNormalization(BatchNormalization):
    """`BatchNormalization`, then an activation (see `epilogue`)."""

    domain = "tilewise"
    attributes = BatchNormalization.attributes | {"activation", "activation_alpha", "activation_beta"}


def batch_stats(b: Lowering, rows: Planes, mean: Arg, var: Arg, root_epsilon: float = 0.0) -> None:
    """The step that writes the moments of input 0's channels; var as (sqrt(var) + root_epsilon)^2."""
    narrow = rows.inner < SMALL_PLANE
    grain = max(1, MAX_WIDTH // rows.inner if narrow else TASK_FLOATS // (rows.N * rows.inner))
    sizes = (rows.N, rows.C, rows.inner, grain)
    b.step("batch_stats", chunks(rows.C, grain), mean, var, b.input(0), *sizes, root_epsilon)


def scale_planes(
    b: Lowering,
    rows: Planes,
    parameters: tuple[Arg, Arg, Arg, Arg],
    epsilon: float,
    activation: tuple[int, float, float] = (0, 0.0, 0.0),
) -> None:
    """The step that makes output 0 of input 0; parameters are scale, bias, mean and var."""
    grain = max(1, min(MAX_WIDTH, TASK_FLOATS // rows.inner))
    tasks = rows.N * chunks(rows.C, grain)
    sizes = (rows.N, rows.C, rows.inner, grain)
    b.step("batch_norm", tasks, b.output(0), b.input(0), *parameters, epsilon, *sizes, *activation)
    b.inplace(0, 0)


def agree(a: Shape, b: Shape) -> bool:
    """True unless ranks or known dims differ."""
    return len(a) == len(b) and all(
        x == y or not (isinstance(x, int) and isinstance(y, int)) for x, y in zip(a, b, strict=True)
    )
