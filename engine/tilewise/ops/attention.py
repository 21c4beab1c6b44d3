"""Scaled dot-product attention (ONNX Attention)."""

from __future__ import annotations

import math

import numpy as np

from tilewise.dtypes import from_onnx
from tilewise.graph import Fact
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.attention_heads import (
    PRECISIONS,
    Heads,
    HeadsOp,
    grouped_matmul,
    join_heads,
    scaled_scores,
    softmax_rows,
    split_heads,
)
from tilewise.ops.attention_steps import KERNELS, AttentionSteps
from tilewise.ops.base import Array, Inputs
from tilewise.ops.elementwise import FLOATS, INTS, wide
from tilewise.ops.lowering import Lowering, Ref
from tilewise.ops.strided import Layout, copy, layout_in, layout_out

RAW, CAPPED, BIASED, PROBABILITIES = range(4)
"""Values of attribute qk_matmul_output_mode."""
MASKS = FLOATS | INTS | {"bool"}
NAMES = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")


class Attention(HeadsOp):
    """softmax(softcap(scale Q Kᵀ) + bias) V, head by head (ONNX Attention, opsets 23, 24, 25).

    Q [batch, q_heads, q_len, head], K and V [batch, kv_heads, length, head or v_head]; or all of rank 3 with the
    heads side by side in the last axis. q_heads is a multiple of kv_heads. past_key, past_value, of rank 4, come
    before K and V. attn_mask broadcasts to [batch, q_heads, q_len, kv_len]: bool (False is -inf) or numbers to add;
    from opset 24 its last axis may be shorter, the rest is -inf. nonpad_kv_seqlen int64 [batch]: how many keys are
    valid. Outputs: y like Q; keys and values with their past, of rank 4; the scores or probabilities that
    qk_matmul_output_mode asks for.

    Every step is rounded to Q's dtype, softmax to softmax_precision. A query that may see no key yields zeros.
    """

    attributes = frozenset(
        {
            "is_causal",
            "kv_num_heads",
            "left_window_size",
            "q_num_heads",
            "qk_matmul_output_mode",
            "right_window_size",
            "scale",
            "softcap",
            "softmax_precision",
        }
    )

    def unsupported(self) -> str | None:
        mode, precision = self.attr("qk_matmul_output_mode", RAW), self.attr("softmax_precision")
        if mode not in range(4):
            return f"attribute qk_matmul_output_mode: expected 0 to 3, got {mode}"
        if precision is not None and precision not in PRECISIONS:
            return f"attribute softmax_precision: expected one of {PRECISIONS}, got {precision}"
        for name in ("left_window_size", "right_window_size"):
            if self.attr(name, -1) < -1:
                return f"attribute {name}: expected -1 or more, got {self.attr(name)}"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        q, k, v = (self.float_input(ins, i, NAMES[i]) for i in range(3))
        mask, past_k, past_v, nonpad = (ins[i] if i < len(ins) else None for i in range(3, 7))
        self.common_dtype({"Q": q, "K": k, "past_key": past_k})
        self.common_dtype({"V": v, "past_value": past_v})
        if mask is not None and mask.dtype is not None and mask.dtype.name not in MASKS:
            raise self.fail(f"input attn_mask: expected bools or numbers, got {mask}")
        if (past_k is None) != (past_v is None):
            raise self.fail("expected past_key and past_value together, got one of them")
        if past_k is not None and nonpad is not None:
            raise self.fail("expected either past_key and past_value or nonpad_kv_seqlen, got both")
        ranks = {f.rank for f in (q, k, v)} - {None}
        if len(ranks) > 1 or not ranks <= {3, 4}:
            raise self.fail(f"expected Q, K and V all of rank 3 or all of rank 4, got {q}, {k}, {v}")
        if not ranks or any(f.shape is None for f in (q, k, v)):
            return [Fact(f.dtype) for f in (q, k, v, q)][: len(self.node.outputs)]
        return self._outputs(q, v, self._heads(q, k, v, past_k, past_v, mask, nonpad))

    def _outputs(self, q: Fact, v: Fact, h: Heads) -> list[Fact]:
        keys, values = (h.batch, h.kv_heads, h.kv_len, h.head), (h.batch, h.kv_heads, h.kv_len, h.v_head)
        y = Fact(q.dtype, h.packed_result if q.rank == 3 else h.result)
        outs = [y, Fact(q.dtype, keys), Fact(v.dtype, values), Fact(q.dtype, h.scores)]
        return outs[: len(self.node.outputs)]

    def _heads(
        self,
        q: Fact,
        k: Fact,
        v: Fact,
        past_k: Fact | None,
        past_v: Fact | None,
        mask: Fact | None,
        nonpad: Fact | None,
    ) -> Heads:
        """The sizes, with everything that the inputs must agree on checked; ranks of Q, K and V are known."""
        (q4, k4, v4) = (self._unpacked(f, i) for i, f in enumerate((q, k, v)))
        batch = self.same("batch size of Q, K and V", q4[0], k4[0], v4[0])
        kv_heads = self.same("number of heads of K and V", k4[1], v4[1])
        self.check_groups(q4[1], kv_heads)
        length = self.same("length of K and V", k4[2], v4[2])
        head = self.same("head size of Q and K", q4[3], k4[3])
        past = self._past(past_k, past_v, batch, kv_heads, head, v4[3])
        kv_len = length + past if isinstance(length, int) and isinstance(past, int) else None
        h = Heads(batch, q4[1], kv_heads, q4[2], length if past == 0 else kv_len, head, v4[3])
        self._check_mask(mask, h.scores)
        self.fit("nonpad_kv_seqlen", nonpad, (batch,))
        return h

    def _unpacked(self, fact: Fact, i: int) -> Shape:
        """The shape of Q, K or V as (batch, heads, length, head size)."""
        attribute = "kv_num_heads" if i else "q_num_heads"
        heads = self.attr(attribute)
        if fact.rank == 4:
            if heads is not None and self.version >= 25:
                raise self.fail(f"attribute {attribute} is for inputs of rank 3, got {NAMES[i]} {fact}")
            return fact.shape
        if heads is None or heads < 1:
            raise self.fail(f"attribute {attribute}: expected at least 1 with inputs of rank 3, got {heads}")
        batch, length, width = fact.shape
        return batch, heads, length, self.split_width(NAMES[i], width, heads)

    def _past(
        self, past_k: Fact | None, past_v: Fact | None, batch: Dim, heads: Dim, head: Dim, v_head: Dim
    ) -> Dim:
        """How many keys lie in the past."""
        if past_k is None or past_v is None:
            return 0
        self.fit("past_key", past_k, (batch, heads, None, head))
        self.fit("past_value", past_v, (batch, heads, None, v_head))
        lengths = (f.shape[2] for f in (past_k, past_v) if f.shape is not None)
        return self.same("length of past_key and past_value", *lengths)

    def _check_mask(self, mask: Fact | None, scores: Shape) -> None:
        if mask is None or mask.shape is None:
            return
        shape = mask.shape
        if self.version >= 24 and shape and _shorter(shape[-1], scores[-1]):
            shape = (*shape[:-1], scores[-1])
        pairs = zip(reversed(shape), reversed(scores), strict=False)
        fits = all(a == 1 or not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in pairs)
        if len(shape) > 4 or not fits:
            expected = ", ".join("?" if d is None else str(d) for d in scores)
            raise self.fail(f"input attn_mask: expected a shape that broadcasts to [{expected}], got {mask}")

    def evaluate(self, q, k, v, mask=None, past_key=None, past_value=None, nonpad=None):
        packed = q.ndim == 3
        if packed:
            q = split_heads(q, self.attr("q_num_heads"))
            k, v = (split_heads(x, self.attr("kv_num_heads")) for x in (k, v))
        past = 0 if past_key is None else past_key.shape[2]
        if past_key is not None:
            k, v = np.concatenate((past_key, k), axis=2), np.concatenate((past_value, v), axis=2)
        bias = self.bias(q.dtype, q.shape[2], k.shape[2], mask, past, nonpad)
        probabilities, shown = self._weights(scaled_scores(q, k, self.attr("scale")), bias)
        common = np.float64 if np.float64 in (q.dtype, v.dtype) else np.float32
        if v.dtype == q.dtype:
            y = grouped_matmul(probabilities, v)
        else:
            y = grouped_matmul(probabilities.astype(common), v.astype(common)).astype(q.dtype)
        return [join_heads(y) if packed else y, k, v, shown][: len(self.node.outputs)]

    def _weights(self, scores: Array, bias: Array | None) -> tuple[Array, Array]:
        """The weights of the values, and what qk_matmul_output_mode asks to show, both in the dtype of `scores`."""
        shown, dtype = [scores], scores.dtype
        softcap = self.attr("softcap", 0.0)
        if softcap > 0:
            cap = dtype.type(softcap)
            scores = np.tanh(wide(scores / cap)).astype(dtype) * cap
        shown.append(scores)
        if bias is not None:
            scores = scores + bias
        shown.append(scores)
        precision = self.attr("softmax_precision")
        weights = softmax_rows(scores if precision is None else scores.astype(from_onnx(precision)))
        weights = weights.astype(dtype, copy=False)
        if bias is not None:
            blind = np.isneginf(wide(bias).max(axis=-1, keepdims=True, initial=-np.inf))
            weights = np.where(blind, dtype.type(0), weights)
        shown.append(weights)
        return weights, shown[self.attr("qk_matmul_output_mode", RAW)]

    def lower(self, b: Lowering) -> bool:
        """In float32, where masks and lengths are known or masks need no filling up, and no scores are asked for."""
        past_k, past_v, nonpad = (b.ins[i] if i < len(b.ins) else None for i in range(4, 7))
        if any(f is not None and f.dtype != np.float32 for f in (*b.ins[:3], past_k, past_v)):
            return False
        if (nonpad is not None and nonpad.value is None) or b.wants(3) or not all(map(b.has, KERNELS)):
            return False
        if self.attr("softmax_precision", 1) != 1:
            return False
        packed = b.ins[0].rank == 3
        q, y = (split_layout(x, self.attr("q_num_heads"), packed) for x in (layout_in(b, 0), layout_out(b)))
        k, v = (self._keys(b, i, packed) for i in (1, 2))
        steps = AttentionSteps(b, q, k, v, y)
        softcap, scale = self.attr("softcap", 0.0), self.attr("scale")
        if scale is None:
            scale = 1 / math.sqrt(steps.head)
        steps.score(scale / softcap if softcap > 0 else scale)
        if softcap > 0:
            steps.cap(softcap)
        return self._lower_weights(b, steps, 0 if past_k is None else past_k.shape[2], nonpad)

    def _keys(self, b: Lowering, i: int, packed: bool) -> Layout:
        """Keys (1) or values (2), the past before them, where they lie or are put together."""
        new = split_layout(layout_in(b, i), self.attr("kv_num_heads"), packed)
        if len(b.ins) <= 3 + i or b.ins[3 + i] is None:
            if b.wants(i) and packed:
                copy(b, layout_out(b, i), new)
            elif b.wants(i):
                b.alias(i, i)
            return new
        past = layout_in(b, 3 + i)
        batch, heads, length, size = past.array.shape
        shape = (batch, heads, length + new.array.shape[2], size)
        both = (
            layout_out(b, i)
            if b.wants(i)
            else Layout.of(b.temp(4 * math.prod(shape)), past.array.dtype, shape)
        )
        copy(b, both[:, :, :length], past)
        copy(b, both[:, :, length:], new)
        return both

    def _lower_weights(self, b: Lowering, steps: AttentionSteps, past: int, nonpad: Fact | None) -> bool:
        """From scores to the result; False where the mask cannot be had in time."""
        mask = b.ins[3] if len(b.ins) > 3 else None
        lengths = None if nonpad is None else nonpad.value
        blind: tuple[Ref, Shape] | None = None
        if mask is not None and mask.value is None:
            if mask.dtype not in (np.float32, np.bool_) or mask.shape[-1:] != (steps.kv_len,):
                return False
            visible = self._visible(steps.q_len, steps.kv_len, past, lengths)
            bias = steps.mask(b.input(3), mask.shape, visible, logical=mask.dtype == np.bool_)
            blind = steps.blind_rows(*bias)
            steps.add(*bias)
        else:
            value = None if mask is None else mask.value
            known = self.bias(np.dtype(np.float32), steps.q_len, steps.kv_len, value, past, lengths)
            if known is not None:
                rows = np.isneginf(known.max(axis=-1, keepdims=True))
                blind = (b.const(rows), rows.shape) if rows.any() else None
                steps.add(b.const(known), known.shape)
        steps.softmax()
        if blind is not None:
            steps.clear(*blind)
        steps.apply()
        return True

    def bias(
        self, dtype: np.dtype, q_len: int, kv_len: int, mask: Array | None, past: int, nonpad: Array | None
    ) -> Array | None:
        """What is added to the scores, in `dtype`: it broadcasts to them and has their last axis; None for zeros."""
        visible = self._visible(q_len, kv_len, past, nonpad)
        if mask is None:
            return None if visible is None else _minus_inf(visible, dtype)
        bias = _minus_inf(mask, dtype) if mask.dtype == np.bool_ else mask.astype(dtype)
        short = kv_len - bias.shape[-1] if bias.ndim else 0
        if short > 0 and self.version >= 24:
            rest = np.full((*bias.shape[:-1], short), -np.inf, dtype)
            bias = np.concatenate((bias, rest), axis=-1)
        if visible is not None:
            bias = bias + _minus_inf(visible, dtype)
        return np.broadcast_to(bias, (*bias.shape[:-1], kv_len))

    def _visible(self, q_len: int, kv_len: int, past: int, nonpad: Array | None) -> Array | None:
        """Which keys a query may see by position: bool [batch or 1, 1, q_len, kv_len], None for all.

        A query's own position is that of the key `past` places on, or counted from the last valid key.
        """
        causal, left = bool(self.attr("is_causal", 0)), self.attr("left_window_size", -1)
        right = self.attr("right_window_size", -1)
        if not (causal or left >= 0 or right >= 0) and nonpad is None:
            return None
        key = np.arange(kv_len)
        valid = None if nonpad is None else np.reshape(nonpad, (-1, 1, 1, 1))
        query = np.arange(q_len)[:, None] + (past if valid is None else valid - q_len)
        visible = np.ones((1, 1, q_len, kv_len), np.bool_) if valid is None else key < valid
        if causal:
            visible = visible & (key <= query)
        if left >= 0:
            visible = visible & (query - left <= key)
        if right >= 0:
            visible = visible & (key <= query + right)
        return visible


def split_layout(x: Layout, heads: int | None, packed: bool) -> Layout:
    """Heads that lie side by side in the last axis as an axis of their own; others as they are."""
    return x.seen(split_heads(x.array, heads)) if packed and heads else x


def _minus_inf(allowed: Array, dtype: np.dtype) -> Array:
    """0 where allowed, else -inf."""
    return np.where(allowed, dtype.type(0), dtype.type(-np.inf))


def _shorter(a: Dim, b: Dim) -> bool:
    return isinstance(a, int) and isinstance(b, int) and a < b
