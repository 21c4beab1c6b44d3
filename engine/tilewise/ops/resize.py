"""Resize and its forerunner Upsample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.base import Array, Inputs, Op
from tilewise.ops.lowering import Arg, Lowering, Ref, chunks
from tilewise.ops.resampling import (
    COORDINATES,
    MODES,
    NEAREST,
    POLICIES,
    Axis,
    Rule,
    nearest,
    outside,
    weights,
)

GRAIN = 32768
"""Floats that a task reads and writes, about."""

ROW = 8192
"""Floats of an input row that `resize_rows` holds: TW_RESIZE_ROW of `resize.h`."""

BLOCK = 4096
"""Elements that `resize_axis` computes at once."""

MOVABLE = (1, 2, 4, 8, 16)
"""Bytes of the elements that `resize_nearest` moves."""

ONE = Axis(1, 1, 1.0, 1.0)
"""An axis of one element, for a kernel that wants two."""

Axes = dict[int, Axis]
Given = tuple[Array | None, Array | None, Array | None]
"""Region, scales, sizes."""

Target = tuple[Dim, float, float]
"""What one axis is resized to: its dim, the scale, the length before rounding."""


class Resampler(Op):
    """Base of the operators that resize x (any rank) by scales or to sizes."""

    empty_constants = True

    @property
    def rule(self) -> Rule:
        """How axes are sampled."""
        raise NotImplementedError

    def given(self, contents: Sequence[Array | None]) -> Given:
        """Region, scales and sizes from the contents of the inputs, None where absent or unknown."""
        raise NotImplementedError

    def unsupported(self) -> str | None:
        rule = self.rule
        for name, value, known in (
            ("mode", rule.mode, MODES),
            ("coordinate_transformation_mode", rule.coordinate, COORDINATES),
            ("nearest_mode", rule.nearest, NEAREST),
            ("keep_aspect_ratio_policy", self.attr("keep_aspect_ratio_policy", "stretch"), POLICIES),
        ):
            if value not in known:
                return f"attribute {name}={value!r} (known: {', '.join(known)})"
        return None

    # Geometry.

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.dtype is not None and x.dtype.kind == "O" and self.rule.mode != "nearest":
            raise self.fail(f"expected numbers for mode {self.rule.mode!r}, got {x}")
        if x.shape is None:
            return [Fact(x.dtype)]
        _, scales, sizes = self.given(contents(ins))
        if scales is None and sizes is None and any(f is not None and f.value is None for f in ins[1:]):
            touched = self._axes(len(x.shape))
            return [Fact(x.dtype, tuple(None if i in touched else d for i, d in enumerate(x.shape)))]
        out = list(x.shape)
        for d, (dim, _, _) in self._targets(x.shape, scales, sizes).items():
            out[d] = dim
        return [Fact(x.dtype, tuple(out))]

    def _axes(self, rank: int) -> tuple[int, ...]:
        """The axes that scales, sizes and the region count for, in their order."""
        given = self.attr("axes")
        return tuple(range(rank)) if given is None else self.axes(given, rank)

    def _targets(self, shape: Shape, scales: Array | None, sizes: Array | None) -> dict[int, Target]:
        """For each of the operator's axes what it is resized to."""
        axes = self._axes(len(shape))
        factors = sizes if scales is None else scales
        if factors is None or (scales is not None and sizes is not None):
            raise self.fail(f"expected either scales or sizes, got {scales} and {sizes}")
        if len(factors) != len(axes):
            raise self.fail(f"expected {len(axes)} scales or sizes for x of shape {shape}, got {factors}")
        if not (factors >= 0).all() or (scales is not None and not factors.all()):
            raise self.fail(f"expected scales above 0 or sizes of at least 0, got {factors}")
        dims = [shape[d] for d in axes]
        if scales is not None:
            targets = [scaled(dim, np.float32(scale)) for dim, scale in zip(dims, scales, strict=True)]
        else:
            targets = fitted(
                dims, [int(s) for s in factors], self.attr("keep_aspect_ratio_policy", "stretch")
            )
        return dict(zip(axes, targets, strict=True))

    def geometry(self, shape: Shape, region: Array | None, scales: Array | None, sizes: Array | None) -> Axes:
        """The axes that change, by position; all dims of `shape` are known."""
        targets = self._targets(shape, scales, sizes)
        n = len(targets)
        crop = self.rule.coordinate == "tf_crop_and_resize"
        if crop and (region is None or len(region) != 2 * n):
            raise self.fail(f"expected a roi of {2 * n} values for tf_crop_and_resize, got {region}")
        bounds = np.tile([[0.0], [1.0]], n) if not crop or region is None else region.reshape(2, n)
        found: Axes = {}
        for (d, (out, scale, length)), (start, end) in zip(targets.items(), bounds.T.tolist(), strict=True):
            size = shape[d]
            assert isinstance(size, int)
            assert isinstance(out, int)
            axis = Axis(size, out, scale, length, start, end)
            if axis.size == 0 and axis.out > 0:
                raise self.fail(f"expected x with elements to sample, got shape {shape}")
            if not axis.same(self.rule):
                found[d] = axis
        return found

    # Evaluation and lowering.

    def evaluate(self, x, *rest):
        axes = self.geometry(x.shape, *self.given([x, *rest]))
        y = x
        if self.rule.mode != "nearest":
            y = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
        for d, axis in axes.items():
            y = resample(y, d, axis, self.rule)
        y = rounded(y, x.dtype)
        for d, axis in axes.items():
            mask = outside(self.rule, axis)
            if mask is not None:
                value = np.asarray(self.attr("extrapolation_value", 0.0)).astype(x.dtype)
                y = np.where(mask.reshape(-1, *[1] * (x.ndim - 1 - d)), value, y)
        return [y]

    def lower(self, b: Lowering) -> bool:
        x, rule = b.ins[0], self.rule
        if x.dtype.itemsize not in MOVABLE or (rule.mode != "nearest" and x.dtype != "float32"):
            return False
        given = self.given(contents(b.ins))
        if any(f is not None and f.value is None for f in b.ins[1:]):
            return False
        axes = self.geometry(x.shape, *given)
        if any(outside(rule, axis) is not None for axis in axes.values()):
            return False
        if axes:
            emit(b, rule, axes)
        else:
            b.alias(0, 0)
        return True


