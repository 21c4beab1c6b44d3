"""`AttributeProto` to plain Python values."""

from __future__ import annotations

from collections.abc import Callable

from tilewise.errors import ModelError
from tilewise.onnx.messages import AttributeProto

_SCALARS = {1: "f", 2: "i", 3: "s"}
_MESSAGES = {4: "t", 5: "g", 11: "sparse_tensor", 13: "tp"}
_LISTS = {
    6: "floats",
    7: "ints",
    8: "strings",
    9: "tensors",
    10: "graphs",
    12: "sparse_tensors",
    14: "type_protos",
}
_FIELDS = {**_SCALARS, **_MESSAGES, **_LISTS}
_SINGULAR = (*_SCALARS.values(), *_MESSAGES.values())

ReadMessage = Callable[[object, str], object]


def attribute_value(proto: AttributeProto, what: str, read: ReadMessage | None = None) -> object:
    """The value: int, float, str (bytes where not UTF-8), what `read` makes of a message, or a list of these.

    read: converts a tensor, sparse tensor, graph or type; it is told where the message was found.
    `ModelError` for an unknown type or a value of another type than the declared one.
    """
    field = _FIELDS.get(proto.type)
    if field is None:
        raise ModelError(f"{what}: expected a known attribute type, got {proto.type}")
    filled = {name for name in _SINGULAR if proto.HasField(name)}
    filled |= {name for name in _LISTS.values() if len(getattr(proto, name))}
    if filled - {field} or (proto.type in _MESSAGES and not filled):
        got = ", ".join(map(repr, sorted(filled))) or "none"
        raise ModelError(f"{what}: expected a value in field {field!r}, got {got}")
    value = getattr(proto, field)
    if proto.type in _LISTS:
        return [_plain(v, what, read) for v in value]
    return _plain(value, what, read)


def _plain(value: object, what: str, read: ReadMessage | None) -> object:
    if isinstance(value, int | float):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    assert read is not None, what
    return read(value, what)
