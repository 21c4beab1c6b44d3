"""The table of operators."""

from __future__ import annotations

import pytest

from tilewise.graph import Node
from tilewise.ops.base import Op
from tilewise.ops.table import TABLE, lookup


@pytest.mark.parametrize(("domain", "op_type"), TABLE)
def test_every_row_names_an_operator(domain: str, op_type: str) -> None:
    cls = lookup(Node(op_type, [], [], domain=domain))
    assert isinstance(cls, type)
    assert issubclass(cls, Op)
    assert f"{cls.__module__}.{cls.__qualname__}" == f"tilewise.ops.{TABLE[domain, op_type]}"
