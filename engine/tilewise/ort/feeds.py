"""What sessions accept as inputs, converted and checked as ONNX Runtime does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tilewise import dtypes
from tilewise.errors import InputError
from tilewise.graph import Fact
from tilewise.onnx.types import type_name
from tilewise.ort.exceptions import Fail, InvalidArgument, OrtRuntimeError, OrtTypeError, OrtValueError
from tilewise.ort.values import OrtValue
from tilewise.runtime.feeds import check_map


def check_feeds(
    feeds: Mapping[str, object], required: list[str], facts: Mapping[str, Fact]
) -> dict[str, object]:
    """Feeds as the graph takes them, `required` first.

    facts: by the names of all that may be fed. A list becomes a tensor of the input's own type; arrays must
    have it. Dims are held against the declared ones; free dims of one name may differ, as in ONNX Runtime.
    """
    optional = [name for name in required if facts[name].kind == "optional"]
    missing = [name for name in required if name not in feeds and name not in optional]
    if missing:
        raise OrtValueError(f"Required inputs ({missing}) are missing from input feed ({list(feeds)}).")
    for name in feeds:
        if not isinstance(name, str):
            raise OrtTypeError(
                f"run(): incompatible function arguments; expected names of type str, got {name!r}"
            )
        if name not in facts:
            raise InvalidArgument.of(f"Invalid input name: {name}")
    others = [name for name in feeds if name not in required]
    return {name: _value(name, feeds.get(name), facts[name]) for name in (*required, *others)}


def _value(name: str, value: object, fact: Fact) -> object:
    if isinstance(value, OrtValue):
        value = value.numpy()
    if fact.kind == "optional":
        return None if value is None else _value(name, value, fact.elem or Fact())
    if fact.kind == "sequence":
        return _sequence(name, value, fact.elem or Fact())
    if fact.kind == "map":
        try:
            return check_map(name, value, fact)
        except InputError as error:
            raise InvalidArgument.of(f"Unexpected input data type. {error}") from error
    array = _array(name, value, fact)
    _check_type(array, fact)
    _check_shape(name, array.shape, fact)
    return array


def _array(name: str, value: object, fact: Fact) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return _native(value)
    if value is None:
        raise Fail.of(f"Missing Input: {name}")
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        raise InvalidArgument.of(f"Unexpected input data type. Actual: (map) , expected: ({type_name(fact)})")
    if isinstance(value, list):
        return _from_list(name, value, fact)
    if isinstance(value, Iterable):
        raise OrtRuntimeError(
            f"Input must be a list of dictionaries or a single numpy array for input '{name}', "
            f"got {type(value)}."
        )
    raise OrtRuntimeError(f"Unable to handle object of type {type(value)} for input '{name}'")


def _from_list(name: str, value: list[Any], fact: Fact) -> np.ndarray:
    try:
        array = np.array(value, fact.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise OrtRuntimeError(
            f"Could not create tensor from given input list for input '{name}': expected {fact}: {error}"
        ) from error
    return _native(array)


def _native(array: np.ndarray) -> np.ndarray:
    """The same content as the engine holds it: strings as objects, numbers in the machine's byte order."""
    if array.dtype.kind in "OUS":
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
        return np.array(texts, object).reshape(array.shape)
    try:
        dtypes.to_onnx(array.dtype)
    except KeyError:
        raise OrtRuntimeError(
            f"Numpy_type {array.dtype} can't be converted to a type that ONNX has."
        ) from None
    native = np.asarray(array)  # also what a matrix or a masked array holds
    return native if native.dtype.isnative else native.astype(native.dtype.newbyteorder("="))


def _sequence(name: str, value: object, elem: Fact) -> list[np.ndarray]:
    if isinstance(value, np.ndarray):
        raise InvalidArgument.of(f"input with name: '{name}' expected to be a sequence but received a tensor")
    if not isinstance(value, list):
        raise OrtRuntimeError(f"expected a list of arrays for input '{name}', got {type(value)}")
    if not all(isinstance(item, np.ndarray) for item in value):
        raise OrtRuntimeError(f"CreateSequenceOfTensors: Input is not a tensor: an item of input '{name}'")
    arrays = [_native(item) for item in value]
    for array in arrays:
        if elem.dtype is not None and array.dtype != elem.dtype:
            raise OrtRuntimeError(
                f"TensorSeq: tensor to be added has a different data type in input '{name}': "
                f"expected {elem.dtype}, got {array.dtype}"
            )
    return arrays


def _check_type(array: np.ndarray, fact: Fact) -> None:
    if fact.dtype is not None and array.dtype != fact.dtype:
        raise InvalidArgument.of(
            f"Unexpected input data type. Actual: ({type_name(Fact.of(array))}) , "
            f"expected: ({type_name(fact)})"
        )


def _check_shape(name: str, shape: tuple[int, ...], fact: Fact) -> None:
    if not fact.shape:  # not even a declared scalar is held against its rank
        return
    advice = "Please fix either the inputs/outputs or the model."
    if len(shape) != len(fact.shape):
        raise InvalidArgument.of(
            f"Invalid rank for input: {name} Got: {len(shape)} Expected: {len(fact.shape)} {advice}"
        )
    wrong = [
        f" index: {axis} Got: {got} Expected: {dim}\n"
        for axis, (got, dim) in enumerate(zip(shape, fact.shape, strict=True))
        if isinstance(dim, int) and got != dim
    ]
    if wrong:
        indices = "".join(wrong)
        raise InvalidArgument.of(
            f"Got invalid dimensions for input: {name} for the following indices\n{indices} {advice}"
        )
