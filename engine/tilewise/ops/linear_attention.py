"""Attention with a recurrent state instead of a cache of keys (ONNX LinearAttention)."""

from __future__ import annotations

import math

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Dim, Shape, product
from tilewise.ops.attention_heads import HeadsOp, join_heads, split_heads
from tilewise.ops.base import Array, Inputs

RULES = {
    "linear": (False, False),
    "gated": (True, False),
    "delta": (False, True),
    "gated_delta": (True, True),
}
"""Whether an update rule decays the state, and whether it writes differences."""


class LinearAttention(HeadsOp):
    """o_t = scale q_t S_t of a state S that takes in one token at a time (ONNX LinearAttention, opset 27).

    S_t = exp(g_t) S_(t-1) + beta_t k_t ⊗ (v_t - exp(g_t) S_(t-1)ᵀ k_t), of which "linear" and "delta" leave out the
    decay exp(g_t), "linear" and "gated" the difference and beta.
    query [B, T, q_heads * d_k], key [B, T, kv_heads * d_k], value [B, T, kv_heads * d_v], past_state
    [B, kv_heads, d_k, d_v] (zeros where left out), decay g [B, T, kv_heads * d_k or kv_heads],
    beta [B, T, kv_heads or 1]. q_heads is a multiple of kv_heads.
    Outputs: [B, T, q_heads * d_v] and the last state, of past_state's dtype (query's where that is left out).
    Everything is computed in float32.
    """

    attributes = frozenset({"chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"})

    @property
    def rule(self) -> str:
        value = self.attr("update_rule", "gated_delta")
        return value.decode() if isinstance(value, bytes) else str(value)

    def unsupported(self) -> str | None:
        if self.rule in RULES:
            return None
        return f"attribute update_rule: expected one of {', '.join(RULES)}, got {self.rule!r}"

    def heads(self) -> tuple[int, int]:
        """Heads of queries and of keys."""
        counts = self.attr("q_num_heads"), self.attr("kv_num_heads")
        if None in counts:
            raise self.fail("expected attributes q_num_heads and kv_num_heads, got none")
        self.check_groups(*counts)
        return counts

    def infer(self, ins: Inputs) -> list[Fact]:
        q_heads, kv_heads = self.heads()
        q, k, v = (self.float_input(ins, i, name, 3) for i, name in enumerate(("query", "key", "value")))
        past, decay, beta = (ins[i] if i < len(ins) else None for i in range(3, 6))
        for name, fact, wanted in zip(("decay", "beta"), (decay, beta), RULES[self.rule], strict=True):
            if (fact is not None) != wanted:
                verb = "needs" if wanted else "takes no"
                raise self.fail(f"update_rule {self.rule!r} {verb} input {name}")
        dtype = self.common_dtype({"query": q, "key": k, "value": v, "decay": decay, "beta": beta})
        state_dtype = dtype if past is None else past.dtype
        if any(f.shape is None for f in (q, k, v)):
            return [Fact(dtype), Fact(state_dtype)]
        batch = self.same("batch size", q.shape[0], k.shape[0], v.shape[0])
        length = self.same("length", q.shape[1], k.shape[1], v.shape[1])
        q_width = self.split_width("query", q.shape[2], q_heads)
        d_k = self.same("head size", q_width, self.split_width("key", k.shape[2], kv_heads))
        d_v = self.split_width("value", v.shape[2], kv_heads)
        state = (batch, kv_heads, d_k, d_v)
        self.fit("past_state", past, state)
        self._check_gates(decay, beta, (batch, length), product([kv_heads, d_k]), kv_heads)
        return [Fact(dtype, (batch, length, product([q_heads, d_v]))), Fact(state_dtype, state)]

    def _check_gates(
        self, decay: Fact | None, beta: Fact | None, tokens: Shape, key_width: Dim, heads: int
    ) -> None:
        for name, fact, widths in (("decay", decay, (key_width, heads)), ("beta", beta, (heads, 1))):
            self.fit(name, fact, (*tokens, None))
            width = None if fact is None or fact.shape is None else fact.shape[2]
            if isinstance(width, int) and all(isinstance(w, int) and w != width for w in widths):
                raise self.fail(f"input {name}: expected a width of {widths[0]} or {widths[1]}, got {fact}")

    def evaluate(self, query, key, value, past=None, decay=None, beta=None):
        q_heads, kv_heads = self.heads()
        q = split_heads(query.astype(np.float32), q_heads)
        k, v = (split_heads(x.astype(np.float32), kv_heads) for x in (key, value))
        shape = (q.shape[0], kv_heads, k.shape[3], v.shape[3])
        state = np.zeros(shape, np.float32) if past is None else past.astype(np.float32)
        gates = [None if g is None else _gate(g, kv_heads) for g in (decay, beta)]
        scale = self.attr("scale", 0.0) or 1 / math.sqrt(max(1, q.shape[3]))
        y, state = _recur(q, k, v, state, gates)
        y = join_heads(y * np.float32(scale)).astype(query.dtype, copy=False)
        return [y, state.astype(query.dtype if past is None else past.dtype, copy=False)]


def _gate(x: Array, heads: int) -> Array:
    """A gate [B, T, .] as float32 [B, heads or 1, T, size]."""
    return split_heads(x.astype(np.float32), 1 if x.shape[2] == 1 else heads)


def _recur(q: Array, k: Array, v: Array, state: Array, gates: list[Array | None]) -> tuple[Array, Array]:
    """q_t S_t for all t, [B, q_heads, T, d_v], and the last state; k, v [B, kv_heads, T, .]."""
    decay, beta = gates
    batch, q_heads, length, _ = q.shape
    groups = (batch, k.shape[1], q_heads // k.shape[1])
    y = np.empty((*groups, length, v.shape[3]), np.float32)
    grouped = q.reshape(*groups, length, q.shape[3])
    keep = None if decay is None else np.exp(decay)[..., None]
    for t in range(length):
        row, write = k[:, :, None, t], v[:, :, None, t]
        if keep is not None:
            state = state * keep[:, :, t]
        if beta is not None:
            write = beta[:, :, None, t] * (write - row @ state)
        state = state + row.swapaxes(2, 3) * write
        y[:, :, :, t] = grouped[:, :, :, t] @ state
    return y.reshape(batch, q_heads, length, v.shape[3]), state
