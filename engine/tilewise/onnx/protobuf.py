"""The wire format of Protocol Buffers, decoded into messages whose large fields are views of what was decoded.

Source: https://protobuf.dev/programming-guides/encoding/. Known fields end up as with Google's library (proto2): the
last of several values counts, messages given twice are merged, packed and unpacked numbers are both read, a field of
another wire type is unknown and skipped, strings that are not UTF-8 come as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

MAX_DEPTH = 100
"""Messages inside each other, as in Google's library."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_MAX_TAG = (1 << 32) - 1

Store = Callable[[dict[str, Any], Any, int], None]
"""Puts one raw value, an integer or bytes, into the fields of a message that lies `depth` deep."""


class DecodeError(ValueError):
    """Bytes that are no message."""


class Message:
    """A message: fields that were met are attributes of the instance, the defaults of all others of its class.

    FIELDS: name and kind by number. A kind is "int64", "int32", "enum N" (for values below N; others are ignored),
    "float", "string", "bytes", "view" (bytes that are not copied), the name of a message, one of these after
    "repeated", or "numbers T": repeated numbers of NumPy's type T.
    ONEOF: names of fields of which the one met last is kept.
    """

    FIELDS: ClassVar[Mapping[int, tuple[str, str]]] = {}
    ONEOF: ClassVar[frozenset[str]] = frozenset()
    stores: ClassVar[dict[int, Store]] = {}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def HasField(self, name: str) -> bool:
        """True where the field was met; not for repeated ones."""
        return name in self.__dict__

    def WhichOneof(self, group: str) -> str | None:
        """The field of the only oneof that is set."""
        return next((name for name in self.__dict__ if name in self.ONEOF), None)


M = TypeVar("M", bound=Message)


class Numbers:
    """Repeated numbers, as arrays and lists in the order of the file."""

    __slots__ = ("_dtype", "_parts")

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._parts: list[Any] = []

    def append(self, number: float) -> None:
        if not self._parts or not isinstance(self._parts[-1], list):
            self._parts.append([])
        self._parts[-1].append(number)

    def extend(self, array: np.ndarray) -> None:
        self._parts.append(array)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        parts = [np.asarray(part, self._dtype) for part in self._parts]
        return np.concatenate(parts).astype(dtype or self._dtype, copy=False)


def parse(cls: type[M], data: memoryview) -> M:
    """The message that `data`, a view of bytes, holds. `DecodeError` says what is wrong."""
    message = cls()
    try:
        _merge(message, data, 0)
    except IndexError:
        raise DecodeError("the data end inside a field") from None
    return message


def _merge(message: Message, data: memoryview, depth: int) -> None:
    """Read fields up to the end of `data`; `IndexError` where they go on beyond it."""
    if depth >= MAX_DEPTH:
        raise DecodeError(f"more than {MAX_DEPTH} messages inside each other")
    stores, values = message.stores, message.__dict__
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        position += 1
        if tag > 127:
            tag, position = _varint(data, position - 1)
        raw, position = _raw(data, position, tag, depth)
        store = stores.get(tag)
        if store is not None:
            store(values, raw, depth)


def _raw(data: memoryview, position: int, tag: int, depth: int) -> tuple[Any, int]:
    """The value after a tag: an integer, or a view of its bytes; and where it ends."""
    wire = tag & 7
    if not 8 <= tag <= _MAX_TAG:
        raise DecodeError(f"field number {tag >> 3}")
    if wire == _VARINT:
        value = data[position]
        return (value, position + 1) if value < 128 else _varint(data, position)
    if wire == _BYTES:
        size = data[position]
        position += 1
        if size > 127:
            size, position = _varint(data, position - 1)
    elif wire in (_FIXED32, _FIXED64):
        size = 4 if wire == _FIXED32 else 8
    elif wire == _GROUP:
        return None, _group_end(data, position, tag, depth + 1)
    else:
        raise DecodeError(f"wire type {wire} of field {tag >> 3}")
    if size > len(data) - position:
        raise DecodeError(f"field {tag >> 3} of {size} bytes where {len(data) - position} are left")
    return data[position : position + size], position + size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits in groups of 7, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise DecodeError("a number of more than 10 bytes")


def _group_end(data: memoryview, position: int, start: int, depth: int) -> int:
    """Where an unknown group ends."""
    if depth >= MAX_DEPTH:
        raise DecodeError(f"more than {MAX_DEPTH} messages inside each other")
    while True:
        tag, position = _varint(data, position)
        if tag & 7 == _END_GROUP:
            if tag >> 3 != start >> 3:
                raise DecodeError(f"the end of group {tag >> 3} inside group {start >> 3}")
            return position
        position = _raw(data, position, tag, depth)[1]


def link(messages: Mapping[str, type[Message]]) -> None:
    """Give each class defaults and what it needs to be parsed; `messages` holds all that its fields name."""
    for cls in messages.values():
        cls.stores = {}
        for number, (name, kind) in cls.FIELDS.items():
            setattr(cls, name, _default(kind, messages))
            for wire, store in _stores(name, kind, messages):
                cls.stores[number << 3 | wire] = _exclusive(store, name, cls) if name in cls.ONEOF else store


