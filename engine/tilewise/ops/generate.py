"""Operators that make arrays from shapes, ranges and random numbers."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from tilewise import dtypes
from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.lowering import Lowering
from tilewise.ops.parameters import length
from tilewise.ops.strided import fill, layout_out

_MADE_EARLY = 1 << 16
"""Elements of a result that needs nothing but a shape, up to which inference makes it."""


class Typed(Op):
    """Base of operators with an optional `dtype` attribute."""

    def unsupported(self) -> str | None:
        try:
            self.dtype(None)
        except (KeyError, AttributeError):
            return f"attribute 'dtype' = {self.attr('dtype')!r} is not an element type"
        return None

    def dtype(self, default: np.dtype | None) -> np.dtype | None:
        """The dtype asked for, or `default`."""
        number = self.attr("dtype")
        return default if number is None else dtypes.from_onnx(number)


class Constant(Op):
    """What one of the `value` attributes holds (ONNX Constant, opset 1)."""

    _TYPES: ClassVar = {
        "value_float": "float32",
        "value_floats": "float32",
        "value_int": "int64",
        "value_ints": "int64",
        "value_string": "object",
        "value_strings": "object",
    }
    attributes = frozenset({"value", "sparse_value", *_TYPES})

    def unsupported(self) -> str | None:
        given = sorted(self.attributes & set(self.node.attrs))
        return None if len(given) == 1 else f"expected exactly one value attribute, got {given}"

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact.of(self._content())]

    def evaluate(self):
        return [self._content()]

    def _content(self) -> Array:
        for name in ("value", "sparse_value"):
            if name in self.node.attrs:
                return self.attr(name)
        name, dtype = next((n, d) for n, d in self._TYPES.items() if n in self.node.attrs)
        return np.array(self.attr(name), dtype)


class ConstantOfShape(Op):
    """The shape in the input filled with `value`, by default float32 zero (ONNX ConstantOfShape, opset 9)."""

    attributes = frozenset({"value"})

    def _value(self) -> Array:
        value = self.attr("value")
        if value is None:
            return np.zeros((), np.float32)
        if value.size != 1:
            raise self.fail(f"expected a value of one element, got shape {value.shape}")
        return value.reshape(())

    def infer(self, ins: Inputs) -> list[Fact]:
        dims = values(ins[0])
        if dims is not None and min(dims, default=0) < 0:
            raise self.fail(f"expected dims >= 0, got {dims}")
        rank = length(ins, 0)
        shape: Shape | None = None if rank is None else (None,) * rank
        return [Fact(self._value().dtype, shape if dims is None else tuple(dims))]

    def evaluate(self, shape):
        (fact,) = self.infer([Fact.of(shape)])
        return [np.full(fact.shape, self._value(), fact.dtype)]

    def lower(self, b: Lowering) -> bool:
        fill(b, layout_out(b), b.const(self._value()))
        return True


class Range(Op):
    """start, start + delta, ... before limit (ONNX Range, opset 11); 16-bit floats are computed as float32."""

    attributes = frozenset({"stash_type"})

    def unsupported(self) -> str | None:
        stash = self.attr("stash_type", 1)
        return None if stash == 1 else f"attribute 'stash_type' = {stash!r}, expected 1 (float)"

    def infer(self, ins: Inputs) -> list[Fact]:
        dtype = next((f.dtype for f in ins if f is not None and f.dtype is not None), None)
        for fact in ins:
            if fact is not None and fact.known_shape and fact.size != 1:
                raise self.fail(f"expected scalars, got shape {fact.shape}")
        scalars = [np.asarray(f.value).reshape(()) for f in ins if f is not None and f.value is not None]
        return [Fact(dtype, (self._count(*scalars) if len(scalars) == 3 else None,))]

    def _count(self, start: Array, limit: Array, delta: Array) -> int:
        first, end, step = (a.item() if a.dtype.kind in "iu" else float(a) for a in (start, limit, delta))
        if step == 0 or not all(math.isfinite(v) for v in (first, end, step)):
            raise self.fail(f"expected finite bounds and a delta other than 0, got {first}, {end} and {step}")
        if isinstance(step, float):
            return max(0, math.ceil((end - first) / step))
        return max(0, -(-(end - first) // step))

    def evaluate(self, start, limit, delta):
        self.infer([Fact.of(a) for a in (start, limit, delta)])
        start, limit, delta = (a.reshape(()) for a in (start, limit, delta))
        wide = start.dtype if start.dtype.itemsize > 2 or start.dtype.kind in "iu" else np.dtype(np.float32)
        steps = np.arange(self._count(start, limit, delta)).astype(wide)
        return [(start.astype(wide) + steps * delta.astype(wide)).astype(start.dtype, copy=False)]


class EyeLike(Typed):
    """Ones on diagonal `k`, zeros elsewhere, in the shape of a matrix (ONNX EyeLike, opset 9)."""

    attributes = frozenset({"dtype", "k"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.shape is not None and len(x.shape) != 2:
            raise self.fail(f"expected a matrix, got shape {x.shape}")
        dtype = self.dtype(x.dtype)
        if dtype is None or not x.known_shape or x.size > _MADE_EARLY:
            return [Fact(dtype, x.shape if x.shape is not None else (None, None))]
        return [Fact.of(self._eye(x.shape, dtype))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        return [self._eye(x.shape, self.dtype(x.dtype))]

    def _eye(self, shape, dtype) -> Array:
        return np.eye(shape[0], shape[1], self.attr("k", 0), dtype=bool).astype(dtype)


class Random(Typed):
    """Base of operators that draw random numbers: a `seed` gives the same ones in every run.

    seeds: where operators without a `seed` take theirs from, one after another; None for the system's entropy.
    """

    foldable = False
    seeds: ClassVar[np.random.SeedSequence | None] = None

    def generator(self) -> np.random.Generator:
        seed = self.attr("seed")
        if seed is not None:
            return np.random.default_rng(int(np.float32(seed).view(np.uint32)))
        return np.random.default_rng(None if Random.seeds is None else Random.seeds.spawn(1)[0])

    def draw(self, shape: tuple[int, ...]) -> Array:
        """Numbers of the operator's distribution, in float64."""
        raise NotImplementedError(type(self).__name__)


