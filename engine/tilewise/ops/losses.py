"""Classification losses."""

from __future__ import annotations

import numpy as np

from tilewise.errors import ExecutionError
from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.reduce import wide
from tilewise.ops.softmax import log_softmax

REDUCTIONS = ("none", "sum", "mean")


class NegativeLogLikelihoodLoss(Op):
    """-x[n, target[n, ...], ...] * weight[target], reduced (ONNX NegativeLogLikelihoodLoss, from opset 12).

    x: log-probabilities (N, C, d1, ...); target: int32 or int64 (N, d1, ...); weight: optional (C,). Targets
    equal to ignore_index count for nothing. reduction "mean" divides by the sum of the weights that count.
    """

    attributes = frozenset({"ignore_index", "reduction"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, target = ins[0], ins[1]
        reduction = self.attr("reduction", "mean")
        if reduction not in REDUCTIONS:
            raise self.fail(f"expected reduction to be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
        self._check_shapes(ins)
        if reduction != "none":
            return [Fact(x.dtype, ())]
        shape = target.shape
        if shape is None and x.shape is not None:
            shape = x.shape[:1] + x.shape[2:]
        return [Fact(x.dtype, shape)]

    def evaluate(self, x, target, weight=None):
        return [self.loss(wide(x), target, None if weight is None else wide(weight)).astype(x.dtype)]

    def loss(self, x: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """The reduced loss of log-probabilities x, in x's dtype."""
        C = x.shape[1]
        ignored = self.attr("ignore_index")
        counts = np.ones(target.shape, bool) if ignored is None else target != ignored
        wrong = counts & ((target < 0) | (target >= C))
        if wrong.any():
            raise ExecutionError(
                f"node {self.node.label!r} ({self.node.op_type}): expected targets in [0, {C}), "
                f"got {int(target[wrong][0])}"
            )
        index = np.where(counts, target, 0)
        picked = -np.take_along_axis(x, np.expand_dims(index, 1), axis=1)[:, 0]
        share = (counts if weight is None else np.where(counts, weight[index], 0)).astype(x.dtype)
        loss = np.where(counts, picked * share, 0).astype(x.dtype)
        reduction = self.attr("reduction", "mean")
        if reduction == "none":
            return loss
        return np.asarray(loss.sum() if reduction == "sum" else loss.sum() / share.sum())

    def _check_shapes(self, ins: Inputs) -> None:
        x, target = ins[0].shape, ins[1].shape
        if x is not None and len(x) < 2:
            raise self.fail(f"expected scores of rank 2 or more, got {ins[0]}")
        if x is None or target is None:
            return
        wanted = x[:1] + x[2:]
        fits = len(target) == len(wanted) and all(
            a == b or not (isinstance(a, int) and isinstance(b, int))
            for a, b in zip(target, wanted, strict=True)
        )
        if not fits:
            raise self.fail(f"expected targets of shape {list(wanted)}, got {ins[1]}")
        weight = ins[2] if len(ins) > 2 else None
        if weight is not None and weight.known_shape and isinstance(x[1], int) and weight.shape != (x[1],):
            raise self.fail(f"expected weights of shape [{x[1]}], got {weight}")


class SoftmaxCrossEntropyLoss(NegativeLogLikelihoodLoss):
    """`NegativeLogLikelihoodLoss` of the logarithm of softmax over axis 1, which is the second output.

    (ONNX SoftmaxCrossEntropyLoss, opsets 12 and 13.)
    """

    def infer(self, ins: Inputs) -> list[Fact]:
        return [*super().infer(ins), ins[0].without_value()]

    def evaluate(self, x, target, weight=None):
        scores = log_softmax(wide(x), 1)
        loss = self.loss(scores, target, None if weight is None else wide(weight))
        return [loss.astype(x.dtype), scores.astype(x.dtype, copy=False)]
