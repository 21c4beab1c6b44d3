"""`tilewise bench`: who runs when, what is reported."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import tilewise as tw
import tilewise_kernels
from tests.cli.tool import Tool
from tilewise.cli.bench import WARM_UP, Contestant, cpu_name, difference, race

SHAPE = ("--shape", "2,3,8,8")


def test_contestants_run_in_turn_after_warming_up() -> None:
    calls: list[str] = []

    def contestant(name: str) -> Contestant:
        def run() -> list:
            calls.append(name)
            return [name]

        return Contestant(name, 1, run)

    both = [contestant("a"), contestant("b")]
    race(both, 3)
    assert calls == ["a"] * WARM_UP + ["b"] * WARM_UP + ["a", "b"] * 3
    assert [len(c.times) for c in both] == [3, 3]
    assert [c.outputs for c in both] == [["a"], ["b"]]


def test_side_by_side_with_onnxruntime(tilewise: Tool, cnn: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    text = tilewise.fine(
        "bench", cnn, "--threads", "1,2", "--against", "onnxruntime", "--runs", "3", "--json", path, *SHAPE
    )
    cells = [line.split() for line in text.splitlines()]
    rows = [c[:2] for c in cells if c[:1] in (["tilewise"], ["onnxruntime"]) and c[1].isdecimal()]
    assert rows == [["tilewise", "1"], ["onnxruntime", "1"], ["tilewise", "2"], ["onnxruntime", "2"]]
    assert f"onnxruntime {onnxruntime.__version__}" in text
    assert f"{tilewise_kernels.ISA} kernels" in text
    report = json.loads(path.read_text())
    assert report["inputs"] == {"image": {"dtype": "float32", "shape": [2, 3, 8, 8]}}
    assert report["versions"] == {
        "tilewise": tw.__version__,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    assert report["cpu"] == cpu_name()
    for result in report["results"]:
        assert len(result["times_ns"]) == 3
        assert result["median_ns"] == statistics.median(result["times_ns"])
    medians = {(r["engine"], r["threads"]): r["median_ns"] for r in report["results"]}
    for threads in (1, 2):
        ratio = medians["tilewise", threads] / medians["onnxruntime", threads]
        assert report["ratios"][str(threads)] == pytest.approx(ratio)
        assert report["differences"][str(threads)] < 1e-4


def test_alone(tilewise: Tool, cnn: str) -> None:
    text = tilewise.fine("bench", cnn, "--runs", "1", *SHAPE)
    assert "onnxruntime" not in text
    assert "medians of 1 run(s)" in text


def test_difference_is_relative_to_the_largest_value() -> None:
    assert difference([np.array([1.0, 4.0])], [np.array([1.0, 5.0])]) == 0.2
    assert difference([np.array([3]), np.array([True])], [np.array([3]), np.array([True])]) == 0


def test_the_cpu_s_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Some CPU @ 3 GHz\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz"
    assert cpu_name(tmp_path / "missing")


def test_without_onnxruntime_the_extra_is_named(
    tilewise: Tool, cnn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = tilewise.error("bench", cnn, "--against", "onnxruntime", "--runs", "1", *SHAPE)
    assert 'pip install "tilewise[bench]"' in text


def test_a_model_that_the_other_engine_refuses(
    tilewise: Tool, cnn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("no such opset")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    text = tilewise.error("bench", cnn, "--against", "onnxruntime", "--runs", "1", *SHAPE)
    assert f"it does not load {cnn}: no such opset" in text
