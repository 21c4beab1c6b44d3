"""Operators that move data and change nothing of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.parameters import ints, is_unknown, length
from tilewise.ops.view import View


class Identity(Op):
    """y = x, of any type (ONNX Identity, opset 1)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [ins[0] or UNKNOWN]

    def evaluate(self, x):
        return [x]

    def lower(self, b) -> bool:
        b.alias(0, 0, layout=b.layout(0))
        return True


class Transpose(View):
    """Axes in the order `perm`, reversed by default (ONNX Transpose, opset 1)."""

    attributes = frozenset({"perm"})

    def _perm(self, rank: int) -> tuple[int, ...]:
        perm = self.attr("perm")
        if perm is None:
            return tuple(reversed(range(rank)))
        if sorted(perm) != list(range(rank)):
            raise self.fail(f"expected perm to be an order of {rank} axes, got {perm}")
        return tuple(perm)

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.shape is None:
            perm = self.attr("perm")
            return [Fact(x.dtype, None if perm is None else (None,) * len(perm))]
        return [Fact(x.dtype, tuple(x.shape[axis] for axis in self._perm(len(x.shape))))]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        return [x.transpose(self._perm(x.ndim))]


class Split(View):
    """Pieces along `axis`: of sizes `split`, or equal, the last one smaller where need be (ONNX Split).

    Sizes are an attribute before opset 13, an input from then on; opset 18 adds `num_outputs`.
    """

    attributes = frozenset({"axis", "split", "num_outputs"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        count = len(self.node.outputs)
        if x.shape is None:
            return [Fact(x.dtype)] * count
        axis = self.axis(self.attr("axis", 0), len(x.shape))
        if is_unknown(self, ins, 1, "split"):
            sizes: Sequence[Dim] = [None] * count
        else:
            sizes = self._sizes(x.shape[axis], ints(self, ins, 1, "split"), count)
        return [Fact(x.dtype, (*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in sizes]

    def _sizes(self, dim: Dim, split: list[int] | None, count: int) -> Sequence[Dim]:
        if split is not None:
            if len(split) != count or min(split, default=0) < 0:
                raise self.fail(f"expected {count} sizes >= 0, one for each output, got {split}")
            if isinstance(dim, int) and sum(split) != dim:
                raise self.fail(f"expected sizes that add up to {dim}, got {split}")
            return split
        if self.attr("num_outputs", count) != count:
            raise self.fail(
                f"expected num_outputs {count}, as many as outputs, got {self.attr('num_outputs')}"
            )
        if not isinstance(dim, int):
            return [dim] if count == 1 else [None] * count
        size = -(-dim // count)
        rest = dim - size * (count - 1)
        if rest < 0 or (rest != size and self.version < 18):
            raise self.fail(f"axis of {dim} elements does not split into {count} equal pieces")
        return [size] * (count - 1) + [rest]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        axis = self.axis(self.attr("axis", 0), x.ndim)
        sizes = self._sizes(x.shape[axis], ints(self, ins, 1, "split"), len(self.node.outputs))
        ends = np.cumsum([int(n) for n in sizes if n is not None])
        return np.split(x, ends[:-1].tolist(), axis)


class Slice(View):
    """Elements from start to end by step, on some axes (ONNX Slice; attributes before opset 10, without steps)."""

    attributes = frozenset({"starts", "ends", "axes"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.shape is None:
            return [Fact(x.dtype)]
        axes = self._axes(x.shape, ins)
        if axes is None:
            return [Fact(x.dtype, (None,) * len(x.shape))]
        out = list(x.shape)
        for axis, start, end, step in self._ranges(axes, ins):
            out[axis] = self._length(out[axis], start, end, step)
        return [Fact(x.dtype, tuple(out))]

    def _axes(self, shape: Shape, ins: Inputs) -> tuple[int, ...] | None:
        """The axes that are cut, None where they are not known."""
        if is_unknown(self, ins, 3, "axes"):
            return None
        axes = ints(self, ins, 3, "axes")
        if axes is not None:
            return self.axes(axes, len(shape))
        starts = ints(self, ins, 1, "starts")
        count = len(starts) if starts is not None else length(ins, 1)
        return None if count is None else self.axes(range(count), len(shape))

    def _ranges(
        self, axes: tuple[int, ...], ins: Inputs
    ) -> list[tuple[int, int | None, int | None, int | None]]:
        """(axis, start, end, step), None for what is not known; each list has one entry an axis."""
        columns: list[Sequence[int | None]] = []
        for i, name in ((1, "starts"), (2, "ends"), (4, "steps")):
            column: Sequence[int | None] | None = ints(self, ins, i, name)
            if column is None:
                missing = None if is_unknown(self, ins, i, name) else 1
                column = [missing] * len(axes)
            if len(column) != len(axes):
                raise self.fail(f"expected {len(axes)} {name}, one for each axis, got {list(column)}")
            columns.append(column)
        if 0 in columns[2]:
            raise self.fail("expected steps other than 0")
        return list(zip(axes, *columns, strict=True))

    def _length(self, dim: Dim, start: int | None, end: int | None, step: int | None) -> Dim:
        if start is None or end is None or step is None:
            return None
        if isinstance(dim, int):
            return _clamp(dim, start, end, step)[1]
        everything = (step == 1 and start == 0 and end >= _FAR) or (
            step == -1 and start == -1 and end <= -_FAR
        )
        return dim if everything else None

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        axes = self._axes(x.shape, ins)
        assert axes is not None
        index = [slice(None)] * x.ndim
        for axis, start, end, step in self._ranges(axes, ins):
            assert start is not None
            assert end is not None
            assert step is not None
            first, count = _clamp(x.shape[axis], start, end, step)
            stop = first + count * step
            index[axis] = slice(first, None if stop < 0 else stop, step) if count else slice(0, 0)
        return [x[tuple(index)]]


_FAR = (1 << 31) - 1
"""Exporters write this or more for the end of an axis of any length."""


def _clamp(dim: int, start: int, end: int, step: int) -> tuple[int, int]:
    """The first index and the number of elements, bounds clamped as ONNX Slice says."""
    start += dim if start < 0 else 0
    end += dim if end < 0 else 0
    if step > 0:
        start, end = min(max(start, 0), dim), min(max(end, 0), dim)
    else:
        start, end = min(max(start, 0), dim - 1), min(max(end, -1), dim - 1)
    return start, max(0, -(-(end - start) // step)) if dim else 0


class Expand(View):
    """Broadcast to the shape in input 1, in both directions (ONNX Expand, opset 8)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        target = values(ins[1])
        if target is None:
            count = length(ins, 1)
            rank = None if count is None or x.shape is None else max(count, len(x.shape))
            return [Fact(x.dtype, None if rank is None else (None,) * rank)]
        if min(target, default=0) < 0:
            raise self.fail(f"expected dims >= 0 in the shape, got {target}")
        return [Fact(x.dtype, self.broadcast(x.shape, tuple(target)))]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        return [np.broadcast_to(x, shapes[0] or ())]


class Tile(View):
    """The input repeated as often as input 1 says for each axis (ONNX Tile, opset 6)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        repeats = values(ins[1])
        if repeats is None or x.shape is None:
            rank = len(x.shape) if x.shape is not None else length(ins, 1)
            return [Fact(x.dtype, None if rank is None else (None,) * rank)]
        if len(repeats) != len(x.shape) or min(repeats, default=0) < 0:
            raise self.fail(f"expected {len(x.shape)} repeats >= 0 for shape {x.shape}, got {repeats}")
        return [Fact(x.dtype, tuple(_times(d, r) for d, r in zip(x.shape, repeats, strict=True)))]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        repeats = values(ins[1]) or []
        separated = x.reshape([n for dim in x.shape for n in (1, dim)])
        return [
            np.broadcast_to(separated, [n for r, d in zip(repeats, x.shape, strict=True) for n in (r, d)])
        ]


def _times(dim: Dim, repeat: int) -> Dim:
    if repeat == 0:
        return 0
    return dim * repeat if isinstance(dim, int) else dim if repeat == 1 else None


class DepthToSpace(View):
    """Blocks of channels become blocks of pixels (ONNX DepthToSpace, opset 1; `mode` DCR or CRD from 11)."""

    attributes = frozenset({"blocksize", "mode"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, size = ins[0] or UNKNOWN, _blocksize(self)
        if x.shape is None:
            return [Fact(x.dtype, (None,) * 4)]
        n, c, h, w = _image(self, x.shape)
        return [Fact(x.dtype, (n, _over(self, c, size * size), _times(h, size), _times(w, size)))]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        (n, c, h, w), size = x.shape, _blocksize(self)
        if _is_dcr(self):
            return [x.reshape(n, size, size, c // size**2, h, w).transpose(0, 3, 4, 1, 5, 2)]
        return [x.reshape(n, c // size**2, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)]


class SpaceToDepth(View):
    """Blocks of pixels become blocks of channels (ONNX SpaceToDepth, opset 1; `mode` DCR or CRD from 28)."""

    attributes = frozenset({"blocksize", "mode"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, size = ins[0] or UNKNOWN, _blocksize(self)
        if x.shape is None:
            return [Fact(x.dtype, (None,) * 4)]
        n, c, h, w = _image(self, x.shape)
        return [Fact(x.dtype, (n, _times(c, size * size), _over(self, h, size), _over(self, w, size)))]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        (n, c, h, w), size = x.shape, _blocksize(self)
        blocks = x.reshape(n, c, h // size, size, w // size, size)
        return [blocks.transpose((0, 3, 5, 1, 2, 4) if _is_dcr(self) else (0, 1, 3, 5, 2, 4))]


class ChannelShuffle(View):
    """y[n, j * groups + i] = x[n, i * C / groups + j] (Zhang et al., ShuffleNet, 2018).

    x (N, C, ...) of any dtype, its channels in `groups` groups, which y interleaves.
    """

    domain = "tilewise"
    attributes = frozenset({"groups"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, groups = ins[0] or UNKNOWN, self.attr("groups")
        if groups < 1:
            raise self.fail(f"expected groups >= 1, got {groups}")
        if x.shape is not None:
            if len(x.shape) < 2:
                raise self.fail(f"expected an input of shape (N, C, ...), got {x}")
            _over(self, x.shape[1], groups)
        return [x.without_value()]

    def views(self, x: Array, ins: Inputs, shapes: Sequence[Shape | None]) -> list[Array]:
        groups = self.attr("groups")
        return [x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]).swapaxes(1, 2)]


def _blocksize(op: Op) -> int:
    size = op.attr("blocksize")
    if size < 1:
        raise op.fail(f"expected blocksize >= 1, got {size}")
    return size


def _is_dcr(op: Op) -> bool:
    mode = op.attr("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise op.fail(f"expected mode DCR or CRD, got {mode!r}")
    return mode == "DCR"


def _image(op: Op, shape: Shape) -> Shape:
    if len(shape) != 4:
        raise op.fail(f"expected an input of shape (N, C, H, W), got {shape}")
    return shape


def _over(op: Op, dim: Dim, divisor: int) -> Dim:
    if isinstance(dim, int) and dim % divisor:
        raise op.fail(f"expected a dim that {divisor} divides, got {dim}")
    return dim // divisor if isinstance(dim, int) else dim if divisor == 1 else None
