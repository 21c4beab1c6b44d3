"""Operators whose outputs are views of their first input: nothing is computed, at most copied."""

from __future__ import annotations

from collections.abc import Sequence

from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs, Op
from tilewise.ops.blocked.move import view_channels
from tilewise.ops.lowering import Lowering
from tilewise.ops.parameters import facts_of
from tilewise.ops.strided import Layout, blank, copy, distance, is_contiguous, layout_in


class View(Op):
    """Base of operators that rearrange, repeat or select elements of input 0; other inputs are parameters."""

    empty_constants = True

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        """One view of `x` for each output, with its elements in its order; the shape may be finer.

        x: C-contiguous, not to be read. ins: facts with the content of all parameters. shapes: as inferred.
        """
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, x: Array, *parameters: Array | None) -> list[Array]:
        ins = [*facts_of([x]), *facts_of(parameters)]
        shapes = [fact.shape for fact in self.infer(ins)]
        return [v.reshape(s) for v, s in zip(self.views(x, ins, shapes), shapes, strict=True)]

    def lower(self, b: Lowering) -> bool:
        if any(f is not None and f.value is None for f in b.ins[1:]):
            return False
        shapes = [None if f is None else f.shape for f in b.outs]
        if b.lies_blocked(0):
            image = blank(b.ins[0])
            if view_channels(b, image, self.views(image, b.ins, shapes)):
                return True
        source = layout_in(b, 0)
        views = self.views(source.array, b.ins, shapes)
        for i, view in enumerate(views):
            if not b.wants(i):
                continue
            if is_contiguous(view):
                b.alias(i, 0, distance(source.array, view))
            else:
                copy(b, Layout.of(b.output(i), view.dtype, view.shape), source.seen(view))
        return True
