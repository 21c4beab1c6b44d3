"""The table of operators: one row an operator, the only place where classes are bound to names."""

from __future__ import annotations

from tilewise.errors import Unsupported, UnsupportedError
from tilewise.graph import Node
from tilewise.ops import conv, deform, linalg, transposed, control, movement, sequence
from tilewise.ops.base import Op

TABLE: dict[tuple[str, str], type[Op]] = {
    # convolution
    ("", "Conv"): conv.Conv,
    ("", "ConvTranspose"): transposed.ConvTranspose,
    ("", "DeformConv"): deform.DeformConv,
    ("tilewise", "FusedConv"): conv.FusedConv,
    # matrix products
    ("", "Einsum"): linalg.Einsum,
    ("", "Gemm"): linalg.Gemm,
    ("", "MatMul"): linalg.MatMul,
    # movement
    ("", "Identity"): movement.Identity,
    # control
    ("", "If"): control.If,
    ("", "Loop"): control.Loop,
    ("", "Scan"): control.Scan,
    ("", "SequenceMap"): control.SequenceMap,
    # sequence
    ("", "ConcatFromSequence"): sequence.ConcatFromSequence,
    ("", "Optional"): sequence.Optional,
    ("", "OptionalGetElement"): sequence.OptionalGetElement,
    ("", "OptionalHasElement"): sequence.OptionalHasElement,
    ("", "SequenceAt"): sequence.SequenceAt,
    ("", "SequenceConstruct"): sequence.SequenceConstruct,
    ("", "SequenceEmpty"): sequence.SequenceEmpty,
    ("", "SequenceErase"): sequence.SequenceErase,
    ("", "SequenceInsert"): sequence.SequenceInsert,
    ("", "SequenceLength"): sequence.SequenceLength,
    ("", "SplitToSequence"): sequence.SplitToSequence,
}


def lookup(node: Node) -> type[Op] | None:
    """The class that implements `node`, or None."""
    return TABLE.get((node.domain, node.op_type))


def make(node: Node) -> Op:
    """The operator bound to `node`; `UnsupportedError` where the table has no row for it."""
    cls = lookup(node)
    if cls is None:
        where = f"domain {node.domain!r}, opset {node.version}" if node.domain else f"opset {node.version}"
        raise UnsupportedError([Unsupported(node.label, node.op_type, f"operator not supported ({where})")])
    return cls(node)
