"""Products and convolutions of quantized numbers, exact, in NumPy.

Sums of products of bytes are whole numbers that floats hold exactly, so that they are left to float products:
float32 where no sum can reach 2**24, float64 otherwise.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Shape
from tilewise.ops.base import Array, Inputs
from tilewise.ops.conv import Conv, convolve
from tilewise.ops.elementwise import FLOAT8, FLOATS, ElementWise
from tilewise.ops.linalg import MatMul
from tilewise.ops.quantize import stored
from tilewise.ops.windows import read_windows

BYTES = frozenset({"int8", "uint8"})
EXACT = 1 << 24
"""Up to here float32 holds all whole numbers."""


class Form(ElementWise):
    """What is multiplied: rules of shapes, the place of parameters, and the product itself."""

    def fact(self, x: Fact, w: Fact, bias: Fact | None) -> Fact:
        """Fact of the result; its dtype is not meant."""
        raise NotImplementedError(type(self).__name__)

    def depth(self, w: Shape) -> int:
        """Products that are summed up for one element."""
        raise NotImplementedError(type(self).__name__)

    def multiply(self, x: Array, w: Array) -> Array:
        """The product of floats, in their dtype."""
        raise NotImplementedError(type(self).__name__)

    def place(self, what: str, shape: Shape, x: Shape, of_w: bool) -> Shape:
        """The shape in which a scale or zero point of x (or of w) broadcasts against it; an error where it cannot."""
        raise NotImplementedError(type(self).__name__)

    def place_bias(self, rank: int) -> Shape:
        """The shape in which a bias broadcasts against the result."""
        raise NotImplementedError(type(self).__name__)

    def result_shape(self, placed: Shape, rank: int) -> Shape:
        """The shape in which a scale as `place` returns it broadcasts against the result."""
        raise NotImplementedError(type(self).__name__)
