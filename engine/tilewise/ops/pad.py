"""Operators that crop and pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.lowering import Lowering
from tilewise.ops.parameters import facts_of, ints, is_unknown
from tilewise.ops.strided import Layout, copy, fill, layout_in, layout_out

Pads = list[tuple[int, int]]
"""Elements added (removed where negative) before and after, for each axis."""


class Padding(Op):
    """Base of operators that crop and pad axes."""

    @property
    def mode(self) -> str:
        """constant, reflect, edge or wrap."""
        return "constant"

    def pads(self, shape: Shape, ins: Inputs) -> Pads | None:
        """What is added and removed, or None where it is not known."""
        raise NotImplementedError(type(self).__name__)

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.shape is None:
            return [Fact(x.dtype)]
        pads = self.pads(x.shape, ins)
        if pads is None:
            return [Fact(x.dtype, (None,) * len(x.shape))]
        return [Fact(x.dtype, tuple(self._dim(d, *p) for d, p in zip(x.shape, pads, strict=True)))]

    def _dim(self, dim: Dim, before: int, after: int) -> Dim:
        if not isinstance(dim, int):
            return dim if before == after == 0 else None
        left = dim + min(before, 0) + min(after, 0)
        if left < 0:
            raise self.fail(f"pads ({before}, {after}) remove more than the {dim} elements of an axis")
        if left == 0 and self.mode != "constant" and max(before, after) > 0:
            raise self.fail(f"mode {self.mode!r} cannot pad an axis of no elements")
        return left + max(before, 0) + max(after, 0)

    def padded(self, x: Array, pads: Pads, constant: Array | None) -> Array:
        """`x` cropped and padded; `constant` has one element, zero where it is None."""
        x = x[_cropped(x.shape, pads)]
        if self.mode == "constant":
            out = np.empty(
                [n + max(a, 0) + max(z, 0) for n, (a, z) in zip(x.shape, pads, strict=True)], x.dtype
            )
            out[...] = _default(x.dtype) if constant is None else constant.reshape(())
            out[_interior(x.shape, pads)] = x
            return out
        for axis, pad in enumerate(pads):
            x = np.take(x, _sources(x.shape[axis], pad, self.mode), axis)
        return x

    def lower_padding(self, b: Lowering, constant: int | None) -> bool:
        """Copy the interior, then the margins of each axis in turn, from the innermost on.

        constant: the input that holds what the margins are filled with; None for zero.
        """
        x, y = layout_in(b, 0), layout_out(b)
        pads = self.pads(x.array.shape, b.ins)
        if pads is None:
            return False
        if not any(a or z for a, z in pads):
            b.alias(0, 0)
            return True
        x = x[_cropped(x.array.shape, pads)]
        interior = list(_interior(x.array.shape, pads))
        if x.array.size == 0:
            fill(b, y, self._constant(b, constant))
            return True
        copy(b, y[tuple(interior)], x)
        for axis in reversed(range(len(pads))):
            self._margins(b, y, interior, axis, x.array.shape[axis], pads[axis], constant)
            interior[axis] = slice(None)
        return True

    def _margins(
        self, b: Lowering, y: Layout, interior: list[slice], axis: int, n: int, pad: tuple[int, int], constant
    ) -> None:
        """Fill what lies before and after `interior` along `axis`; `n` elements are in between."""

        def along(part: slice) -> Layout:
            return y[(*interior[:axis], part, *interior[axis + 1 :])]

        before, after = max(pad[0], 0), max(pad[1], 0)
        for start, count in ((0, before), (before + n, after)):
            if not count:
                continue
            if self.mode == "constant":
                fill(b, along(slice(start, start + count)), self._constant(b, constant))
                continue
            sources = _sources(n, (before, after), self.mode)[start : start + count] + before
            for at, first, run, step in _runs(sources):
                part = along(slice(start + at, start + at + run))
                source = along(_span(first, run, step))
                copy(b, part, source.seen(np.broadcast_to(source.array, part.array.shape)))

    def _constant(self, b: Lowering, i: int | None):
        assert b.ins[0] is not None
        return b.const(np.zeros((), b.ins[0].dtype)) if i is None else b.input(i)


def _cropped(shape: Sequence[int], pads: Pads) -> tuple[slice, ...]:
    return tuple(slice(max(-a, 0), n - max(-z, 0)) for n, (a, z) in zip(shape, pads, strict=True))


def _interior(shape: Sequence[int], pads: Pads) -> tuple[slice, ...]:
    return tuple(slice(max(a, 0), max(a, 0) + n) for n, (a, _) in zip(shape, pads, strict=True))


def _sources(n: int, pad: tuple[int, int], mode: str) -> np.ndarray:
    """For each element of a padded axis, the element of the `n` unpadded ones that it repeats."""
    before, after = max(pad[0], 0), max(pad[1], 0)
    at = np.arange(-before, n + after)
    if mode == "edge" or n == 1:
        return at.clip(0, n - 1)
    if mode == "wrap":
        return at % n
    at = abs(at) % (2 * n - 2)
    return np.minimum(at, 2 * n - 2 - at)


def _runs(sources: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Sources as (position, first source, length, step) of runs with steps -1, 0 or 1."""
    out: list[tuple[int, int, int, int]] = []
    for i, source in enumerate(sources.tolist()):
        if out:
            at, first, run, step = out[-1]
            jump = source - (first + (run - 1) * step)
            if (run == 1 and abs(jump) <= 1) or (run > 1 and jump == step):
                out[-1] = (at, first, run + 1, jump)
                continue
        out.append((i, source, 1, 1))
    return out


