"""Attention by loops over batch, heads, queries and keys, in float64."""

from __future__ import annotations

import math

import numpy as np


def split(x, heads):
    """[batch, length, heads * size] as [batch, heads, length, size]."""
    return np.stack(np.split(x, heads, axis=2), axis=1)


def naive_attention(opset=25, **attrs):
    """An oracle of ONNX Attention for `harness.check`: y, keys, values, and what the mode shows."""

    def run(q, k, v, mask=None, past_k=None, past_v=None, nonpad=None):
        dtype, packed = q.dtype, q.ndim == 3
        if packed:
            q = split(q, attrs["q_num_heads"])
            k, v = split(k, attrs["kv_num_heads"]), split(v, attrs["kv_num_heads"])
        past = 0
        if past_k is not None:
            past = past_k.shape[2]
            k, v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
        y, shown = _heads(q, k, v, _added(mask, q, k, opset), past, nonpad, attrs)
        if packed:
            y = np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)
        return [y.astype(dtype), k, v, shown.astype(dtype)]

    return run


def _added(mask, q, k, opset):
    """The mask as numbers for every score."""
    shape = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if mask is None:
        return np.zeros(shape)
    if mask.dtype == bool:
        mask = np.where(mask, 0.0, -np.inf)
    mask = mask.astype(np.float64)
    if opset >= 24 and mask.ndim and mask.shape[-1] < shape[-1]:
        rest = np.full((*mask.shape[:-1], shape[-1] - mask.shape[-1]), -np.inf)
        mask = np.concatenate([mask, rest], -1)
    return np.broadcast_to(mask, shape)


def _heads(q, k, v, added, past, nonpad, attrs):
    batch, heads, length, size = q.shape
    scale = attrs.get("scale", 1 / math.sqrt(size))
    y = np.zeros((batch, heads, length, v.shape[3]))
    shown = np.zeros((batch, heads, length, k.shape[2]))
    for b in range(batch):
        for h in range(heads):
            g = h * k.shape[1] // heads
            for i in range(length):
                position = i + past if nonpad is None else i + int(nonpad[b]) - length
                limit = k.shape[2] if nonpad is None else int(nonpad[b])
                forms = _row(q[b, h, i], k[b, g], added[b, h, i], scale, position, limit, attrs)
                shown[b, h, i] = forms[attrs.get("qk_matmul_output_mode", 0)]
                for j, p in enumerate(forms[3]):
                    y[b, h, i] += p * v[b, g, j].astype(np.float64)
    return y, shown


def _row(q, keys, added, scale, position, limit, attrs):
    """Scores of one query: raw, capped, with the bias, and as probabilities."""
    raw, capped, biased = [], [], []
    cap = attrs.get("softcap", 0.0)
    for j, key in enumerate(keys):
        raw.append(scale * float(np.dot(q.astype(np.float64), key.astype(np.float64))))
        capped.append(cap * math.tanh(raw[-1] / cap) if cap else raw[-1])
        seen = j < limit and not (attrs.get("is_causal") and j > position)
        left, right = attrs.get("left_window_size", -1), attrs.get("right_window_size", -1)
        seen = seen and not (left >= 0 and j < position - left) and not (right >= 0 and j > position + right)
        biased.append(capped[-1] + added[j] if seen else -math.inf)
    top = max(biased, default=-math.inf)
    exps = [0.0 if top == -math.inf else math.exp(x - top) for x in biased]
    return raw, capped, biased, [e / (sum(exps) or 1.0) for e in exps]
