"""The table of operators: one row an operator, the only place where classes are bound to names."""

from __future__ import annotations

from tilewise.errors import Unsupported, UnsupportedError
from tilewise.graph import Node
from tilewise.ops import (
    activation,
    arithmetic,
    cast,
    control,
    conv,
    deform,
    linalg,
    logic,
    movement,
    pool,
    select,
    sequence,
    transposed,
    unary,
)
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
    # pool
    ("", "AveragePool"): pool.AveragePool,
    ("", "GlobalAveragePool"): pool.GlobalAveragePool,
    ("", "GlobalLpPool"): pool.GlobalLpPool,
    ("", "GlobalMaxPool"): pool.GlobalMaxPool,
    ("", "LpPool"): pool.LpPool,
    ("", "MaxPool"): pool.MaxPool,
    ("", "MaxUnpool"): pool.MaxUnpool,
    # activations
    ("", "Celu"): activation.Celu,
    ("", "Elu"): activation.Elu,
    ("", "Gelu"): activation.Gelu,
    ("", "HardSigmoid"): activation.HardSigmoid,
    ("", "HardSwish"): activation.HardSwish,
    ("", "LeakyRelu"): activation.LeakyRelu,
    ("", "Mish"): activation.Mish,
    ("", "PRelu"): activation.PRelu,
    ("", "Relu"): activation.Relu,
    ("", "Selu"): activation.Selu,
    ("", "Shrink"): activation.Shrink,
    ("", "Sigmoid"): activation.Sigmoid,
    ("", "Softplus"): activation.Softplus,
    ("", "Softsign"): activation.Softsign,
    ("", "Swish"): activation.Swish,
    ("", "Tanh"): activation.Tanh,
    ("", "ThresholdedRelu"): activation.ThresholdedRelu,
    # functions
    ("", "Abs"): unary.Abs,
    ("", "Acos"): unary.Acos,
    ("", "Acosh"): unary.Acosh,
    ("", "Asin"): unary.Asin,
    ("", "Asinh"): unary.Asinh,
    ("", "Atan"): unary.Atan,
    ("", "Atanh"): unary.Atanh,
    ("", "BitwiseNot"): unary.BitwiseNot,
    ("", "Ceil"): unary.Ceil,
    ("", "Cos"): unary.Cos,
    ("", "Cosh"): unary.Cosh,
    ("", "Erf"): unary.Erf,
    ("", "Exp"): unary.Exp,
    ("", "Floor"): unary.Floor,
    ("", "IsInf"): unary.IsInf,
    ("", "IsNaN"): unary.IsNaN,
    ("", "Log"): unary.Log,
    ("", "Neg"): unary.Neg,
    ("", "Not"): unary.Not,
    ("", "Reciprocal"): unary.Reciprocal,
    ("", "Round"): unary.Round,
    ("", "Sign"): unary.Sign,
    ("", "Sin"): unary.Sin,
    ("", "Sinh"): unary.Sinh,
    ("", "Sqrt"): unary.Sqrt,
    ("", "Tan"): unary.Tan,
    # arithmetic
    ("", "Add"): arithmetic.Add,
    ("", "BitShift"): arithmetic.BitShift,
    ("", "BitwiseAnd"): arithmetic.BitwiseAnd,
    ("", "BitwiseOr"): arithmetic.BitwiseOr,
    ("", "BitwiseXor"): arithmetic.BitwiseXor,
    ("", "Div"): arithmetic.Div,
    ("", "Max"): arithmetic.Max,
    ("", "Mean"): arithmetic.Mean,
    ("", "Min"): arithmetic.Min,
    ("", "Mod"): arithmetic.Mod,
    ("", "Mul"): arithmetic.Mul,
    ("", "Pow"): arithmetic.Pow,
    ("", "Sub"): arithmetic.Sub,
    ("", "Sum"): arithmetic.Sum,
    # comparison and logic
    ("", "And"): logic.And,
    ("", "Equal"): logic.Equal,
    ("", "Greater"): logic.Greater,
    ("", "GreaterOrEqual"): logic.GreaterOrEqual,
    ("", "Less"): logic.Less,
    ("", "LessOrEqual"): logic.LessOrEqual,
    ("", "Or"): logic.Or,
    ("", "Xor"): logic.Xor,
    # selection
    ("", "Clip"): select.Clip,
    ("", "Where"): select.Where,
    # conversion
    ("", "Cast"): cast.Cast,
    ("", "CastLike"): cast.CastLike,
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
