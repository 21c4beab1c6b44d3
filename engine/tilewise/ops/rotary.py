"""Rotary positional embedding (ONNX RotaryEmbedding)."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.attention_heads import HeadsOp, join_heads, split_heads
from tilewise.ops.base import Array, Inputs
from tilewise.ops.elementwise import wide


class RotaryEmbedding(HeadsOp):
    """Pairs of elements of every head turned by the angle of the token's position (ONNX RotaryEmbedding, opset 23).

    X [batch, heads, length, head] or [batch, length, heads * head]. The first rotary_embedding_dim elements of a head
    (0: all) form pairs, of the two halves or, if interleaved, of neighbours: (a, b) becomes
    (cos a - sin b, sin a + cos b). cos_cache, sin_cache [positions, pairs] with position_ids int64 [batch, length], or
    [batch, length, pairs] without. y like X.
    """

    attributes = frozenset({"interleaved", "num_heads", "rotary_embedding_dim"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, cos, sin = (self.float_input(ins, i, n) for i, n in enumerate(("X", "cos_cache", "sin_cache")))
        ids = ins[3] if len(ins) > 3 else None
        dtype = self.common_dtype({"X": x, "cos_cache": cos, "sin_cache": sin})
        if x.shape is None:
            return [Fact(dtype)]
        batch, length, head = self._sizes(x)
        dim = self.attr("rotary_embedding_dim", 0) or head
        if isinstance(dim, int) and (dim % 2 or (isinstance(head, int) and not 0 <= dim <= head)):
            raise self.fail(
                f"expected an even number of elements to rotate, at most {head} of X {x}, got {dim}"
            )
        pairs = dim // 2 if isinstance(dim, int) else None
        shape: Shape = (batch, length, pairs) if ids is None else (None, pairs)
        self.fit("cos_cache", cos, shape)
        self.fit("sin_cache", sin, shape)
        self.fit("position_ids", ids, (batch, length))
        return [Fact(dtype, x.shape)]

    def _sizes(self, x: Fact) -> tuple[Dim, Dim, Dim]:
        """(batch, length, head size)."""
        if x.rank == 4:
            return x.shape[0], x.shape[2], x.shape[3]
        if x.rank != 3:
            raise self.fail(f"input X: expected rank 3 or 4, got {x}")
        heads = self.attr("num_heads", 0)
        if heads < 1:
            raise self.fail(f"attribute num_heads: expected at least 1 with X of rank 3, got {heads}")
        return x.shape[0], x.shape[1], self.split_width("X", x.shape[2], heads)

    def evaluate(self, x, cos, sin, ids=None):
        if ids is not None:
            cos, sin = (_rows(cache, ids) for cache in (cos, sin))
        heads = split_heads(x, self.attr("num_heads")) if x.ndim == 3 else x
        dim = self.attr("rotary_embedding_dim", 0) or heads.shape[3]
        if self.attr("interleaved", 0):
            first, second = slice(0, dim, 2), slice(1, dim, 2)
        else:
            first, second = slice(0, dim // 2), slice(dim // 2, dim)
        a, b = wide(heads[..., first]), wide(heads[..., second])
        c, s = wide(cos)[:, None], wide(sin)[:, None]
        y = heads.copy()
        y[..., first] = c * a - s * b
        y[..., second] = s * a + c * b
        return [join_heads(y) if x.ndim == 3 else y]


def _rows(cache: Array, ids: Array) -> Array:
    """Rows of a cache by position."""
    if ids.size and (ids.min() < 0 or ids.max() >= len(cache)):
        raise ValueError(f"position_ids: expected 0 to {len(cache) - 1}, got {ids.min()} to {ids.max()}")
    return np.take(cache, ids, axis=0)
