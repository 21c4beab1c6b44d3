"""Files of results: written, read, merged, as tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.report import head, plot, row, table, worst
from bench.results import Result, Run, merge, read, write
from tilewise.cli.race import Contestant

AROUND = {
    "cpu": "Some CPU",
    "usable_cpus": 2,
    "kernels": "v4",
    "versions": {"tilewise": "0.1.0", "onnxruntime": "1.2"},
}
MODEL = Result(
    "light/a", "light", 1, {"tilewise": 2.0, "onnxruntime": 3.0, "openvino": 5.0}, {"onnxruntime": 2e-6}
)
ALONE = Result("light/b", "light", 1, {"tilewise": 0.25})
PROBLEM = Result("conv n1c1o1", "resnet50", 2, {"tilewise": 4.0, "onnxruntime": 1.0}, {}, 8_000_000)


def contestant(engine: str, times: list[int], output: float) -> Contestant:
    return Contestant(engine, 2, list, times, [np.array([output, 10.0])])


def test_a_result_of_a_race() -> None:
    engines = [
        contestant("tilewise", [3_000_000, 1_000_000, 2_000_000], 1.0),
        contestant("onnxruntime", [5_000_000], 2.0),
    ]
    result = Result.of(engines, "conv n1c1o1", "resnet50", 4_000_000)
    assert result == Result(
        "conv n1c1o1", "resnet50", 2, {"tilewise": 2.0, "onnxruntime": 5.0}, {"onnxruntime": 0.1}, 4_000_000
    )
    assert result.gflops == 2.0
    assert result.ratio("onnxruntime") == 2.5
    assert result.ratio("openvino") is None


def test_the_best_peer_counts() -> None:
    assert MODEL.best_ratio(("onnxruntime", "openvino")) == 1.5
    assert ALONE.best_ratio(("onnxruntime", "openvino")) is None


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "ratios.json"
    run = Run(AROUND, (MODEL, ALONE, PROBLEM))
    write(path, run)
    assert read(path) == run
    first, alone, _ = json.loads(path.read_text())["results"]
    assert first["ratios"] == {"onnxruntime": 1.5, "openvino": 2.5}
    assert alone["ratios"] == {}


def test_pytest_benchmarks_file(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    values = {"name": "gemm m1", "group": "matmul", "threads": 1, "times": {"tilewise": 1.0}}
    path.write_text(
        json.dumps({"benchmarks": [{"extra_info": {"result": values, "around": AROUND}}, {"extra_info": {}}]})
    )
    assert read(path) == Run(AROUND, (Result("gemm m1", "matmul", 1, {"tilewise": 1.0}),))
    path.write_text('{"benchmarks": []}')
    with pytest.raises(ValueError, match="no problem was measured"):
        read(path)


def test_merging_keeps_the_later_of_two() -> None:
    newer = Result("light/b", "light", 1, {"tilewise": 0.5})
    other = {**AROUND, "versions": {"tilewise": "0.1.0", "torch": "2"}}
    run = merge([Run(AROUND, (MODEL, ALONE)), Run(other, (newer,))])
    assert run.results == (MODEL, newer)
    assert run.around["versions"] == {"tilewise": "0.1.0", "onnxruntime": "1.2", "torch": "2"}


@pytest.mark.parametrize("change", [{"cpu": "Another"}, {"kernels": "v3"}, {"versions": {"tilewise": "9"}}])
def test_different_surroundings_do_not_merge(change: dict) -> None:
    with pytest.raises(ValueError, match="results of different"):
        merge([Run(AROUND, (MODEL,)), Run({**AROUND, **change}, (ALONE,))])


def test_rows() -> None:
    assert row(MODEL) == "| light/a | 1 | 2 | 3 | 5 | 1.50 | 2.50 | 2e-06 |"
    assert row(ALONE) == "| light/b | 1 | 0.250 |  |  |  |  |  |"
    about, _, titles, rule = head(AROUND).splitlines()
    assert about == "Some CPU, 2 usable CPU(s), v4 kernels; tilewise 0.1.0, onnxruntime 1.2; medians"
    assert titles.count("|") == rule.count("|") == row(MODEL).count("|")


def test_the_table() -> None:
    lines = table(Run(AROUND, (PROBLEM, MODEL))).splitlines()
    assert lines[4].startswith("| light/a | 1 |")
    assert lines[5].startswith("| conv n1c1o1 | 2 |")
    assert lines[-2].startswith("1 thread(s), geometric means: ONNX Runtime / ours 1.50 (lowest 1.50, of 1)")
    assert lines[-1].startswith("2 thread(s), geometric means: ONNX Runtime / ours 0.25 (lowest 0.25, of 1)")
    assert "PyTorch" not in lines[2]
    torch = Result("convt n1", "transposed", 1, {"tilewise": 1.0, "torch": 7.0})
    assert "| 7.00 |" in table(Run(AROUND, (torch,)))


def test_the_worst_are_those_that_a_peer_beats_most() -> None:
    assert worst(Run(AROUND, (MODEL, ALONE, PROBLEM)), 5) == [PROBLEM, MODEL]


def test_a_plot(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    plot(Run(AROUND, (MODEL, ALONE, PROBLEM)), tmp_path / "speed.png")
    picture = pyplot.imread(tmp_path / "speed.png")
    assert picture[..., :3].std() > 0
