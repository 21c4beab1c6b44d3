"""Convolution whose one window is the whole image: a product of a matrix and a few vectors."""

from __future__ import annotations

from tilewise.ops.conv_problem import Problem
from tilewise.ops.linalg import GEMV_ROWS, Matrix
from tilewise.ops.lowering import Lowering, Ref


def accepts_product(p: Problem, b: Lowering) -> bool:
    dense = all(k == 1 or d == 1 for k, d in zip(p.kernel, p.dilation, strict=True))
    one = p.out == (1, 1, 1) and p.kernel == p.size and dense and not any(p.pad)
    return one and p.group == 1 and p.n <= GEMV_ROWS and not b.given(3)


def product_conv(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """y (N, oC) = act(x (N, C * taps) w' + bias)."""
    matrix = Matrix(b, p.n, p.c * p.taps, p.oc, activation=p.activation)
    matrix.gemv(b.input(0), b.input(1), b.optional(2), (0, 1), 1.0)
