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
from tilewise.cli.race import PEERS, Contestant, Pace, cpu_name, difference, race

SHAPE = ("--shape", "2,3,8,8")


class Clock:
    """A clock that stands still but for what `wait` adds, in milliseconds."""

    def __init__(self) -> None:
        self.ms = 0

    def wait(self, ms: int) -> None:
        self.ms += ms

    def perf_counter(self) -> float:
        return self.ms / 1e3

    def perf_counter_ns(self) -> int:
        return self.ms * 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tilewise.cli.race.time", clock)
    return clock


def recorder(name: str, calls: list[str], clock: Clock, ms: int = 0) -> Contestant:
    def run() -> list:
        calls.append(name)
        clock.wait(ms)
        return [name]

    return Contestant(name, 1, run)


def test_contestants_run_in_turn_after_warming_up(clock: Clock) -> None:
    calls: list[str] = []
    both = [recorder("a", calls, clock), recorder("b", calls, clock, 2)]
    race(both, Pace(rounds=3, warm_up=0.0, warm_up_runs=2))
    assert calls == ["a"] * 2 + ["b"] * 2 + ["a", "a", "b", "b"] * 3
    assert [c.times for c in both] == [[0] * 3, [2_000_000] * 3]
    assert [c.outputs for c in both] == [["a"], ["b"]]


def test_a_race_ends_with_its_time_but_not_before_the_least_rounds(clock: Clock) -> None:
    one = recorder("a", [], clock, 1)
    race([one], Pace(rounds=1000, seconds=0.0, least=4, warm_up=0.0))
    assert len(one.times) == 4
    race([one], Pace(rounds=1000, seconds=0.02, least=1, warm_up=0.0))
    assert len(one.times) == 4 + 11


def test_warming_up_and_turns_go_on_for_their_time(clock: Clock) -> None:
    calls: list[str] = []
    one = recorder("a", calls, clock, 1)
    race([one], Pace(rounds=2, warm_up=0.02, turn=0.005, warm_up_runs=1))
    assert len(calls) == 20 + 2 * (1 + 5)
    assert len(one.times) == 2 * 5


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


@pytest.mark.parametrize("peer", PEERS)
def test_without_a_peer_the_extra_is_named(
    tilewise: Tool, cnn: str, monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    monkeypatch.setitem(sys.modules, peer, None)
    text = tilewise.error("bench", cnn, "--against", peer, "--runs", "1", *SHAPE)
    assert f'{peer} is not installed: pip install "tilewise[bench]"' in text


def test_side_by_side_with_openvino(tilewise: Tool, cnn: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tmp_path / "times.json"
    tilewise.fine(
        "bench", cnn, "--threads", "1", "--against", "openvino", "--runs", "2", "--json", path, *SHAPE
    )
    assert json.loads(path.read_text())["differences"]["1"] < 1e-4


def test_a_model_that_the_other_engine_refuses(
    tilewise: Tool, cnn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("no such opset")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    text = tilewise.error("bench", cnn, "--against", "onnxruntime", "--runs", "1", *SHAPE)
    assert f"onnxruntime does not load {cnn}: no such opset" in text