class Resize(Resampler):
    """y = x sampled on a grid of another size (ONNX Resize, opset 10, 11, 13, 18, 19).

    x of any rank and type; y of its type, integers rounded half to even and saturated. Before opset 11
    coordinates are asymmetric, and the nearest element is the lower one when enlarging, else the upper one.
    """

    attributes = frozenset(
        {
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        }
    )

    @property
    def rule(self) -> Rule:
        mode = self.attr("mode", "nearest")
        if self.version < 11:
            return Rule(mode, "asymmetric", "simple")
        return Rule(
            mode,
            self.attr("coordinate_transformation_mode", "half_pixel"),
            self.attr("nearest_mode", "round_prefer_floor"),
            float(self.attr("cubic_coeff_a", -0.75)),
            bool(self.attr("exclude_outside", 0)),
            bool(self.attr("antialias", 0)),
        )

    def given(self, contents: Sequence[Array | None]) -> Given:
        """Inputs x, scales; from opset 11 on x, roi, scales, sizes, where an empty tensor is one left out."""
        if self.version < 11:
            return None, contents[1], None
        present = [None if c is None or c.size == 0 else c.ravel() for c in contents[1:]]
        region, scales, sizes = present + [None] * (3 - len(present))
        return region, scales, sizes


class Upsample(Resampler):
    """y = x enlarged by scales (ONNX Upsample, opset 7, 9, 10), an attribute in opset 7 and then an input.

    Coordinates are asymmetric and the nearest element is the lower one.
    """

    attributes = frozenset({"mode", "scales"})

    @property
    def rule(self) -> Rule:
        return Rule(self.attr("mode", "nearest"), "asymmetric", "simple")

    def given(self, contents: Sequence[Array | None]) -> Given:
        if len(contents) > 1:
            return None, contents[1], None
        scales = self.attr("scales")
        if not scales:
            raise self.fail(f"expected scales as an attribute or input, got {scales}")
        return None, np.array(scales, np.float32), None


# Geometry.


def contents(ins: Inputs) -> list[Array | None]:
    """What is known of the inputs' contents."""
    return [None if f is None or f.value is None else np.asarray(f.value) for f in ins]


def scaled(dim: Dim, scale: np.float32) -> Target:
    """An axis of `dim` elements times `scale`, rounded down from the product in float32."""
    if not isinstance(dim, int):
        return dim if scale == 1 else None, float(scale), 1.0
    return int(np.float32(dim) * scale), float(scale), dim * float(scale)


