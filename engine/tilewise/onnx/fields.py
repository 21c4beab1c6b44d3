"""Protobuf fields as plain Python values, each checked; `what` says in errors where a field was found."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from tilewise import dtypes
from tilewise.errors import ModelError
from tilewise.graph import Fact
from tilewise.graph.facts import Dim
from tilewise.onnx.messages import TensorShapeProto, TypeProto

MAX_ELEMENTS = 1 << 47
"""More elements than any address space holds; a declared shape above it is taken for damage."""

DOMAIN_ALIASES = {"ai.onnx": ""}


def text(value: str | bytes, what: str) -> str:
    """A string field; it comes as bytes where it is not UTF-8."""
    if isinstance(value, bytes):
        raise ModelError(f"{what}: expected UTF-8 text, got the bytes {value[:40]!r}")
    return value


def domain(value: str | bytes, what: str) -> str:
    """An operator domain, ONNX's own as ""."""
    name = text(value, f"{what}: domain")
    return DOMAIN_ALIASES.get(name, name)


def element_type(number: int, what: str) -> np.dtype:
    """The dtype of a `TensorProto.DataType` value."""
    if number == 0:
        raise ModelError(f"{what}: expected an element type, got none (UNDEFINED)")
    try:
        return dtypes.from_onnx(number)
    except (KeyError, AttributeError):
        raise ModelError(f"{what}: expected a known element type, got {number}") from None


def shape_of(dims: Iterable[int], what: str) -> tuple[int, ...]:
    """The dims of a tensor at hand."""
    shape = tuple(int(d) for d in dims)
    _check_dims(shape, what)
    return shape


def type_fact(proto: TypeProto, what: str) -> Fact:
    """What a `TypeProto` declares; a type without content declares nothing.

    Sparse tensors and opaque types are facts of these kinds, which no operator takes.
    """
    case = proto.WhichOneof("value")
    if case is None:
        return Fact()
    value = getattr(proto, case)
    if case == "tensor_type":
        dtype = element_type(value.elem_type, what)
        return Fact(dtype, _declared_shape(value.shape, what) if value.HasField("shape") else None)
    if case in ("sequence_type", "optional_type"):
        return Fact(kind=case.removesuffix("_type"), elem=type_fact(value.elem_type, f"{what}: element"))
    if case == "map_type":
        key = element_type(value.key_type, f"{what}: key")
        return Fact(key, kind="map", elem=type_fact(value.value_type, f"{what}: value"))
    return Fact(kind=case.removesuffix("_type"))


def _declared_shape(proto: TensorShapeProto, what: str) -> tuple[Dim, ...]:
    dims: list[Dim] = []
    for dim in proto.dim:
        if dim.HasField("dim_value"):
            dims.append(int(dim.dim_value))
        else:
            dims.append(text(dim.dim_param, f"{what}: dim") or None)
    _check_dims([d for d in dims if isinstance(d, int)], what)
    return tuple(dims)


def _check_dims(dims: Iterable[int], what: str) -> None:
    dims = list(dims)
    if any(d < 0 for d in dims):
        raise ModelError(f"{what}: expected dims >= 0, got {dims}")
    if math.prod(d for d in dims if d) > MAX_ELEMENTS:
        raise ModelError(f"{what}: expected at most {MAX_ELEMENTS} elements, got dims {dims}")
