"""Normalization over channels in channel-blocked layout; each emits nothing where it does not apply."""

from __future__ import annotations

import math

from tilewise.ops.blocked.steps import is_blocked
from tilewise.ops.layout import BLOCKED, VECTOR, block_count, pack_channels
from tilewise.ops.lowering import Lowering, Ref, chunks

GRAIN = 1 << 13
"""Floats that a task writes, about."""


def lrn_blocked(b: Lowering, reach: tuple[int, int], coefficients: tuple[float, float, float]) -> bool:
    """`LRN` over `reach` channels before and behind; coefficients: alpha by channel, beta, bias."""
    if not is_blocked(b) or max(reach) > VECTOR:
        return False
    shape = b.ins[0].shape
    places = math.prod(shape[2:])
    grain = min(places, GRAIN // VECTOR)
    tasks = shape[0] * block_count(shape[1]) * chunks(places, grain)
    sizes = (shape[1], places, grain)
    b.step("blocked_lrn", tasks, b.output(0, BLOCKED), b.input(0, BLOCKED), *sizes, *reach, *coefficients)
    return True


def channels_blocked(b: Lowering, epsilon: float) -> bool:
    """`ChannelNormalization` with constant scale and bias."""
    if not is_blocked(b) or any(b.given(i) and b.value(i) is None for i in (1, 2)):
        return False
    shape = b.ins[0].shape
    places = math.prod(shape[2:])
    grain = max(1, min(places, GRAIN // (block_count(shape[1]) * VECTOR)))
    scale, bias = (_parameter(b, i) for i in (1, 2))
    args = (b.output(0, BLOCKED), b.input(0, BLOCKED), shape[1], places, grain, scale, bias, float(epsilon))
    b.step("blocked_normalize", shape[0] * chunks(places, grain), *args)
    b.inplace(0, 0, BLOCKED)
    return True


def _parameter(b: Lowering, i: int) -> Ref | int:
    """Input `i`, one number a channel, filled up to whole blocks; 0 where it is left out."""
    return b.packed(i, "channels", lambda: pack_channels(b.value(i))) if b.given(i) else 0
