"""What ONNX itself says of an operator at an opset: its schema and the defaults of its attributes.

`schemas.txt`, beside this file, holds what the checks need of every schema of `onnx`, so that no process waits for the
import of that package. It is written by `python -m tests.onnx_import.update_schemas`: a line about the whole, a line
for each set of types, a line for each operator.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from tilewise.graph import Node

MIN_OPSET = 7
"""Oldest opset whose operator forms are supported as they are."""

SINGLE, OPTIONAL, VARIADIC = range(3)
"""How often a parameter occurs."""


class Parameter(NamedTuple):
    """A formal input of an operator; `types` are ONNX's names, `type_str` the constraint that it shares."""

    name: str
    option: int
    types: frozenset[str]
    type_str: str
    is_homogeneous: bool


class Attribute(NamedTuple):
    """An attribute of an operator; `type` as in "INTS". `default` is None where there is none."""

    type: str
    required: bool
    default: Any


class Schema(NamedTuple):
    """An operator's form from an opset on."""

    since_version: int
    deprecated: bool
    min_input: int
    max_input: int
    min_output: int
    max_output: int
    inputs: Sequence[Parameter]
    attributes: Mapping[str, Attribute]


class _File(NamedTuple):
    opset: int
    ir_version: int
    types: list[str]
    operators: dict[str, str]


def max_opset() -> int:
    """The newest opset of ONNX's own domain that is known."""
    return _file().opset


def max_ir_version() -> int:
    """The newest version of the file format that is known."""
    return _file().ir_version


@lru_cache(maxsize=4096)
def find_schema(op_type: str, version: int, domain: str = "") -> Schema | None:
    """The schema in force for `op_type` at opset `version` of `domain`, or None."""
    forms = [s for s in schemas(op_type, domain) if s.since_version <= version]
    return max(forms, key=lambda s: s.since_version, default=None)


@lru_cache(maxsize=4096)
def defaults(op_type: str, version: int, domain: str = "") -> Mapping[str, object]:
    """Default values of attributes by name; empty for an operator without a schema."""
    schema = find_schema(op_type, version, domain)
    attributes = schema.attributes if schema is not None else {}
    return {name: a.default for name, a in attributes.items() if a.default is not None}


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


@cache
def schemas(op_type: str, domain: str) -> Sequence[Schema]:
    """Every form of an operator that there has been."""
    line = _file().operators.get(f"{domain}:{op_type}")
    return [] if line is None else [_schema(*row) for row in json.loads(line)]


def _schema(since: int, deprecated: int, counts: list[int], inputs: list, attributes: dict) -> Schema:
    formals = [
        Parameter(name, option, _types(types), type_str, bool(homogeneous))
        for name, option, types, type_str, homogeneous in inputs
    ]
    known = {
        name: Attribute(kind, bool(required), default)
        for name, (kind, required, default) in attributes.items()
    }
    min_input, max_input, min_output, max_output = counts
    return Schema(since, bool(deprecated), min_input, max_input, min_output, max_output, formals, known)


@cache
def _types(line: int) -> frozenset[str]:
    return frozenset(json.loads(_file().types[line]))


@cache
def _file() -> _File:
    with open(os.path.join(os.path.dirname(__file__), "schemas.txt"), encoding="utf-8") as file:
        head, *lines = file.read().splitlines()
    about = json.loads(head)
    operators = dict(line.split(" ", 1) for line in lines[about["types"] :])
    return _File(about["opset"], about["ir_version"], lines[: about["types"]], operators)
