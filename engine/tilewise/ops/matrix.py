"""Operators on the last two axes: triangles and determinants."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Inputs, Op


def _check_matrices(op: Op, x: Fact) -> None:
    if x.shape is not None and len(x.shape) < 2:
        raise op.fail(f"expected an input of rank 2 or more, got shape {x.shape}")


class Trilu(Op):
    """The triangle of each matrix above or below diagonal `k`, input 1; zeros elsewhere (ONNX Trilu, opset 14)."""

    attributes = frozenset({"upper"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        _check_matrices(self, x)
        return [x.without_value()]

    def evaluate(self, x, k=None):
        self.infer([Fact.of(x)])
        diagonal = 0 if k is None else int(k.reshape(()))
        upper = bool(self.attr("upper", 1))
        lower_part = np.tri(x.shape[-2], x.shape[-1], diagonal - upper, bool)
        return [np.where(lower_part != upper, x, np.zeros((), x.dtype))]


class Det(Op):
    """The determinant of each matrix (ONNX Det, opset 11)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        _check_matrices(self, x)
        if x.shape is None:
            return [Fact(x.dtype)]
        *batch, rows, cols = x.shape
        if isinstance(rows, int) and isinstance(cols, int) and rows != cols:
            raise self.fail(f"expected square matrices, got shape {x.shape}")
        return [Fact(x.dtype, tuple(batch))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        return [np.asarray(np.linalg.det(x.astype(np.float64))).astype(x.dtype)]
