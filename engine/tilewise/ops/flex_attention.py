"""Attention whose scores and probabilities subgraphs modify (ONNX FlexAttention)."""

from __future__ import annotations

import numpy as np

from tilewise.dtypes import from_onnx
from tilewise.graph import Fact
from tilewise.graph.facts import Shape
from tilewise.ops.attention_heads import PRECISIONS, Heads, HeadsOp, grouped_matmul, scaled_scores
from tilewise.ops.base import Array, Inputs
from tilewise.ops.control import Call, ControlFlow
from tilewise.ops.softmax import softmax


class FlexAttention(ControlFlow, HeadsOp):
    """prob_mod(softmax(score_mod(scale Q Kᵀ))) V, head by head (ONNX FlexAttention, ai.onnx.preview, version 1).

    Q [batch, q_heads, q_len, head], K and V [batch, kv_heads, kv_len, head or v_head]. q_heads is a multiple of
    kv_heads. y [batch, q_heads, q_len, v_head].
    score_mod, prob_mod: graphs that map [batch, q_heads, q_len, kv_len] to the same shape and dtype, which is
    softmax_precision, or float64 for float64 inputs and float32 for others.
    """

    domain = "ai.onnx.preview"
    attributes = frozenset({"prob_mod", "scale", "score_mod", "softmax_precision"})

    def unsupported(self) -> str | None:
        precision = self.attr("softmax_precision")
        if precision is None or precision in PRECISIONS:
            return None
        return f"attribute softmax_precision: expected one of {PRECISIONS}, got {precision}"

    def infer(self, ins: Inputs) -> list[Fact]:
        (q, k, v), outer = self.split(ins)
        q, k, v = (self.float_input((q, k, v), i, name, rank=4) for i, name in enumerate("QKV"))
        dtype = self.common_dtype({"Q": q, "K": k, "V": v})
        if any(f.shape is None for f in (q, k, v)):
            return [Fact(dtype)]
        heads = self._heads(q.shape, k.shape, v.shape)
        if dtype is not None:
            inner = Fact(self._precision(dtype), heads.scores)
            for attribute in ("score_mod", "prob_mod"):
                self._check_mod(attribute, inner, outer)
        return [Fact(dtype, heads.result)]

    def _heads(self, q: Shape, k: Shape, v: Shape) -> Heads:
        kv_heads = self.same("number of heads of K and V", k[1], v[1])
        self.check_groups(q[1], kv_heads)
        return Heads(
            self.same("batch size of Q, K and V", q[0], k[0], v[0]),
            q[1],
            kv_heads,
            q[2],
            self.same("length of K and V", k[2], v[2]),
            self.same("head size of Q and K", q[3], k[3]),
            v[3],
        )

    def _precision(self, dtype: np.dtype) -> np.dtype:
        precision = self.attr("softmax_precision")
        if precision is not None:
            return from_onnx(precision)
        return np.dtype(np.float64 if dtype == np.float64 else np.float32)

    def _check_mod(self, attribute: str, inner: Fact, outer: dict[str, object]) -> None:
        """An error where the graph is there and does not keep dtype and shape."""
        if self.attr(attribute) is None:
            return
        graph = self.graph(attribute)
        self.check_counts(graph, 1, 1)
        (out,) = self.facts(graph, [inner], outer)
        if out.dtype is not None and out.dtype != inner.dtype:
            raise self.fail(f"{attribute}: expected {inner}, got {out}")
        self.fit(f"{attribute}'s output", out, inner.shape)

    def evaluate(self, call, *inputs):
        (q, k, v), outer = self.split(inputs)
        dtype = self._precision(q.dtype)
        scores = scaled_scores(q, k, self.attr("scale")).astype(dtype, copy=False)
        scores = self._modify(call, "score_mod", scores, outer)
        probabilities = softmax(scores, -1) if scores.shape[-1] else scores
        probabilities = self._modify(call, "prob_mod", probabilities, outer)
        return [grouped_matmul(probabilities, v.astype(dtype, copy=False)).astype(q.dtype, copy=False)]

    def _modify(self, call: Call, attribute: str, x: Array, outer: dict[str, object]) -> Array:
        if self.attr(attribute) is None:
            return x
        (y,) = self.run(call, self.graph(attribute), [x], outer)
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ValueError(f"{attribute}: expected {x.dtype}{list(x.shape)}, got {y.dtype}{list(y.shape)}")
        return y