def _default(kind: str, messages: Mapping[str, type[Message]]) -> Any:
    if kind.startswith(("repeated ", "numbers ")):
        return ()
    if kind in messages:
        return messages[kind]()
    return {"float": 0.0, "string": "", "bytes": b"", "view": b""}.get(kind, 0)


def _stores(name: str, kind: str, messages: Mapping[str, type[Message]]) -> Iterator[tuple[int, Store]]:
    """What takes the field in, by wire type."""
    first, _, rest = kind.partition(" ")
    if first == "numbers":
        dtype = np.dtype(rest)
        wire, convert = _number(rest)
        yield wire, _add(name, convert, lambda: Numbers(rest))
        yield _BYTES, _extend(name, lambda raw: _unpacked(raw, dtype), lambda: Numbers(rest))
    elif first == "repeated" and rest in messages:
        yield _BYTES, _add_message(name, messages[rest])
    elif first == "repeated" and rest in _CONVERT:
        yield _BYTES, _add(name, _CONVERT[rest], list)
    elif first == "repeated":
        dtype = np.dtype({"float": "float32"}.get(rest, rest))
        wire, convert = _number(dtype.name)
        yield wire, _add(name, convert, list)
        yield _BYTES, _extend(name, lambda raw: _unpacked(raw, dtype).tolist(), list)
    elif kind in messages:
        yield _BYTES, _merge_message(name, messages[kind])
    elif first == "enum":
        yield _VARINT, _set_below(name, int(rest))
    elif kind in _CONVERT:
        yield _BYTES, _set(name, _CONVERT[kind])
    else:
        wire, convert = _number({"float": "float32"}.get(kind, kind))
        yield wire, _set(name, convert)


def _string(raw: memoryview) -> str | bytes:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        return bytes(raw)


_CONVERT: dict[str, Callable[[memoryview], Any]] = {
    "string": _string,
    "bytes": bytes,
    "view": lambda raw: raw,
}


def _number(dtype: str) -> tuple[int, Callable[[Any], float]]:
    """Wire type of one number and what makes a Python number of its raw value."""
    if dtype in ("float32", "float64"):
        code, wire = ("<f", _FIXED32) if dtype == "float32" else ("<d", _FIXED64)
        return wire, lambda raw: struct.unpack(code, raw)[0]
    bits = np.dtype(dtype).itemsize * 8
    half = 0 if dtype.startswith("u") else 1 << (bits - 1)
    return _VARINT, lambda raw: ((raw & ((1 << bits) - 1)) ^ half) - half


def _unpacked(raw: memoryview, dtype: np.dtype) -> np.ndarray:
    """Packed numbers."""
    if dtype.kind == "f":
        if len(raw) % dtype.itemsize:
            raise DecodeError(f"{len(raw)} bytes of packed {dtype.name}")
        return np.frombuffer(raw, dtype.newbyteorder("<"))
    data = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(data < 128)
    if data.size and (not ends.size or ends[-1] != data.size - 1):
        raise IndexError
    starts = np.concatenate([[0], ends[:-1] + 1])[: ends.size]
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise DecodeError("a number of more than 10 bytes")
    values = np.zeros(ends.size, np.uint64)
    for i in range(longest):
        there = lengths > i
        values[there] |= (data[starts[there] + i] & 127).astype(np.uint64) << np.uint64(7 * i)
    return values.astype(f"u{dtype.itemsize}").view(dtype)


# Each of these makes what `_merge` calls for one field.


def _set(name: str, convert: Callable[[Any], Any]) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        values[name] = convert(raw)

    return store


def _set_below(name: str, limit: int) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        if raw < limit:
            values[name] = raw

    return store


def _add(name: str, convert: Callable[[Any], Any], make: Callable[[], Any]) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        if name not in values:
            values[name] = make()
        values[name].append(convert(raw))

    return store


def _extend(name: str, convert: Callable[[Any], Any], make: Callable[[], Any]) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        if name not in values:
            values[name] = make()
        values[name].extend(convert(raw))

    return store


def _merge_message(name: str, cls: type[Message]) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        if name not in values:
            values[name] = cls()
        _merge(values[name], raw, depth + 1)

    return store


def _add_message(name: str, cls: type[Message]) -> Store:
    def store(values: dict[str, Any], raw: Any, depth: int) -> None:
        message = cls()
        _merge(message, raw, depth + 1)
        if name not in values:
            values[name] = []
        values[name].append(message)

    return store


def _exclusive(store: Store, name: str, cls: type[Message]) -> Store:
    """`store`, after which no other field of the oneof is set."""
    others = cls.ONEOF - {name}

    def exclusive(values: dict[str, Any], raw: Any, depth: int) -> None:
        for other in others:
            values.pop(other, None)
        store(values, raw, depth)

    return exclusive
