"""Optimizer steps: Adagrad, Adam and Momentum of ONNX's domain ai.onnx.preview.training, version 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Array, Inputs, Op


class Optimizer(Op):
    """One step for any number n of tensors, float32 or float64.

    Inputs: learning rate R and update count T, both scalars, then n values X, n gradients G, and n tensors of
    each state. Outputs: n new values, then the n new tensors of each state.
    states: how many states a tensor has.
    """

    domain = "ai.onnx.preview.training"
    states: ClassVar[int]

    def update(self, rate: float, count: int, x: Array, g: Array, *states: Array) -> tuple[Array, ...]:
        """The new value of one tensor, then its new states."""
        raise NotImplementedError(type(self).__name__)

    def unsupported(self) -> str | None:
        tensors, group = len(self.node.inputs) - 2, 2 + self.states
        if tensors <= 0 or tensors % group:
            return f"expected R, T and a multiple of {group} tensors, got {tensors}"
        n = tensors // group * (1 + self.states)
        if len(self.node.outputs) != n:
            return f"expected {n} outputs for {tensors} tensors, got {len(self.node.outputs)}"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        for name, fact in zip("RT", ins, strict=False):
            if fact is not None and fact.known_shape and fact.size != 1:
                raise self.fail(f"expected a scalar {name}, got {fact}")
        outs: list[Fact] = []
        for x, *others in self._by_tensor(ins[2:]):
            for other in others:
                self._check(x or UNKNOWN, other or UNKNOWN)
            outs.append(Fact((x or UNKNOWN).dtype, (x or UNKNOWN).shape))
        return outs * (1 + self.states)

    def _check(self, x: Fact, other: Fact) -> None:
        """A gradient and a state have the type and shape of their tensor."""
        shapes = x.known_shape and other.known_shape and x.shape != other.shape
        types = x.dtype is not None and other.dtype is not None and x.dtype != other.dtype
        if shapes or types:
            raise self.fail(f"expected gradient and states like the tensor {x}, got {other}")

    def _by_tensor(self, items) -> Iterator[tuple]:
        n = len(items) // (2 + self.states)
        return zip(*(items[i * n : (i + 1) * n] for i in range(2 + self.states)), strict=True)

    def evaluate(self, rate, count, *tensors):
        r, t = float(rate.reshape(())), int(count.reshape(()))
        updated = [self.update(r, t, *group) for group in self._by_tensor(tensors)]
        return [np.asarray(out) for outs in zip(*updated, strict=True) for out in outs]

    def _regularized(self, x: Array, g: Array) -> Array:
        """The gradient with that of norm_coefficient / 2 * |X|^2 added."""
        return self.attr("norm_coefficient", 0.0) * x + g


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of squared gradients H (ONNX Adagrad; Duchi et al., JMLR 2011)."""

    attributes = frozenset({"decay_factor", "epsilon", "norm_coefficient"})
    states = 1

    def update(self, rate, count, x, g, *states):
        (h,) = states
        rate /= 1 + count * self.attr("decay_factor", 0.0)
        g = self._regularized(x, g)
        h = h + g * g
        return x - rate * g / (np.sqrt(h) + self.attr("epsilon", 1e-6)), h


class Adam(Optimizer):
    """Running means of gradients V and of their squares H, corrected for bias (ONNX Adam; arXiv:1412.6980)."""

    attributes = frozenset({"alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post"})
    states = 2

    def update(self, rate, count, x, g, *states):
        v, h = states
        alpha, beta = self.attr("alpha", 0.9), self.attr("beta", 0.999)
        g = self._regularized(x, g)
        v = alpha * v + (1 - alpha) * g
        h = beta * h + (1 - beta) * (g * g)
        if count > 0:
            rate *= (1 - beta**count) ** 0.5 / (1 - alpha**count)
        x = x - rate * v / (np.sqrt(h) + self.attr("epsilon", 1e-6))
        return (1 - self.attr("norm_coefficient_post", 0.0)) * x, v, h


class Momentum(Optimizer):
    """Gradient descent with momentum V, standard or Nesterov's (ONNX Momentum)."""

    attributes = frozenset({"alpha", "beta", "mode", "norm_coefficient"})
    states = 1

    def unsupported(self) -> str | None:
        mode = self.attr("mode", "standard")
        if mode not in ("nesterov", "standard"):
            return f"attribute 'mode' = {mode!r}, expected 'nesterov' or 'standard'"
        return super().unsupported()

    def update(self, rate, count, x, g, *states):
        (v,) = states
        alpha = self.attr("alpha", 0.0)
        g = self._regularized(x, g)
        v = alpha * v + (self.attr("beta", 1.0) if count > 0 else 1.0) * g
        direction = g + alpha * v if self.attr("mode", "standard") == "nesterov" else v
        return x - rate * direction, v
