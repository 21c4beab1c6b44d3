"""Offsets in the arena from lifetimes."""

from __future__ import annotations

from collections.abc import Sequence

from tilewise.ops.lowering import Buffer

ALIGNMENT = 64


def align(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def assign_offsets(buffers: Sequence[Buffer]) -> int:
    """Give every buffer an offset such that no two alive at the same step overlap; return the arena's bytes.

    Greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): the
    largest first, each in the smallest gap that holds it between those placed already that live at the same time.
    """
    placed: list[Buffer] = []
    total = 0
    for buffer in sorted(buffers, key=lambda b: (-b.nbytes, b.first)):
        size = align(buffer.nbytes)
        best, best_gap, cursor = -1, 0, 0
        for other in placed:  # in order of offset
            if other.last < buffer.first or other.first > buffer.last:
                continue
            gap = other.offset - cursor
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = cursor, gap
            cursor = max(cursor, other.offset + align(other.nbytes))
        buffer.offset = best if best >= 0 else cursor
        total = max(total, buffer.offset + size)
        _insert(placed, buffer)
    return total


def _insert(placed: list[Buffer], buffer: Buffer) -> None:
    low, high = 0, len(placed)
    while low < high:
        middle = (low + high) // 2
        if placed[middle].offset < buffer.offset:
            low = middle + 1
        else:
            high = middle
    placed.insert(low, buffer)
