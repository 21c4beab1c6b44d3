"""What holds and what does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.bars import BARS, DEFORMABLE, TRANSPOSED, Verdict, judge, regressions
from bench.problems import groups
from bench.report import check
from bench.results import Result, Run

AROUND = {"cpu": "Some CPU", "usable_cpus": 2, "kernels": "v4", "versions": {}}


def result(name: str, group: str, gap: float = 1e-6, flops: int = 0, **times: float) -> Result:
    return Result(name, group, 1, times, {"onnxruntime": gap}, flops)


def verdict(results: Sequence[Result], part: str, peak: float | None = None) -> Verdict:
    (found,) = (v for v in judge(Run(AROUND, tuple(results)), peak) if part in v.bar)
    return found


def test_geometric_means() -> None:
    fine = [
        result("torch/a", "torch", tilewise=1.0, onnxruntime=1.0, openvino=1.6),
        result("torch/b", "torch", tilewise=1.0, onnxruntime=2.0, openvino=1.0),
    ]
    assert verdict(fine, "ONNX Runtime / ours, geometric mean").detail == "1.41 over 2"
    assert verdict(fine, "ONNX Runtime / ours, geometric mean").holds
    assert verdict(fine, "best peer / ours, geometric mean").detail == "1.00 over 2"
    assert verdict(fine, "best peer / ours, geometric mean").holds is False
    assert verdict(fine, "every whole model").holds


def test_one_slow_model_fails() -> None:
    slow = [
        result("torch/a", "torch", tilewise=1.0, onnxruntime=0.99),
        result("light/vgg16", "light", tilewise=1.0, onnxruntime=1.5),
    ]
    found = verdict(slow, "every whole model")
    assert found.holds is False
    assert found.detail == "1 of 2 below: torch/a 0.99"
    assert verdict(slow, "VGG-16").holds is False


@pytest.mark.parametrize(
    ("name", "group", "times", "part", "holds"),
    [
        (DEFORMABLE, "deformable", {"tilewise": 1.0, "onnxruntime": 2.1}, "deformable", True),
        (DEFORMABLE, "deformable", {"tilewise": 1.0, "onnxruntime": 1.9}, "deformable", False),
        (TRANSPOSED, "transposed", {"tilewise": 1.0, "torch": 5.1, "openvino": 0.1}, "transposed", True),
        (TRANSPOSED, "transposed", {"tilewise": 1.0, "torch": 4.9}, "transposed", False),
        ("softmax m1c1", "normalization", {"tilewise": 1.0, "openvino": 0.9}, "of normalization", False),
        ("softmax m1c1", "normalization", {"tilewise": 1.0}, "of normalization", None),
        ("softmax m1c1", "normalization", {"tilewise": 1.0, "openvino": 0.9}, "every whole model", None),
    ],
)
def test_problems(name: str, group: str, times: dict, part: str, holds: bool | None) -> None:
    assert verdict([result(name, group, **times)], part).holds is holds


def test_the_fraction_of_the_peak() -> None:
    problems = [
        result("conv n1", "resnet50", flops=90_000_000, tilewise=1.0),
        result("conv n2", "vgg16", flops=80_000_000, tilewise=1.0),
        result("conv n3", "depthwise", flops=1, tilewise=1.0),
    ]
    assert verdict(problems, "peak").holds is None
    assert verdict(problems, "peak", 94.0).holds
    found = verdict(problems, "peak", 100.0)
    assert found.holds is False
    assert found.detail == "85% together, 1 of 2 below: conv n2 80%"


def test_outputs_that_differ() -> None:
    assert verdict([result("torch/a", "torch", 1e-5, tilewise=1.0)], "within").holds
    for gap in (2e-4, float("nan")):
        assert verdict([result("torch/a", "torch", gap, tilewise=1.0)], "within").holds is False


def test_regressions_are_clearly_lower_ratios() -> None:
    before = Run(AROUND, (result("torch/a", "torch", tilewise=1.0, onnxruntime=2.0, openvino=1.0),))
    noise = Run(AROUND, (result("torch/a", "torch", tilewise=1.0, onnxruntime=1.85),))
    slower = Run(AROUND, (result("torch/a", "torch", tilewise=1.0, onnxruntime=1.7),))
    unknown = Run(AROUND, (result("torch/b", "torch", tilewise=1.0, onnxruntime=0.1),))
    assert list(regressions(noise, before)) == list(regressions(unknown, before)) == []
    (found,) = regressions(slower, before)
    assert found.detail == "1.70, was 2.00"


def test_a_check_prints_all_and_fails_if_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    good = Run(AROUND, (result("light/vgg16", "light", tilewise=1.0, onnxruntime=2.0, openvino=2.0),))
    bad = Run(AROUND, (result("light/vgg16", "light", tilewise=1.0, onnxruntime=1.0, openvino=1.0),))
    assert check(good, None, None)
    assert not check(bad, None, None)
    capsys.readouterr()
    assert not check(bad, good, None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(BARS) + 2 + 2
    assert any(line.startswith("FAILS") and "as committed: 1.00, was 2.00" in line for line in lines)


def test_the_bars_problems_are_listed() -> None:
    listed = groups()
    assert DEFORMABLE in [p.text for p in listed["deformable"]]
    assert TRANSPOSED in [p.text for p in listed["transposed"]]