def _span(first: int, run: int, step: int) -> slice:
    """The elements first, first + step, ...; one of them for step 0."""
    if step == 0:
        return slice(first, first + 1)
    stop = first + run * step
    return slice(first, None if stop < 0 else stop, step)


def _default(dtype: np.dtype) -> object:
    return "" if dtype.hasobject else np.zeros((), dtype)


class Pad(Padding):
    """Each axis padded by a constant, its reflection, its edge or itself (ONNX Pad).

    Pads and value are attributes before opset 11; `axes` came with 18, mode wrap with 19. Negative pads crop.
    """

    attributes = frozenset({"mode", "pads", "value"})

    def unsupported(self) -> str | None:
        known = (
            ("constant", "reflect", "edge") if self.version < 19 else ("constant", "reflect", "edge", "wrap")
        )
        if self.mode not in known:
            return f"attribute 'mode' = {self.mode!r}, expected one of {', '.join(known)}"
        return None

    @property
    def mode(self) -> str:
        return self.attr("mode", "constant")

    def pads(self, shape: Shape, ins: Inputs) -> Pads | None:
        flat = ints(self, ins, 1, "pads")
        if flat is None or is_unknown(self, ins, 3, "axes"):
            return None
        axes = ints(self, ins, 3, "axes")
        axes = list(range(len(shape))) if axes is None else list(self.axes(axes, len(shape)))
        if len(flat) != 2 * len(axes):
            raise self.fail(f"expected {2 * len(axes)} pads for {len(axes)} axes, got {flat}")
        pads = [(0, 0)] * len(shape)
        for i, axis in enumerate(axes):
            pads[axis] = (flat[i], flat[len(axes) + i])
        return pads

    def evaluate(self, x, pads=None, constant=None, axes=None):
        ins = facts_of((x, pads, constant, axes))
        self.infer(ins)
        if constant is None and self.attr("value") is not None:
            constant = np.array(self.attr("value"), x.dtype)
        return [self.padded(x, self.pads(x.shape, ins) or [], constant)]

    def lower(self, b: Lowering) -> bool:
        return self.lower_padding(b, 2 if len(b.ins) > 2 and b.ins[2] is not None else None)

    def _constant(self, b: Lowering, i: int | None):
        value = self.attr("value")
        if i is None and value:
            assert b.ins[0] is not None
            return b.const(np.array(value, b.ins[0].dtype))
        return super()._constant(b, i)


class CenterCropPad(Padding):
    """The center of each axis cut or padded with zeros to the dims in input 1 (ONNX CenterCropPad, opset 18)."""

    attributes = frozenset({"axes"})

    def _axes(self, rank: int) -> tuple[int, ...]:
        axes = self.attr("axes")
        return self.axes(range(rank) if axes is None else axes, rank)

    def pads(self, shape: Shape, ins: Inputs) -> Pads | None:
        target = values(ins[1])
        if target is None:
            return None
        axes = self._axes(len(shape))
        if len(target) != len(axes) or min(target, default=0) < 0:
            raise self.fail(f"expected {len(axes)} dims >= 0, one for each axis, got {target}")
        pads = [(0, 0)] * len(shape)
        for axis, new in zip(axes, target, strict=True):
            dim = shape[axis]
            if not isinstance(dim, int):
                return None
            more = new - dim
            first = more // 2 if more > 0 else -(-more // 2)
            pads[axis] = (first, more - first)
        return pads

    def infer(self, ins: Inputs) -> list[Fact]:
        x, target = ins[0] or UNKNOWN, values(ins[1])
        if x.shape is None or target is None:
            return super().infer(ins)
        self.pads(x.shape, ins)
        dims = list(x.shape)
        for axis, dim in zip(self._axes(len(dims)), target, strict=True):
            dims[axis] = dim
        return [Fact(x.dtype, tuple(dims))]

    def evaluate(self, x, shape):
        ins = facts_of((x, shape))
        self.infer(ins)
        return [self.padded(x, self.pads(x.shape, ins) or [], None)]

    def lower(self, b: Lowering) -> bool:
        return self.lower_padding(b, None)
