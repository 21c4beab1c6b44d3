"""`TensorProto` and `SparseTensorProto` to NumPy arrays, lengths checked before anything is allocated."""

from __future__ import annotations

import math

import numpy as np

from tilewise.errors import ModelError
from tilewise.onnx.external import ExternalFiles
from tilewise.onnx.fields import element_type, shape_of, text
from tilewise.onnx.messages import SparseTensorProto, TensorProto
from tilewise.onnx.source import SMALL_BYTES, own

_EXTERNAL = 1
_STRING, _COMPLEX64, _COMPLEX128 = 8, 14, 15
_BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 27: 6, 28: 6}
"""Bits of an element for the types that are packed, lowest bits first."""

_FIELDS = {
    1: ("float_data", "float32"),
    _COMPLEX64: ("float_data", "float32"),
    11: ("double_data", "float64"),
    _COMPLEX128: ("double_data", "float64"),
    7: ("int64_data", "int64"),
    12: ("uint64_data", "uint64"),
    13: ("uint64_data", "uint64"),
    _STRING: ("string_data", "object"),
}
_INT32_FIELD = ("int32_data", "int32")
"""Where all other types are stored when not in `raw_data`."""

_DATA_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

MAX_DENSE_BYTES = 1 << 31
"""Largest sparse tensor that is made dense: its size in memory is not bounded by that of the file."""


def tensor_array(proto: TensorProto, files: ExternalFiles, what: str, *, borrow: bool = False) -> np.ndarray:
    """The content of a tensor, read-only where it is a view of a file; strings as `object` of `str`.

    borrow: large raw data may stay a view of the model's bytes or its mapped file, of any alignment, which the caller
    replaces through `own`. External data are views of their mapped file where their alignment allows it.

    `ModelError` for an unknown element type, bad dims, or data of another length than dims and type ask for.
    """
    dtype = element_type(proto.data_type, what)
    shape = shape_of(proto.dims, what)
    if proto.HasField("segment"):
        raise ModelError(f"{what}: expected a whole tensor, got a segment of one")
    if proto.data_location == _EXTERNAL:
        if proto.data_type == _STRING:
            raise ModelError(f"{what}: expected strings inside the model, got external data")
        raw = files.read(proto, _nbytes(proto.data_type, dtype, shape), what)
        return _from_bytes(raw, proto, dtype, shape)
    filled = [name for name in _DATA_FIELDS if len(getattr(proto, name))]
    if proto.HasField("raw_data"):
        filled.append("raw_data")
    if len(filled) > 1:
        raise ModelError(f"{what}: expected one data field, got {' and '.join(filled)}")
    if filled == ["raw_data"]:
        array = _from_raw(proto, dtype, shape, what)
        return array if borrow and array.nbytes > SMALL_BYTES else own(array)
    return _from_field(proto, dtype, shape, what)


def sparse_array(proto: SparseTensorProto, files: ExternalFiles, what: str) -> np.ndarray:
    """A sparse tensor made dense (ONNX SparseTensorProto: linear or coordinate indices)."""
    shape = shape_of(proto.dims, what)
    values = tensor_array(proto.values, files, f"{what}: values")
    indices = tensor_array(proto.indices, files, f"{what}: indices")
    if values.ndim != 1 or indices.dtype != np.int64:
        raise ModelError(
            f"{what}: expected values of rank 1 and int64 indices, got {values.ndim} and {indices.dtype}"
        )
    if indices.shape not in ((values.size,), (values.size, len(shape))):
        raise ModelError(
            f"{what}: expected indices of shape [{values.size}] or [{values.size}, {len(shape)}], "
            f"got {list(indices.shape)}"
        )
    if math.prod(shape) * values.dtype.itemsize > MAX_DENSE_BYTES:
        raise ModelError(
            f"{what}: expected at most {MAX_DENSE_BYTES} bytes when dense, got dims {list(shape)}"
        )
    bounds = np.array(shape if indices.ndim == 2 else [math.prod(shape)], np.int64)
    if indices.size and (indices.min() < 0 or (indices >= bounds).any()):
        raise ModelError(f"{what}: expected indices inside dims {list(shape)}, got {indices.max(axis=0)}")
    dense = np.full(shape, "", object) if values.dtype == object else np.zeros(shape, values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def _nbytes(elem_type: int, dtype: np.dtype, shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) * _BITS.get(elem_type, dtype.itemsize * 8) // 8)


def _from_raw(proto: TensorProto, dtype: np.dtype, shape: tuple[int, ...], what: str) -> np.ndarray:
    if proto.data_type == _STRING:
        raise ModelError(f"{what}: expected strings in string_data, got raw_data")
    raw = proto.raw_data
    expected = _nbytes(proto.data_type, dtype, shape)
    if len(raw) != expected:
        raise ModelError(
            f"{what}: expected {expected} bytes of raw_data for {dtype.name}{list(shape)}, got {len(raw)}"
        )
    return _from_bytes(np.frombuffer(raw, np.uint8), proto, dtype, shape)


def _from_bytes(raw: np.ndarray, proto: TensorProto, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if proto.data_type in _BITS:
        return _unpack(raw, _BITS[proto.data_type], math.prod(shape)).view(dtype).reshape(shape)
    if dtype == np.bool_:
        return (raw != 0).reshape(shape)
    return raw.view(dtype).reshape(shape)


def _from_field(proto: TensorProto, dtype: np.dtype, shape: tuple[int, ...], what: str) -> np.ndarray:
    field, storage = _FIELDS.get(proto.data_type, _INT32_FIELD)
    data = getattr(proto, field)
    bits = _BITS.get(proto.data_type, 8)
    packed = bits in (2, 4)
    count = math.prod(shape)
    expected = -(-count * bits // 8) if packed else count * (2 if dtype.kind == "c" else 1)
    if len(data) != expected:
        raise ModelError(
            f"{what}: expected {expected} values in {field} for {dtype.name}{list(shape)}, got {len(data)}"
        )
    if field == "string_data":
        return _strings(data, what).reshape(shape)
    values = np.array(data, storage)
    if dtype == np.bool_:
        return (values != 0).reshape(shape)
    if packed:
        return _unpack(values.astype(np.uint8), bits, count).view(dtype).reshape(shape)
    if values.dtype.kind == "f":
        return values.view(dtype).reshape(shape)
    if bits < 8:
        values &= (1 << bits) - 1
    return values.astype(f"u{dtype.itemsize}").view(dtype).reshape(shape)


def _strings(data, what: str) -> np.ndarray:
    out = np.empty(len(data), object)
    for i, value in enumerate(data):
        try:
            out[i] = value.decode()
        except UnicodeDecodeError:
            text(value, f"{what}: element {i}")
    return out


def _unpack(raw: np.ndarray, bits: int, count: int) -> np.ndarray:
    """One byte for each of `count` elements of `bits` bits; 6-bit elements straddle bytes."""
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        return ((raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    spread = np.unpackbits(raw, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(spread, axis=1, bitorder="little").reshape(-1)
