"""`tilewise explain`: layers, kernels and parts of the peak, against numbers worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewise_kernels
from tests import small_models
from tests.cli.test_inspect import FLOPS
from tests.cli.tool import Tool
from tilewise.ops.conv import IMPLEMENTATIONS

SHAPE = ("--shape", "image=2,3,8,6", "--threads", "1", "--runs", "3")
CONVOLUTIONS = {
    "conv1": "conv n2g1c3o16_ih8oh8kh3sh1dh1ph1_iw6ow6kw3sw1dw1pw1",
    "conv2": "conv n2g1c16o24_ih4oh4kh3sh1dh1ph1_iw3ow3kw3sw1dw1pw1",
}

native = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs extension modules")


@pytest.fixture
def report(tilewise: Tool, cnn: str) -> dict:
    return json.loads(tilewise.fine("explain", cnn, "--json", *SHAPE))


def layer(report: dict, name: str) -> dict:
    (found,) = (row for row in report["layers"] if row["node"] == name)
    return found


@native
def test_convolutions_tell_problem_and_implementation(report: dict) -> None:
    for name, problem in CONVOLUTIONS.items():
        row = layer(report, name)
        assert row["problem"] == problem
        assert row["implementation"] in [i.name for i in IMPLEMENTATIONS]
        assert row["flops"] == FLOPS[name]
        assert row["flops_per_second"] == pytest.approx(FLOPS[name] * 1e9 / row["ns"])
        assert row["part_of_peak"] == pytest.approx(row["flops_per_second"] / report["peak"])


@native
def test_other_layers_tell_their_shapes(report: dict) -> None:
    pool = layer(report, "pool1")
    assert pool["problem"] == "2x16x8x6 to 2x16x4x3"
    assert pool["implementation"] is None
    assert pool["flops"] == FLOPS["pool1"]
    assert pool["flops_per_second"] is None


def test_slowest_first_and_totals(report: dict, cnn: str) -> None:
    times = [row["ns"] for row in report["layers"]]
    assert times == sorted(times, reverse=True)
    assert report["model"] == cnn
    assert report["threads"] == 1
    assert report["isa"] == tilewise_kernels.ISA
    assert report["inputs"] == {"image": {"dtype": "float32", "shape": [2, 3, 8, 6]}}
    for row in report["layers"]:
        assert row["kernels"]
    kernels = [k["kernel"] for k in report["kernels"]]
    assert {k for row in report["layers"] for k in row["kernels"]} == set(kernels)
    totals = report["totals"]
    assert totals["product_flops"] == FLOPS["conv1"] + FLOPS["conv2"] + FLOPS["fc"]
    assert 0 < totals["outside_convolutions_ns"] < totals["steps_ns"]


def test_the_table(tilewise: Tool, cnn: str) -> None:
    text = tilewise.fine("explain", cnn, *SHAPE)
    assert "image float32[2, 3, 8, 6]" in text
    assert "medians of 3 run(s)" in text
    assert "outside convolutions" in text
    if tilewise_kernels.NATIVE:
        assert all(problem in text for problem in CONVOLUTIONS.values())
        assert "GFLOP/s over all steps" in text


def test_the_slowest_alone(tilewise: Tool, cnn: str, report: dict) -> None:
    text = tilewise.fine("explain", cnn, "--top", "1", *SHAPE)
    names = {row["node"] for row in report["layers"]}
    shown = [line.split()[0] for line in text.splitlines() if line.split() and line.split()[0] in names]
    assert len(shown) == 1
    assert f"and {len(names) - 1} more layer(s)" in text


@native
def test_a_forced_implementation_shows(tilewise: Tool, cnn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWISE_IMPL", "tile")
    report = json.loads(tilewise.fine("explain", cnn, "--json", *SHAPE))
    assert [layer(report, name)["implementation"] for name in CONVOLUTIONS] == ["tile", "tile"]
    monkeypatch.setenv("TILEWISE_IMPL", "tiles")
    assert "no implementation tiles; known are product" in tilewise.error("explain", cnn, *SHAPE)


def test_nodes_in_numpy_are_timed(tilewise: Tool, tmp_path: Path) -> None:
    path = small_models.save(small_models.positives(), tmp_path / "positives.onnx")
    report = json.loads(tilewise.fine("explain", path, "--json", "--runs", "2"))
    host = [row for row in report["layers"] if "host" in row["kernels"]]
    assert host
    assert all(row["ns"] > 0 for row in host)


def test_steps_of_subgraphs_are_layers_of_their_own(tilewise: Tool, tmp_path: Path) -> None:
    def branch(name: str, op_type: str) -> object:
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [3])
        node = helper.make_node(op_type, ["x"], [f"{name}_y"], name=name)
        return helper.make_graph([node], name, [], [out])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If",
            ["positive"],
            ["y"],
            name="if",
            then_branch=branch("a", "Abs"),
            else_branch=branch("b", "Exp"),
        ),
    ]
    proto = small_models.model(nodes, {"x": [3]}, {"y": [3]}, {"zero": np.zeros((), np.float32)})
    path = small_models.save(proto, tmp_path / "if.onnx")
    report = json.loads(tilewise.fine("explain", path, "--json", "--runs", "2", "--seed", "1"))
    assert layer(report, "if")["kernels"].keys() == {"host"}
    inner = [row for row in report["layers"] if row["node"] in ("a", "b")]
    assert len(inner) == 1
    assert inner[0]["flops"] is None
