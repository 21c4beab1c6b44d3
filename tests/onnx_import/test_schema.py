"""The table of ONNX's schemas against the installed `onnx`."""

from __future__ import annotations

import json

import onnx
import onnx.defs
import pytest

from tests.onnx_import.update_schemas import PATH, table
from tilewise.onnx.schema import find_schema, max_ir_version, max_opset

ABOUT = json.loads(PATH.read_text().partition("\n")[0])


@pytest.mark.skipif(onnx.__version__ != ABOUT["onnx"], reason=f"the table was made from onnx {ABOUT['onnx']}")
def test_the_table_is_up_to_date() -> None:
    assert PATH.read_text() == table(), "run python -m tests.onnx_import.update_schemas"
    assert (max_opset(), max_ir_version()) == (onnx.defs.onnx_opset_version(), int(onnx.IR_VERSION))


def installed(op_type: str, version: int, domain: str):
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None


def decoded(value):
    if isinstance(value, list):
        return [decoded(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("version", [1, 6, 7, 13, 17])
def test_schemas(version: int) -> None:
    names = {(s.name, s.domain) for s in onnx.defs.get_all_schemas_with_history()}
    for op_type, domain in sorted(names):
        ours, theirs = find_schema(op_type, version, domain), installed(op_type, version, domain)
        assert (ours is None) == (theirs is None), op_type
        if ours is None or theirs is None:
            continue
        assert ours.since_version == theirs.since_version, op_type
        assert ours.deprecated == theirs.deprecated
        assert (ours.min_input, ours.max_input) == (theirs.min_input, theirs.max_input)
        assert (ours.min_output, ours.max_output) == (theirs.min_output, theirs.max_output)
        assert [(p.name, p.type_str) for p in ours.inputs] == [(p.name, p.type_str) for p in theirs.inputs]
        assert [p.types for p in ours.inputs] == [p.types for p in theirs.inputs]
        assert {n for n, a in ours.attributes.items() if a.required} == {
            n for n, a in theirs.attributes.items() if a.required
        }
        for name, attribute in theirs.attributes.items():
            given = attribute.default_value
            default = onnx.helper.get_attribute_value(given) if given.type else None
            assert ours.attributes[name].default == decoded(default), (op_type, name)


def test_no_schema() -> None:
    assert find_schema("Nothing", 7) is None
    assert find_schema("Conv", 7, "own") is None
    assert find_schema("Gelu", 19) is None
    assert find_schema("Conv", 1 << 40) == find_schema("Conv", max_opset())
