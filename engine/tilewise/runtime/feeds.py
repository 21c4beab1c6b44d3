"""Checks of what a caller feeds: names, ranks, shapes and dtypes, exactly."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import numpy as np

from tilewise.errors import InputError
from tilewise.graph import UNKNOWN, Fact, Graph, Map


def check_feeds(graph: Graph, feeds: Mapping[str, object]) -> dict[str, object]:
    """The feeds in graph order; `InputError` for a missing or extra name, or a value that does not fit."""
    if not isinstance(feeds, Mapping):
        raise InputError(f"feeds: expected a mapping of input names to arrays, got {type(feeds).__name__}")
    missing = [name for name in graph.inputs if name not in feeds]
    extra = [name for name in feeds if name not in graph.inputs]
    if missing or extra:
        parts = [f"missing {missing}"] * bool(missing) + [f"unknown {extra}"] * bool(extra)
        raise InputError(f"inputs: {'; '.join(parts)}; the model has {graph.inputs}")
    dims: dict[str, tuple[int, str]] = {}
    return {
        name: _check_value(name, feeds[name], graph.facts.get(name, UNKNOWN), dims) for name in graph.inputs
    }


def _check_value(name: str, value: object, fact: Fact, dims: dict[str, tuple[int, str]]) -> object:
    if fact.kind == "sequence":
        if not isinstance(value, list | tuple):
            raise InputError(f"input {name!r}: expected a list of arrays, got {type(value).__name__}")
        return list(value)
    if fact.kind == "map":
        return check_map(name, value, fact)
    if fact.kind == "optional" and value is None:
        return value
    if fact.kind != "tensor":
        return value
    array = _as_array(name, value, fact)
    if fact.dtype is not None and array.dtype != fact.dtype:
        raise InputError(f"input {name!r}: expected dtype {fact.dtype}, got {array.dtype}")
    if fact.shape is not None:
        _check_shape(name, array.shape, fact, dims)
    return array


_PLAIN: dict[str, type] = {"f": numbers.Real, "i": numbers.Integral, "u": numbers.Integral, "O": str}
"""What keys and values of a map are in Python, by the kind of their dtype."""


def check_map(name: str, value: object, fact: Fact) -> Map:
    """A map of the declared types from a mapping of Python's own; `InputError` for another key or value."""
    if not isinstance(value, Mapping):
        raise InputError(f"input {name!r}: expected a mapping, got {type(value).__name__}")
    dtype = fact.elem.dtype if fact.elem is not None else None
    if fact.dtype is None or dtype is None:
        raise InputError(f"input {name!r}: expected a model that declares the types of the map, got {fact}")
    for what, items, kind in (("key", value.keys(), fact.dtype.kind), ("value", value.values(), dtype.kind)):
        wrong = [x for x in items if not isinstance(x, _PLAIN[kind]) or isinstance(x, bool)]
        if wrong:
            raise InputError(f"input {name!r}: expected {_PLAIN[kind].__name__} as {what}, got {wrong[0]!r}")
    return Map({int(k) if fact.dtype.kind != "O" else str(k): v for k, v in value.items()}, dtype)


def _as_array(name: str, value: object, fact: Fact) -> np.ndarray:
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(f"input {name!r}: expected a NumPy array, got {type(value).__name__}")
    array = np.asarray(value)
    if fact.dtype is not None and fact.dtype.hasobject and array.dtype.kind in "US":
        return array.astype(object)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_shape(name: str, shape: tuple[int, ...], fact: Fact, dims: dict[str, tuple[int, str]]) -> None:
    assert fact.shape is not None
    if len(shape) != len(fact.shape):
        raise InputError(
            f"input {name!r}: expected rank {len(fact.shape)} {_show(fact)}, got {len(shape)} {shape}"
        )
    for axis, (got, dim) in enumerate(zip(shape, fact.shape, strict=True)):
        if isinstance(dim, int) and got != dim:
            raise InputError(f"input {name!r}: expected shape {_show(fact)}, got {shape} (axis {axis})")
        if isinstance(dim, str):
            first, where = dims.setdefault(dim, (got, name))
            if first != got:
                raise InputError(
                    f"input {name!r}: dim {dim!r} (axis {axis}) is {got}, but {first} in input {where!r}"
                )


def _show(fact: Fact) -> str:
    return str(fact).partition("[")[1] + str(fact).partition("[")[2]
