"""The table of ONNX's schemas, made from the installed `onnx`: run as a module, this writes it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import onnx
import onnx.defs

import tilewise.onnx
from tilewise.onnx.attributes import attribute_value

PATH = Path(tilewise.onnx.__file__).with_name("schemas.txt")
_OPTIONS = ("Single", "Optional", "Variadic")


def table() -> str:
    """The content of the file."""
    types: dict[tuple[str, ...], int] = {}
    operators: dict[str, list] = defaultdict(list)
    found = onnx.defs.get_all_schemas_with_history()
    for schema in sorted(found, key=lambda s: (s.domain, s.name, s.since_version)):
        operators[f"{schema.domain}:{schema.name}"].append(_schema(schema, types))
    about = {
        "onnx": onnx.__version__,
        "opset": onnx.defs.onnx_opset_version(),
        "ir_version": int(onnx.IR_VERSION),
        "types": len(types),
    }
    lines = [_dump(about), *map(_dump, types), *(f"{key} {_dump(rows)}" for key, rows in operators.items())]
    return "\n".join(lines) + "\n"


def _schema(schema: onnx.defs.OpSchema, types: dict[tuple[str, ...], int]) -> list:
    counts = [schema.min_input, schema.max_input, schema.min_output, schema.max_output]
    inputs = [
        [
            formal.name,
            _OPTIONS.index(_word(formal.option)),
            types.setdefault(tuple(sorted(formal.types)), len(types)),
            formal.type_str,
            int(formal.is_homogeneous),
        ]
        for formal in schema.inputs
    ]
    attributes = {name: _attribute(attribute) for name, attribute in sorted(schema.attributes.items())}
    return [schema.since_version, int(schema.deprecated), counts, inputs, attributes]


def _attribute(attribute: onnx.defs.OpSchema.Attribute) -> list:
    given = attribute.default_value
    default = attribute_value(given, attribute.name) if given.type else None
    return [_word(attribute.type), int(attribute.required), default]


def _word(enum: object) -> str:
    return str(enum).rpartition(".")[2]


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    PATH.write_text(table())
