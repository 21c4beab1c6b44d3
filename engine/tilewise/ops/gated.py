"""Gated activations of two tensors."""

from __future__ import annotations

from tilewise.graph import Fact
from tilewise.ops.activation import sigmoid
from tilewise.ops.base import Inputs
from tilewise.ops.elementwise import Binary, emit_walk, lower_map, wide
from tilewise.ops.lowering import Lowering


class SwiGLU(Binary):
    """y = swish(a) * b with swish(a) = a sigmoid(alpha a); a and b of one shape (ONNX SwiGLU, opset 28)."""

    attributes = frozenset({"alpha"})

    def infer(self, ins: Inputs) -> list[Fact]:
        a, b = self.operand(ins, 0), self.operand(ins, 1)
        dtype = self.common_dtype([a, b])
        if a.shape is None or b.shape is None:
            return [Fact(dtype, a.shape if b.shape is None else b.shape)]
        pairs = list(zip(a.shape, b.shape, strict=False))
        known = [(m, n) for m, n in pairs if isinstance(m, int) and isinstance(n, int)]
        if len(a.shape) != len(b.shape) or any(m != n for m, n in known):
            raise self.fail(f"expected operands of one shape, got {a} and {b}")
        return [Fact(dtype, tuple(n if isinstance(n, int) else m for m, n in pairs))]

    def evaluate(self, a, b):
        gate = (wide(a) * sigmoid(self.attr("alpha", 1.0) * wide(a))).astype(a.dtype)
        return [gate * b]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype() or not (b.has("swish_float32") and b.has("mul_float32")):
            return False
        lower_map(b, "swish_float32", float(self.attr("alpha", 1.0)))
        shape = b.outs[0].shape
        return emit_walk(b, "mul_float32", [b.output(0), b.input(1)], [shape, shape], shape)