def set_seed(seed: int) -> None:
    """Make all that operators without a `seed` draw from now on follow from this one."""
    Random.seeds = np.random.SeedSequence(seed)


class Normal(Random):
    """Base: the normal distribution of `mean` and `scale`."""

    attributes = frozenset({"dtype", "mean", "scale", "seed", "shape"})

    def draw(self, shape):
        return self.generator().normal(self.attr("mean", 0.0), self.attr("scale", 1.0), shape)


class Uniform(Random):
    """Base: the uniform distribution over [low, high)."""

    attributes = frozenset({"dtype", "high", "low", "seed", "shape"})

    def draw(self, shape):
        return self.generator().uniform(self.attr("low", 0.0), self.attr("high", 1.0), shape)


class OfShape(Random):
    """Base: the shape and, float32 by default, the type are attributes."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(self.dtype(np.dtype(np.float32)), tuple(self.attr("shape")))]

    def evaluate(self):
        return [self.draw(tuple(self.attr("shape"))).astype(self.dtype(np.dtype(np.float32)))]


class LikeInput(Random):
    """Base: the shape and, unless given, the type are those of the input."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        return [Fact(self.dtype(x.dtype), x.shape)]

    def evaluate(self, x):
        return [self.draw(x.shape).astype(self.dtype(x.dtype))]


class RandomNormal(OfShape, Normal):
    """Normal numbers (ONNX RandomNormal, opset 1)."""


class RandomUniform(OfShape, Uniform):
    """Uniform numbers (ONNX RandomUniform, opset 1)."""


class RandomNormalLike(LikeInput, Normal):
    """Normal numbers in the shape of the input (ONNX RandomNormalLike, opset 1)."""


class RandomUniformLike(LikeInput, Uniform):
    """Uniform numbers in the shape of the input (ONNX RandomUniformLike, opset 1)."""


class Bernoulli(LikeInput):
    """One with the probability that the input says, else zero (ONNX Bernoulli, opset 15)."""

    attributes = frozenset({"dtype", "seed"})

    def evaluate(self, x):
        hit = self.generator().random(x.shape) < x.astype(np.float64)
        return [hit.astype(self.dtype(x.dtype))]


class Multinomial(Random):
    """Classes (N, sample_size) drawn by unnormalized log-probabilities (N, C) (ONNX Multinomial, opset 7)."""

    attributes = frozenset({"dtype", "sample_size", "seed"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.shape is not None and len(x.shape) != 2:
            raise self.fail(f"expected an input of shape (N, C), got {x.shape}")
        n = None if x.shape is None else x.shape[0]
        return [Fact(self.dtype(np.dtype(np.int32)), (n, self.attr("sample_size", 1)))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        x = x.astype(np.float64)
        weights = np.exp(x - x.max(-1, keepdims=True))
        ends = np.cumsum(weights, -1)
        picks = self.generator().random((x.shape[0], self.attr("sample_size", 1))) * ends[:, -1:]
        drawn = (picks[:, :, None] >= ends[:, None, :-1]).sum(-1)
        return [drawn.astype(self.dtype(np.dtype(np.int32)))]
