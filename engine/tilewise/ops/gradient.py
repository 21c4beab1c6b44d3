"""Internal operators that gradients are made of; no ONNX file holds them."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Inputs, Op
from tilewise.ops.lowering import Lowering


class SumTo(Op):
    """Input 0 summed over the axes along which input 1 was broadcast to its shape: the gradient of broadcasting.

    The result has the shape of input 1, whose content is not read.
    """

    def infer(self, ins: Inputs) -> list[Fact]:
        assert ins[0] is not None
        assert ins[1] is not None
        return [Fact(ins[0].dtype, ins[1].shape)]

    def evaluate(self, x, like):
        lead = x.ndim - like.ndim
        axes = (
            *range(lead),
            *(lead + i for i, n in enumerate(like.shape) if n == 1 and x.shape[lead + i] != 1),
        )
        return [np.sum(x, axis=axes, keepdims=True, dtype=x.dtype).reshape(like.shape) if axes else x]

    def lower(self, b: Lowering) -> bool:
        if b.ins[0] is None or b.outs[0] is None or b.ins[0].shape != b.outs[0].shape:
            return False
        b.alias(0, 0)
        return True
