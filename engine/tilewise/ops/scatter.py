"""Operators that write into a copy of an array by index."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.index import check_elements, element_index, nd_depth

_REDUCTIONS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


class Writing(Op):
    """Base of operators that write updates (input 2) into input 0 by indices (input 1)."""

    def unsupported(self) -> str | None:
        reduction = self.attr("reduction", "none")
        if reduction != "none" and reduction not in _REDUCTIONS:
            return f"attribute 'reduction' = {reduction!r}, expected none or one of {', '.join(_REDUCTIONS)}"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        x, indices, updates = (f or UNKNOWN for f in ins)
        if x.dtype is not None and updates.dtype is not None and x.dtype != updates.dtype:
            raise self.fail(f"expected updates of type {x.dtype}, got {updates.dtype}")
        self.check(x, indices, updates)
        return [x.without_value()]

    def check(self, x: Fact, indices: Fact, updates: Fact) -> None:
        """Raise where the shapes do not fit."""
        raise NotImplementedError(type(self).__name__)

    def written(self, x: Array, index: tuple[Array, ...], updates: Array) -> Array:
        """`x` with `updates` at `index`; where an element is written more than once, the last or the reduced one."""
        out = x.copy()
        reduction = self.attr("reduction", "none")
        if reduction == "none":
            out[index] = updates
        else:
            _REDUCTIONS[reduction].at(out, index, updates)
        return out

    def evaluate(self, x, indices, updates):
        self.infer([Fact.of(x), Fact.of(indices), Fact.of(updates)])
        return [self.written(x, self.address(x, indices), updates)]

    def address(self, x: Array, indices: Array) -> tuple[Array, ...]:
        """Where the updates go, as NumPy indexes."""
        raise NotImplementedError(type(self).__name__)


class ScatterElements(Writing):
    """Each update at its own position, but on `axis` where its index says (ONNX ScatterElements, opset 11).

    Reductions add and mul came with opset 16, max and min with 18.
    """

    attributes = frozenset({"axis", "reduction"})

    def check(self, x: Fact, indices: Fact, updates: Fact) -> None:
        check_elements(self, x, indices)
        if indices.known_shape and updates.known_shape and indices.shape != updates.shape:
            raise self.fail(f"expected updates of the indices' shape {indices.shape}, got {updates.shape}")

    def address(self, x: Array, indices: Array) -> tuple[Array, ...]:
        return element_index(self, x.shape, indices)


class Scatter(ScatterElements):
    """ScatterElements under its first name (ONNX Scatter, opsets 9 and 10)."""

    attributes = frozenset({"axis"})


class ScatterND(Writing):
    """Slices addressed by the tuples in the last axis of the indices (ONNX ScatterND, opset 11).

    Reductions add and mul came with opset 16, max and min with 18.
    """

    attributes = frozenset({"reduction"})

    def check(self, x: Fact, indices: Fact, updates: Fact) -> None:
        depth = nd_depth(self, x, indices)
        if depth is None or x.shape is None or indices.shape is None or updates.shape is None:
            return
        expected = (*indices.shape[:-1], *x.shape[depth:])
        fits = len(expected) == len(updates.shape) and all(
            not isinstance(a, int) or not isinstance(b, int) or a == b
            for a, b in zip(expected, updates.shape, strict=True)
        )
        if not fits:
            raise self.fail(f"expected updates of shape {expected}, got {updates.shape}")

    def address(self, x: Array, indices: Array) -> tuple[Array, ...]:
        return tuple(np.moveaxis(indices, -1, 0))


class TensorScatter(Op):
    """A cache with `update` written along `axis`, from where each sample says (ONNX TensorScatter, opset 24)."""

    attributes = frozenset({"axis", "mode"})

    def unsupported(self) -> str | None:
        mode = self.attr("mode", "linear")
        return (
            None
            if mode in ("linear", "circular")
            else f"attribute 'mode' = {mode!r}, expected linear or circular"
        )

    def infer(self, ins: Inputs) -> list[Fact]:
        cache, update = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        if cache.shape is not None and self._axis(len(cache.shape)) == 0:
            raise self.fail("expected an axis other than 0, the batch")
        if cache.known_shape and update.known_shape:
            axis = self._axis(len(cache.shape or ()))
            fits = len(cache.shape or ()) == len(update.shape or ()) and all(
                m == n or (i == axis and m < n)  # type: ignore[operator]
                for i, (n, m) in enumerate(zip(cache.shape or (), update.shape or (), strict=True))
            )
            if not fits:
                raise self.fail(
                    f"expected an update inside {cache.shape}, shorter on axis {axis}, got {update.shape}"
                )
        return [cache.without_value()]

    def _axis(self, rank: int) -> int:
        return self.axis(self.attr("axis", -2), rank)

    def evaluate(self, cache, update, starts=None):
        self.infer([Fact.of(cache), Fact.of(update)])
        axis = self._axis(cache.ndim)
        n, length = cache.shape[0], cache.shape[axis]
        starts = np.zeros(n, np.int64) if starts is None else starts
        if starts.shape != (n,):
            raise self.fail(f"expected write_indices of shape ({n},), got {starts.shape}")
        places = starts[:, None] + np.arange(update.shape[axis])
        if self.attr("mode", "linear") == "circular":
            places %= length
        if places.size and not 0 <= places.min() <= places.max() < length:
            raise IndexError(f"write_indices {starts.tolist()} lead outside a cache of {length} entries")
        out = cache.copy()
        np.moveaxis(out, axis, 1)[np.arange(n)[:, None], places] = np.moveaxis(update, axis, 1)
        return [out]


class Col2Im(Op):
    """Columns of image blocks added up to the image (ONNX Col2Im, opset 18).

    x: (N, C * product of the block, L); the image's spatial shape and the block's are inputs 1 and 2.
    """

    attributes = frozenset({"dilations", "pads", "strides"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        image, block = values(ins[1]), values(ins[2])
        n, columns = x.shape[:2] if x.shape is not None and len(x.shape) == 3 else (None, None)
        if x.shape is not None and len(x.shape) != 3:
            raise self.fail(f"expected an input of shape (N, C * block, L), got {x.shape}")
        c: Dim = None
        if block is not None and isinstance(columns, int):
            c, rest = divmod(columns, max(1, math.prod(block)))
            if rest:
                raise self.fail(f"expected {columns} columns to be a multiple of the block {block}")
        if image is None:
            return [Fact(x.dtype)]
        if block is not None:
            blocks = math.prod(self._steps(image, block))
            if x.shape is not None and isinstance(x.shape[2], int) and x.shape[2] != blocks:
                raise self.fail(f"expected {blocks} blocks {block} in an image {image}, got {x.shape[2]}")
        return [Fact(x.dtype, (n, c, *image))]

    def _window(self, rank: int) -> tuple[list[int], list[int], list[int]]:
        """Strides, dilations and pads."""
        window = [self.attr(name) or [default] * k * rank for name, default, k in _COL2IM]
        for (name, _, k), given in zip(_COL2IM, window, strict=True):
            if len(given) != k * rank:
                raise self.fail(f"expected {k * rank} {name} for {rank} spatial axes, got {given}")
        return window[0], window[1], window[2]

    def _steps(self, image: list[int], block: list[int]) -> list[int]:
        """Blocks that lie on each axis."""
        rank = len(image)
        strides, dilations, pads = self._window(rank)
        if len(block) != rank:
            raise self.fail(f"expected a block of {rank} dims for image {image}, got {block}")
        return [
            max(
                0, (image[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
            )
            for i in range(rank)
        ]

    def evaluate(self, x, image_shape, block_shape):
        (fact,) = self.infer([Fact.of(x), Fact.of(image_shape), Fact.of(block_shape)])
        image, block = image_shape.tolist(), block_shape.tolist()
        rank = len(image)
        strides, dilations, pads = self._window(rank)
        steps = self._steps(image, block)
        padded = [n + pads[i] + pads[rank + i] for i, n in enumerate(image)]
        n, c = fact.shape[:2]
        out = np.zeros((n, c, *padded), x.dtype)
        taps = x.reshape(n, c, math.prod(block), *steps)
        for tap, offset in enumerate(itertools.product(*(range(k) for k in block))):
            spots = tuple(
                slice(o * d, o * d + s * count, s)
                for o, d, s, count in zip(offset, dilations, strides, steps, strict=True)
            )
            out[(slice(None), slice(None), *spots)] += taps[:, :, tap]
        return [out[(slice(None), slice(None), *(slice(pads[i], pads[i] + k) for i, k in enumerate(image)))]]


_COL2IM = (("strides", 1, 1), ("dilations", 1, 1), ("pads", 0, 2))
