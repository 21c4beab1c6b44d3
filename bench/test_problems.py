"""Single problems beside the peers: `pytest bench --threads 1 --benchmark-json FILE [-k resnet50]`.

pytest-benchmark times our runs; before each, uncounted by it, the peers take their turn, so all are interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import onnx
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.contest import contestants
from bench.problem_models import make_model
from bench.problems import Problem, groups
from bench.results import Result
from bench.torch_peer import torch_contestant
from tilewise.cli.race import Contestant, Pace, take_turn, warm_up

CASES = [
    pytest.param(group, problem, id=f"{group}-{problem.text}")
    for group, problems in groups().items()
    for problem in problems
]


@pytest.mark.parametrize(("group", "problem"), CASES)
def test_problem(
    group: str,
    problem: Problem,
    threads: int,
    pace: Pace,
    around: dict,
    benchmark: BenchmarkFixture,
    tmp_path: Path,
) -> None:
    model, feeds = make_model(problem)
    path = tmp_path / "problem.onnx"
    onnx.save(model, path)
    engines = contestants(str(path), feeds, threads)
    if problem.kind == "convt" or len(engines) < 3:
        engines += torch_contestant(problem, model, feeds, threads)
    for engine in engines:
        warm_up(engine, pace)
    ours, peers = engines[0], engines[1:]

    def others_turn() -> None:
        for peer in peers:
            take_turn(peer)
        ours.run()

    benchmark.group = group
    benchmark.pedantic(ours.run, setup=others_turn, rounds=rounds(engines, pace))
    if benchmark.stats is not None:
        ours.times = [int(s * 1e9) for s in benchmark.stats.stats.data]
        result = Result.of(engines, problem.text, group, problem.flops)
        benchmark.extra_info.update(result=asdict(result), around=around)


def rounds(engines: Sequence[Contestant], pace: Pace) -> int:
    """As many as the pace's seconds allow, each engine running twice a round."""
    for engine in engines:
        take_turn(engine)
    once = 2e-9 * sum(statistics.median(engine.times) for engine in engines)
    return max(pace.least, min(pace.rounds, int(pace.seconds / once)))
