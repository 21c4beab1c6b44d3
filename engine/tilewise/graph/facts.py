"""What is known of a value before a run: kind, dtype, shape and, for a constant, its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Dim = int | str | None
Shape = tuple[Any, ...]
"""Dims; `Any`, because what a rule may take for an int depends on what it has checked before."""


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """Static knowledge of one value.

    dtype: NumPy dtype, or None while unknown; strings are `object`. Of a map, that of its keys.
    shape: dims are ints, names of free dimensions, or None; the whole is None when the rank is unknown.
    value: the content where it is known (a constant), else None.
    kind: "tensor", "sequence", "optional" or "map"; `elem` describes the element of the others.
    """

    dtype: Any = None
    shape: Any = None
    value: Any = None
    kind: str = "tensor"
    elem: Fact | None = None

    @staticmethod
    def of(array: np.ndarray, *, constant: bool = True) -> Fact:
        """The fact of an array at hand."""
        return Fact(array.dtype, tuple(array.shape), array if constant else None)

    @property
    def rank(self) -> Any:
        return None if self.shape is None else len(self.shape)

    @property
    def known_shape(self) -> bool:
        """True for a tensor all of whose dims are ints."""
        return (
            self.kind == "tensor" and self.shape is not None and all(isinstance(d, int) for d in self.shape)
        )

    @property
    def size(self) -> int:
        """Number of elements; only for a known shape."""
        size = 1
        for dim in self.shape or ():
            size *= int(dim)  # type: ignore[arg-type]
        return size

    @property
    def nbytes(self) -> int:
        return self.size * (self.dtype.itemsize if self.dtype is not None else 0)

    def without_value(self) -> Fact:
        return replace(self, value=None) if self.value is not None else self

    def __str__(self) -> str:
        dtype = self.dtype.name if self.dtype is not None else "?"
        if self.kind != "tensor":
            key = f"{dtype}: " if self.kind == "map" else ""
            return f"{self.kind}({key}{self.elem if self.elem is not None else '?'})"
        if self.shape is None:
            return f"{dtype}[...]"
        return f"{dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


UNKNOWN = Fact()


def known(dims: Iterable[Dim]) -> bool:
    return all(isinstance(d, int) for d in dims)


def merge_dims(a: Dim, b: Dim) -> Dim:
    """The more precise of two descriptions of one dim; the caller has checked that ints agree."""
    if isinstance(a, int) or b is None:
        return a
    if isinstance(b, int) or a is None:
        return b
    return a


def product(dims: Iterable[Dim]) -> Dim:
    """The product where all dims are ints (or one is zero), a lone name kept, else None."""
    total = 1
    name: Dim = 1
    for dim in dims:
        if isinstance(dim, int):
            total *= dim
        elif name == 1:
            name = dim
        else:
            name = None
    if name == 1 or total == 0:
        return total
    return name if total == 1 else None


def broadcast(*shapes: Shape) -> Shape:
    """NumPy's multidirectional broadcasting over dims that may be names or unknown.

    A ValueError names the two dims that do not fit.
    """
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for axis in range(-rank, 0):
        dim: Dim = 1
        for shape in shapes:
            if len(shape) < -axis:
                continue
            other = shape[axis]
            if other == 1:
                continue
            if dim == 1:
                dim = other
            elif isinstance(dim, int) and isinstance(other, int):
                if dim != other:
                    raise ValueError(f"dims {dim} and {other} of axis {axis} do not broadcast")
            elif dim != other:
                dim = dim if isinstance(dim, int) else other if isinstance(other, int) else None
        out.append(dim)
    return tuple(out)


def union(a: Fact | None, b: Fact | None) -> Fact:
    """What holds of a value that is one of two: dims that differ become None, contents are dropped.

    A ValueError names two element types that differ.
    """
    if a is None or b is None or a.kind != b.kind:
        return UNKNOWN
    if a.kind != "tensor":
        return Fact(kind=a.kind, elem=union(a.elem, b.elem))
    if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
        raise ValueError(f"element types {a.dtype.name} and {b.dtype.name} differ")
    shape = None
    if a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape):
        shape = tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True))
    return Fact(a.dtype if b.dtype is not None else None, shape)
