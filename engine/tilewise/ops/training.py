"""Operators of ONNX's domain ai.onnx.preview.training."""

from __future__ import annotations

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Inputs, Op


class Gradient(Op):
    """The derivatives of value `y` with respect to `xs` at the inputs' values (ONNX Gradient, version 1).

    Inputs are the values of `xs`, then of `zs`, which are held; outputs have the types and shapes of those of `xs`.
    Models are run with other nodes in its place, which `passes/expand_gradient.py` makes.
    """

    attributes = frozenset({"xs", "zs", "y"})

    def unsupported(self) -> str | None:
        xs, given = self.attr("xs"), [*self.attr("xs"), *self.attr("zs", [])]
        if len(set(given)) < len(given):
            return f"xs and zs name a value twice: {given}"
        if len(self.node.inputs) != len(given) or not all(self.node.inputs):
            return f"expected an input for each of xs and zs {given}, got {self.node.inputs}"
        if len(self.node.outputs) > len(xs):
            return f"expected at most an output for each of xs {xs}, got {self.node.outputs}"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        facts = [fact or UNKNOWN for fact in ins[: len(self.node.outputs)]]
        return [Fact(fact.dtype, fact.shape) for fact in facts]
