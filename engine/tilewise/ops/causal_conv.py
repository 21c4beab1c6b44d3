"""Causal depthwise convolution that carries the end of its input to the next call (ONNX CausalConvWithState)."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.activation import sigmoid
from tilewise.ops.attention_heads import HeadsOp
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import wide


class CausalConvWithState(HeadsOp):
    """y[n, c, t] = act(sum_i w[c, 0, i] x[n, c, t - k + 1 + i] + bias[c]) (ONNX CausalConvWithState, opset 27).

    input x [N, C, L], weight [C, 1, k], bias [C]; past_state [N, C, k - 1], zeros where left out, comes before x.
    Outputs: y like x, and the last k - 1 columns of past and x together.
    """

    attributes = frozenset({"activation"})

    @property
    def activation(self) -> str:
        value = self.attr("activation", "none")
        return value.decode() if isinstance(value, bytes) else str(value)

    def unsupported(self) -> str | None:
        if self.activation in ("none", "silu", "swish"):
            return None
        return f"attribute activation: expected 'none', 'silu' or 'swish', got {self.activation!r}"

    def infer(self, ins: Inputs) -> list[Fact]:
        x, w = (self.float_input(ins, i, name, 3) for i, name in enumerate(("input", "weight")))
        bias, past = (ins[i] if i < len(ins) else None for i in (2, 3))
        dtype = self.common_dtype({"input": x, "weight": w, "bias": bias, "past_state": past})
        N, C, _ = x.shape or (None,) * 3
        self.fit("weight", w, (C, 1, None))
        k = None if w.shape is None else w.shape[2]
        if k == 0:
            raise self.fail(f"input weight: expected a kernel of at least 1, got {w}")
        state = (N, C, k - 1 if isinstance(k, int) else None)
        self.fit("bias", bias, (C,))
        self.fit("past_state", past, state)
        return [Fact(dtype, x.shape), Fact(dtype, state)]

    def evaluate(self, x, w, bias=None, past=None):
        k = w.shape[2]
        if past is None:
            past = np.zeros((*x.shape[:2], k - 1), x.dtype)
        padded, length = np.concatenate((past, x), axis=2), x.shape[2]
        taps, columns = wide(w), wide(padded)
        y = sum(columns[:, :, i : i + length] * taps[:, :, i] for i in range(k))
        if bias is not None:
            y = y + wide(bias)[:, None]
        y = y.astype(x.dtype, copy=False)
        if self.activation != "none":
            y = (wide(y) * sigmoid(wide(y))).astype(x.dtype, copy=False)
        return [y, padded[:, :, length:]]
