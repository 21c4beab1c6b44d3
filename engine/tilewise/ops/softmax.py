"""Softmax, its logarithm, and its limit."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.columns import TASK_FLOATS, fold_blocks, map_blocks
from tilewise.ops.lowering import Lowering, chunks
from tilewise.ops.reduce import wide


class Softmax(Op):
    """exp(x) / sum(exp(x)) along `axis` (ONNX Softmax, opsets 1, 11, 13).

    Before opset 13 the sum runs over `axis` and all axes behind it.
    """

    attributes = frozenset({"axis"})
    logarithm: ClassVar[bool] = False

    def infer(self, ins: Inputs) -> list[Fact]:
        if ins[0].shape is not None:
            self._axis(len(ins[0].shape))
        return [ins[0].without_value()]

    def evaluate(self, x):
        if x.size == 0:
            return [x]
        y = self.compute(wide(x).reshape(self._blocks(x.shape)))
        return [y.reshape(x.shape).astype(x.dtype, copy=False)]

    def compute(self, x: np.ndarray) -> np.ndarray:
        """The map of blocks [outer, rows, inner] along their rows."""
        return softmax(x, 1)

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        blocks = map_blocks(*self._blocks(b.ins[0].shape))
        b.step("softmax", blocks.tasks, b.output(0), b.input(0), *blocks.args, self.logarithm)
        if not self.logarithm:
            b.inplace(0, 0)
        return True

    def _axis(self, rank: int) -> int:
        return self.axis(self.attr("axis", -1 if self.version >= 13 else 1), rank)

    def _blocks(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape as (outer, rows, inner), where rows are what is summed."""
        axis = self._axis(len(shape))
        if self.version < 13:
            return math.prod(shape[:axis]), math.prod(shape[axis:]), 1
        return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


class LogSoftmax(Softmax):
    """x - log(sum(exp(x))), otherwise as `Softmax` (ONNX LogSoftmax, opsets 1, 11, 13)."""

    logarithm = True

    def compute(self, x):
        return log_softmax(x, 1)


class Hardmax(Softmax):
    """1 at the first maximum and 0 elsewhere, otherwise as `Softmax` (ONNX Hardmax, opsets 1, 11, 13)."""

    def compute(self, x):
        y = np.zeros_like(x)
        np.put_along_axis(y, np.argmax(x, axis=1, keepdims=True), 1, axis=1)
        return y

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype():
            return False
        outer, rows, inner = self._blocks(b.ins[0].shape)
        blocks = fold_blocks(outer, rows, inner, split=False)
        index = b.temp(8 * outer * inner)
        b.step("arg_max", blocks.tasks, index, b.input(0), *blocks.args, blocks.part, 1, 0)
        grain = max(1, TASK_FLOATS // (rows * inner))
        b.step("hardmax", chunks(outer, grain), b.output(0), index, outer, rows, inner, grain)
        return True


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """Softmax of a float array, which is not empty along `axis`."""
    y = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return y / np.sum(y, axis=axis, keepdims=True)


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    """The logarithm of `softmax`."""
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
