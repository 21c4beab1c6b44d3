"""What ONNX itself says of an operator at an opset: its schema and the defaults of its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import onnx
import onnx.defs

from tilewise.graph import Node
from tilewise.onnx.attributes import attribute_value

MIN_OPSET = 7
"""Oldest opset whose operator forms are supported as they are."""


_INT_MAX = (1 << 31) - 1


def max_opset() -> int:
    """The newest opset of ONNX's own domain that the installed `onnx` describes."""
    return onnx.defs.onnx_opset_version()


@lru_cache(maxsize=4096)
def find_schema(op_type: str, version: int, domain: str = "") -> onnx.defs.OpSchema | None:
    """The schema in force for `op_type` at opset `version` of `domain`, or None."""
    try:
        return onnx.defs.get_schema(op_type, min(version, _INT_MAX), domain)
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=4096)
def defaults(op_type: str, version: int, domain: str = "") -> Mapping[str, object]:
    """Default values of attributes by name; empty for an operator without a schema."""
    schema = find_schema(op_type, version, domain)
    found: dict[str, object] = {}
    for name, attribute in schema.attributes.items() if schema is not None else ():
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            found[name] = attribute_value(attribute.default_value, f"{op_type}: {name}")
    return found


def fill_defaults(node: Node) -> None:
    """Add to `node.attrs` the defaults of its version for all that are missing."""
    for name, value in defaults(node.op_type, node.version, node.domain).items():
        if name not in node.attrs:
            node.attrs[name] = list(value) if isinstance(value, list) else value


def is_default(node: Node, name: str) -> bool:
    """True where the attribute says what its absence would."""
    known = defaults(node.op_type, node.version, node.domain)
    value = node.attrs[name]
    return name in known and type(value) is type(known[name]) and value == known[name]