def fitted(dims: Sequence[Dim], sizes: Sequence[int], policy: str) -> list[Target]:
    """Axes resized to `sizes`, or as far as one scale for all of them allows."""
    if policy == "stretch":
        pairs = zip(dims, sizes, strict=True)
        return [(out, out / dim if isinstance(dim, int) and dim else 1.0, float(out)) for dim, out in pairs]
    lengths = [dim for dim in dims if isinstance(dim, int) and dim > 0]
    if len(lengths) < len(dims):
        return [(None, 1.0, 1.0)] * len(dims)
    ratios = [out / dim for dim, out in zip(lengths, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [(int(scale * dim + 0.5), scale, scale * dim) for dim in lengths]


# Evaluation.


def resample(x: Array, d: int, axis: Axis, rule: Rule) -> Array:
    """x with axis `d` resized."""
    if rule.mode == "nearest":
        return np.take(x, nearest(rule, axis), axis=d)
    index, weight = weights(rule, axis)
    weight = weight.reshape(*weight.shape, *[1] * (x.ndim - 1 - d))
    y = np.take(x, index[0], axis=d) * weight[0]
    for i, w in zip(index[1:], weight[1:], strict=True):
        y += np.take(x, i, axis=d) * w
    return y


def rounded(x: Array, dtype: np.dtype) -> Array:
    """x as `dtype`; integers are rounded half to even and saturated."""
    if x.dtype == dtype:
        return x
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = np.clip(np.rint(x), info.min, info.max)
    return x.astype(dtype)


# Lowering: one pass for every axis, or for two neighbours at once.


def emit(b: Lowering, rule: Rule, axes: Axes) -> None:
    """Steps that resize `axes` of input 0, those that shrink it most first."""
    shape = list(b.ins[0].shape)
    itemsize = b.ins[0].dtype.itemsize
    source = b.input(0)
    groups = neighbours(shape, rule, axes)
    groups.sort(key=lambda group: np.prod([axes[d].out / axes[d].size for d in group]))
    for group in groups:
        out = [axes[d].out if d in group else size for d, size in enumerate(shape)]
        last = group is groups[-1]
        target = b.output() if last else b.temp(int(np.prod(out)) * itemsize)
        inner = int(np.prod(shape[group[-1] + 1 :]))
        rows, columns = axes[group[0]], axes[group[-1]]
        if len(group) == 1:
            rows, columns = (ONE, columns) if inner == 1 else (rows, ONE)
        view = View(source, target, int(np.prod(shape[: group[0]])), rows, columns, inner)
        if rule.mode == "nearest":
            nearest_pass(b, rule, view, itemsize)
        elif inner == 1:
            rows_pass(b, rule, view)
        else:
            axis_pass(b, rule, view)
        shape, source = out, target


def neighbours(shape: Sequence[int], rule: Rule, axes: Axes) -> list[tuple[int, ...]]:
    """The axes, two neighbours together where one kernel resizes both."""
    left = sorted(axes)
    groups: list[tuple[int, ...]] = []
    while left:
        d = left.pop()
        together = rule.mode == "nearest" or (d == len(shape) - 1 and shape[d] <= ROW)
        if left and left[-1] == d - 1 and together:
            groups.append((left.pop(), d))
        else:
            groups.append((d,))
    return groups


@dataclass(frozen=True, slots=True)
class View:
    """A tensor (count, rows, columns, inner) that is resized along rows and columns."""

    source: Ref
    target: Ref
    count: int
    rows: Axis
    columns: Axis
    inner: int

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        return self.rows.size, self.columns.size, self.rows.out, self.columns.out


def nearest_pass(b: Lowering, rule: Rule, view: View, itemsize: int) -> None:
    """Rows and columns of elements of any kind."""
    rows, columns = nearest(rule, view.rows), nearest(rule, view.columns)
    factor = view.columns.out // view.columns.size
    if factor < 2 or not np.array_equal(columns, np.arange(factor * view.columns.size) // factor):
        factor = 0
    units = view.count * view.rows.out
    grain = max(1, 4 * GRAIN // (view.columns.out * view.inner * itemsize))
    args = (view.target, view.source, units, grain, *view.sizes, view.inner, itemsize)
    b.step("resize_nearest", chunks(units, grain), *args, b.const(rows), b.const(columns), factor)


def rows_pass(b: Lowering, rule: Rule, view: View) -> None:
    """Rows and columns, the columns being the last axis, or the columns alone."""
    (r, v), (c, u) = weights(rule, view.rows), weights(rule, view.columns)
    units = view.count * view.rows.out
    grain = max(1, GRAIN // (len(r) * view.columns.size + len(c) * view.columns.out))
    args: list[Arg] = [units, grain, *view.sizes, len(r), len(c)]
    args += [b.const(t) for t in (r, v.astype(np.float32), c, u.astype(np.float32))]
    b.step("resize_rows", chunks(units, grain), view.target, view.source, *args)


def axis_pass(b: Lowering, rule: Rule, view: View) -> None:
    """Rows alone."""
    r, v = weights(rule, view.rows)
    units = view.count * view.rows.out * chunks(view.inner, BLOCK)
    grain = max(1, GRAIN // (min(view.inner, BLOCK) * (len(r) + 1)))
    args: list[Arg] = [units, grain, view.rows.size, view.rows.out, view.inner, BLOCK, len(r)]
    args += [b.const(t) for t in (r, v.astype(np.float32))]
    b.step("resize_axis", chunks(units, grain), view.target, view.source, *args)
