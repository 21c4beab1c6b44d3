"""`tilewise inspect`: what it counts, against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import small_models
from tests.cli.tool import Tool
from tilewise.cli.console import show_bytes, show_count, show_shape
from tilewise.cli.costs import flops
from tilewise.graph import Fact, Node

SHAPE = ("--shape", "image=2,3,8,6")
WEIGHTS = 16 * 3 * 9 + 16 + 24 * 16 * 9 + 10 * 24 + 10
FLOPS = {
    "conv1": 2 * 27 * (2 * 16 * 8 * 6),
    "relu1": 2 * 16 * 8 * 6,
    "pool1": 4 * (2 * 16 * 4 * 3),
    "conv2": 2 * 144 * (2 * 24 * 4 * 3),
    "mean": 2 * 24 * 4 * 3,
    "flat": 0,
    "fc": 2 * 24 * (2 * 10),
}


@pytest.fixture
def report(tilewise: Tool, cnn: str) -> dict:
    return json.loads(tilewise.fine("inspect", cnn, "--json", *SHAPE))


def test_json_tells_the_model_and_its_values(report: dict, cnn: str) -> None:
    assert report["model"] == cnn
    assert report["graph"] == "small"
    assert report["producer"] == "tests 1"
    assert report["opsets"] == {"ai.onnx": small_models.OPSET}
    assert report["unsupported"] == []
    assert report["inputs"] == [
        {
            "name": "image",
            "kind": "tensor",
            "dtype": "float32",
            "shape": [2, 3, 8, 6],
            "declared_shape": ["N", 3, "H", "W"],
        }
    ]
    assert [(v["name"], v["shape"]) for v in report["outputs"]] == [("scores", [2, 10])]


def test_json_counts_nodes_parameters_flops_and_bytes(report: dict) -> None:
    assert {row["name"]: row["flops"] for row in report["nodes"]} == FLOPS
    parameters = {row["name"]: row["parameters"] for row in report["nodes"] if row["parameters"]}
    assert parameters == {"conv1": 448, "conv2": 3456, "fc": 250}
    conv1 = report["nodes"][0]
    assert conv1["operator"] == "Conv"
    assert conv1["outputs"][0]["shape"] == [2, 16, 8, 6]
    assert conv1["output_bytes"] == 4 * 2 * 16 * 8 * 6
    totals = report["totals"]
    assert totals["nodes"] == 7
    assert totals["parameters"] == WEIGHTS
    assert totals["weight_bytes"] == 4 * WEIGHTS
    assert totals["flops"] == sum(FLOPS.values())
    assert totals["nodes_of_unknown_flops"] == 0
    assert totals["arena_bytes"] > 0


def test_the_arena_is_the_plan_s(tilewise: Tool, cnn: str, report: dict) -> None:
    import tilewise as tw

    assert report["totals"]["arena_bytes"] == tw.load(cnn).plan({"image": (2, 3, 8, 6)}).peak_bytes


def test_the_table(tilewise: Tool, cnn: str) -> None:
    text = tilewise.fine("inspect", cnn, *SHAPE)
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["conv1"])
    assert row == ["conv1", "Conv", "2x16x8x6", "448", "82.9", "k", "6", "KiB"]
    assert "2x3x8x6" in text
    assert "Nx3xHxW" in text
    assert "opset ai.onnx 17, made by tests 1" in text
    assert f"7 nodes, 4.15 k parameters, {show_count(sum(FLOPS.values()))} FLOPs a run\n" in text
    assert "not known" not in text


def test_free_dims_are_one(tilewise: Tool, pair: str) -> None:
    report = json.loads(tilewise.fine("inspect", pair, "--json"))
    assert [v["shape"] for v in report["outputs"]] == [[1, 4], [1, 4]]


def test_free_dims_stay_free_where_one_does_not_fit(tilewise: Tool, cnn: str) -> None:
    report = json.loads(tilewise.fine("inspect", cnn, "--json"))
    assert report["inputs"][0]["shape"] == ["N", 3, "H", "W"]
    assert report["outputs"][0]["shape"] == ["N", 10]
    assert report["nodes"][0]["flops"] is None
    assert report["totals"]["arena_bytes"] is None
    assert "arena of a run: not known without --shape" in tilewise.fine("inspect", cnn)


def test_a_dim_given_once_holds_for_all_inputs(tilewise: Tool, pair: str) -> None:
    report = json.loads(tilewise.fine("inspect", pair, "--json", "--shape", "b=6,4"))
    assert [v["shape"] for v in report["inputs"]] == [[6, 4], [6, 4]]


def test_shapes_that_depend_on_values_stay_unknown(tilewise: Tool, tmp_path: Path) -> None:
    path = small_models.save(small_models.positives(), tmp_path / "positives.onnx")
    report = json.loads(tilewise.fine("inspect", path, "--json"))
    assert report["nodes"][-1]["output_bytes"] is None
    assert report["totals"]["nodes_of_unknown_flops"] == 1
    assert "and 1 node(s) of unknown shape" in tilewise.fine("inspect", path)


def test_an_unsupported_model_can_be_looked_at(tilewise: Tool, unsupported: str) -> None:
    report = json.loads(tilewise.fine("inspect", unsupported, "--json"))
    assert [row["operator"] for row in report["nodes"]] == ["made.up.Nonsense", "Identity", "made.up.Rubbish"]
    assert len(report["unsupported"]) == 2
    assert report["totals"]["arena_bytes"] is None
    assert "2 unsupported feature(s)" in tilewise.fine("inspect", unsupported)


def test_wrong_shapes_are_refused(tilewise: Tool, cnn: str) -> None:
    assert "does not fit" in tilewise.error("inspect", cnn, "--shape", "image=1,4,8,8")
    assert "'pool1'" in tilewise.error("inspect", cnn, "--shape", "image=1,3,1,1")


# Costs of single nodes.


def fact(*shape: int) -> Fact:
    return Fact(np.dtype(np.float32), shape)


COSTS = [
    ("Conv", {"group": 4}, [(1, 8, 5, 5), (12, 2, 3, 3)], (1, 12, 3, 3), 2 * 12 * 9 * 2 * 9),
    ("ConvTranspose", {}, [(2, 8, 5, 5), (8, 3, 2, 2)], (2, 3, 6, 6), 2 * (2 * 8 * 25) * 3 * 4),
    ("Gemm", {"transA": 1}, [(7, 5), (7, 3)], (5, 3), 2 * 7 * 15),
    ("MatMul", {}, [(4, 5, 7), (7, 3)], (4, 5, 3), 2 * 7 * 60),
    ("AveragePool", {"kernel_shape": [3, 2]}, [(1, 2, 9, 9)], (1, 2, 7, 8), 6 * 112),
    ("ReduceMean", {}, [(3, 50)], (3, 1), 150),
    ("Sigmoid", {}, [(3, 5)], (3, 5), 15),
    ("Transpose", {}, [(3, 5)], (5, 3), 0),
]


@pytest.mark.parametrize(("op_type", "attrs", "ins", "out", "expected"), COSTS)
def test_flops(op_type: str, attrs: dict, ins: list, out: tuple, expected: int) -> None:
    node = Node(op_type, [f"x{i}" for i in range(len(ins))], ["y"], dict(attrs))
    assert flops(node, [fact(*s) for s in ins], [fact(*out)]) == expected


def test_flops_of_unknown_shapes_are_unknown() -> None:
    node = Node("Relu", ["x"], ["y"])
    free = Fact(np.dtype(np.float32), ("N", 3))
    assert flops(node, [free], [free]) is None


def test_quantized_weights_are_parameters_and_shapes_are_not(tilewise: Tool, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMulInteger", ["r", "w"], ["y"]),
    ]
    constants = {"shape": np.array([2, 3], np.int64), "w": np.ones((3, 5), np.int8)}
    proto = small_models.model(nodes, {"x": [6]}, {"y": [2, 5]}, constants, TensorProto.INT8)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    path = small_models.save(proto, tmp_path / "m.onnx")
    report = json.loads(tilewise.fine("inspect", path, "--json"))
    assert [row["parameters"] for row in report["nodes"]] == [0, 15]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (0, "0"), (999, "999"), (1000, "1 k"), (3_490_000, "3.49 M"), (4.1e9, "4.1 G")],
)
def test_counts_as_people_read_them(count: float | None, shown: str) -> None:
    assert show_count(count) == shown


def test_bytes_and_shapes_as_people_read_them() -> None:
    assert [show_bytes(v) for v in (0, 1023, 1024, 1536, 1 << 30)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 KiB",
        "1 GiB",
    ]
    assert [show_shape(s) for s in ((), (1, "N", None), None)] == ["scalar", "1xNx?", "?"]
