"""`tilewise check`: all findings at once, by node."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from tests import small_models
from tests.cli.tool import Tool


def test_a_model_that_is_supported(tilewise: Tool, cnn: str) -> None:
    assert tilewise.fine("check", cnn) == f"{cnn}: all of its 7 nodes are supported\n"


def test_every_finding_is_listed_by_node(tilewise: Tool, unsupported: str) -> None:
    outcome = tilewise("check", unsupported)
    assert (outcome.code, outcome.err) == (1, "")
    rows = [line.split()[:2] for line in outcome.out.splitlines() if "not supported (" in line]
    assert rows == [["first", "Nonsense"], ["last", "Rubbish"]]
    assert outcome.out.endswith(f"{unsupported}: 2 unsupported feature(s)\n")


def test_shapes_that_contradict_are_an_error(tilewise: Tool, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"], name="product")]
    path = small_models.save(small_models.model(nodes, {"x": [2, 3]}, {"y": [2, 3]}), tmp_path / "m.onnx")
    assert "product" in tilewise.error("check", path)
