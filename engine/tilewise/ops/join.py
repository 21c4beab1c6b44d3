"""Operators that put arrays together."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, Shape, merge_dims
from tilewise.ops.base import Inputs, Op
from tilewise.ops.blocked.steps import concat_blocked
from tilewise.ops.lowering import Lowering
from tilewise.ops.strided import copy, layout_in, layout_out


class Concat(Op):
    """Inputs one after the other along `axis` (ONNX Concat, opset 4)."""

    attributes = frozenset({"axis"})

    def infer(self, ins: Inputs) -> list[Fact]:
        facts = [f or UNKNOWN for f in ins]
        dtypes = {f.dtype for f in facts if f.dtype is not None}
        if len(dtypes) > 1:
            raise self.fail(f"expected inputs of one type, got {', '.join(sorted(str(d) for d in dtypes))}")
        dtype = next(iter(dtypes), None)
        ranks = {len(f.shape) for f in facts if f.shape is not None}
        if len(ranks) > 1:
            raise self.fail(f"expected inputs of one rank, got {', '.join(map(str, facts))}")
        if not ranks:
            return [Fact(dtype)]
        rank = ranks.pop()
        axis = self.axis(self.attr("axis"), rank)
        shapes = [f.shape if f.shape is not None else (None,) * rank for f in facts]
        dims = [self._dim([s[i] for s in shapes], i == axis, shapes) for i in range(rank)]
        return [Fact(dtype, tuple(dims))]

    def _dim(self, dims: list[Dim], joined: bool, shapes: list[Shape]) -> Dim:
        if joined:
            sizes = [d for d in dims if isinstance(d, int)]
            return dims[0] if len(dims) == 1 else sum(sizes) if len(sizes) == len(dims) else None
        out: Dim = None
        for dim in dims:
            if isinstance(dim, int) and isinstance(out, int) and dim != out:
                raise self.fail(f"expected shapes that agree but for axis {self.attr('axis')}, got {shapes}")
            out = merge_dims(out, dim)
        return out

    def evaluate(self, *inputs):
        return [np.concatenate(inputs, self.attr("axis"))]

    def lower(self, b: Lowering) -> bool:
        if len(b.ins) == 1:
            b.alias(0, 0)
            return True
        axis = self.attr("axis") % len(b.outs[0].shape)
        if concat_blocked(b, axis):
            return True
        out, start = layout_out(b), 0
        for i in range(len(b.ins)):
            part = layout_in(b, i)
            stop = start + part.array.shape[axis]
            target = out[(slice(None),) * axis + (slice(start, stop),)]
            if target.ref != part.ref:
                copy(b, target, part)
            start = stop
        return True
