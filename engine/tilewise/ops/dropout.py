"""Dropout."""

from __future__ import annotations

import numpy as np

from tilewise.errors import ExecutionError
from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.lowering import Lowering
from tilewise.ops.reduce import wide


class Dropout(Op):
    """y = x; in training mode x * mask / (1 - ratio) with a random mask (ONNX Dropout, opsets 1 to 22).

    mask: the second output, True where an element is kept; of x's dtype before opset 10, else bool. In
    training mode (input 2 from opset 12 on, is_test=0 before opset 7) an element is kept where a number of
    `numpy.random.RandomState(seed).uniform(0, 1)`, drawn in C order, is not below the ratio.
    """

    attributes = frozenset({"ratio", "seed", "is_test", "consumed_inputs"})
    foldable = False

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0]
        dtype = np.dtype(np.bool_) if self.version >= 10 else x.dtype
        mask = Fact(dtype, x.shape)
        if self._is_identity(ins) and mask.known_shape and dtype is not None:
            mask = Fact(dtype, x.shape, np.broadcast_to(np.ones((), dtype), x.shape))
        return [x.without_value(), mask][: len(self.node.outputs)]

    def evaluate(self, x, ratio=None, training=None):
        dtype = np.dtype(np.bool_) if self.version >= 10 else x.dtype
        rate = self._ratio(ratio)
        if not self._training(training) or rate == 0:
            return [x, np.ones(x.shape, dtype)]
        mask = np.random.RandomState(self.attr("seed")).uniform(0, 1, x.shape) >= rate
        scale = wide(x).dtype.type(1 / (1 - rate))
        return [(mask * wide(x) * scale).astype(x.dtype, copy=False), mask.astype(dtype)]

    def lower(self, b: Lowering) -> bool:
        if not self._is_identity(b.ins):
            return False
        b.alias(0, 0, layout=b.layout(0))
        return True

    def _is_identity(self, ins: Inputs) -> bool:
        """True where it is known before the run that nothing is dropped."""
        if self.version < 12:
            return not self._training(None) or self._ratio(None) == 0
        given = ins[2] if len(ins) > 2 else None
        return given is None or (given.value is not None and not bool(np.ravel(given.value)[0]))

    def _training(self, given: np.ndarray | None) -> bool:
        if self.version >= 12:
            return given is not None and bool(np.ravel(given)[0])
        return self.version < 7 and not self.attr("is_test", 0)

    def _ratio(self, given: np.ndarray | None) -> float:
        if self.version < 12:
            rate = float(self.attr("ratio", 0.5))
        else:
            rate = 0.5 if given is None else float(np.ravel(given)[0])
        if not 0 <= rate < 1:
            raise ExecutionError(
                f"node {self.node.label!r} ({self.node.op_type}): expected a ratio in [0, 1), got {rate}"
            )
        return rate
