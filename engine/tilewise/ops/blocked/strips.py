"""Strips of rows: what stands between two convolutions is made and used while it is in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tilewise.graph import Fact, Node
from tilewise.ops.lowering import Lowering, chunks

STRIP_FLOATS = 1 << 18
"""Floats that are written between the two while one strip is made, so that they stay in the second-level cache."""
MAX_STRIPS = 64


def strips(images: int, rows: int, row_floats: int) -> list[tuple[int, int, int]]:
    """(image, first, last) of strips of `rows` rows; one alone where there is nothing to gain."""
    count = min(rows, chunks(rows * row_floats, STRIP_FLOATS))
    if count == 1 or images * count > MAX_STRIPS:
        return [(0, 0, rows)]
    cuts = [i * rows // count for i in range(count + 1)]
    return [(n, a, b) for n in range(images) for a, b in pairwise(cuts)]


def reader_is_depthwise(b: Lowering) -> bool:
    """True where output 0 goes to a depthwise convolution alone."""
    found = _reading_conv(b)
    return found is not None and found[0].attrs.get("group", 1) == b.outs[0].shape[1]


def reader_is_pointwise(b: Lowering) -> bool:
    """True where output 0 goes to a 1x1 convolution of stride 1 alone."""
    found = _reading_conv(b)
    if found is None or found[0].attrs.get("group", 1) != 1:
        return False
    node, (_, w, *_) = found
    plain = not any(node.attrs.get("pads") or ()) and all(s == 1 for s in node.attrs.get("strides") or ())
    return plain and w is not None and w.known_shape and all(k == 1 for k in w.shape[2:])


def _reading_conv(b: Lowering) -> tuple[Node, Sequence[Fact | None]] | None:
    """The convolution that alone reads output 0, as its image."""
    found = b.sole_reader()
    if (
        found is None
        or found[0].op_type not in ("Conv", "FusedConv")
        or found[0].inputs[0] != b.node.outputs[0]
    ):
        return None
    return found
