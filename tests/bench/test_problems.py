"""Problem strings: what they mean, which are refused, that they are those that plans name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilewise
from bench.list_problems import conv_strings
from bench.problem_models import KINDS, make_model
from bench.problems import Axis, groups, parse
from tests.models.oracle import assert_agree, run_onnxruntime
from tilewise.ops.conv_problem import Problem as Planned

SMALL = (
    "conv n2g1c3o4_ih9oh5kh3sh2dh1ph1_iw8ow4kw3sw2dw1pw0",
    "conv n1g2c4o6_ih7oh7kh3sh1dh2ph2_iw7ow7kw3sw1dw2pw2",
    "conv n1g1c2o3_iw11ow4kw3sw3",
    "conv n1g1c2o3_id4od4kd3sd1dd1pd1_ih5oh3kh3_iw5ow3kw3",
    "convt n1g1c3o2_ih4oh8kh2sh2_iw4ow8kw2sw2",
    "convt n1g2c4o2_ih4oh8kh3sh2dh1ph1_iw5ow9kw3sw2dw1pw1",
    "convt n1g1c3o2_iw5ow10kw4sw2dw1pw1",
    "deform n2g1c4o3f2_ih5oh5kh3sh1dh1ph1_iw6ow6kw3sw1dw1pw1_mask",
    "deform n1g1c4o3_ih5oh3kh3sh2dh1ph1_iw6ow3kw3sw2dw1pw1",
    "maxpool n1c3_ih8oh4kh3sh2dh1ph1_iw8ow4kw3sw2dw1pw1",
    "avgpool n1c3_ih8oh8kh3sh1dh1ph1_iw8ow8kw3sw1dw1pw1",
    "avgpool n1c3_ih8oh8kh3sh1dh1ph1_iw8ow8kw3sw1dw1pw1_padded",
    "gavgpool n2c3_ih4_iw5",
    "batchnorm n2c3_ih4_iw5",
    "instancenorm n2c3_ih4_iw5",
    "layernorm m4c6",
    "lrn n1c7k5_ih3_iw3",
    "softmax n2m3c5",
    "resize n1c2_ih4oh8_iw4ow8_nearest",
    "resize n1c2_ih4oh7_iw4ow9_linear",
    "resize n1c2_ih4oh7_iw4ow9_linear_corners",
    "resize n1c2_ih5oh10_iw5ow10_cubic",
    "matmul n2m3k4o5",
    "matmul n2m3k4o5_batched",
    "gemm m3k4o5",
)


@pytest.mark.parametrize("text", SMALL)
def test_model_of_a_problem(text: str) -> None:
    problem = parse(text)
    model, feeds = make_model(problem)
    expected = run_onnxruntime(model.SerializeToString(), feeds)
    if problem.axes:
        outs = tuple(1 if problem.kind == "gavgpool" else a.o for a in problem.axes)
        assert expected["y"].shape[2:] == outs
    assert_agree(tilewise.load(model).run(feeds), expected)


def test_every_kind_has_a_small_case() -> None:
    assert {parse(text).kind for text in SMALL} == set(KINDS)


def test_weights_and_inputs_are_seeded() -> None:
    problem = parse("conv n1g1c2o3_iw11ow9kw3")
    (a, x), (b, y), (c, z) = (make_model(problem, seed) for seed in (1, 1, 2))
    assert a == b != c
    np.testing.assert_array_equal(x["x0"], y["x0"])
    assert not np.array_equal(x["x0"], z["x0"])


@pytest.mark.parametrize("text", [t for t in SMALL if t.startswith("conv ")])
def test_strings_are_those_of_plans(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str] = []
    plan = Planned.of

    def record(*args: object) -> Planned:
        named.append(str(problem := plan(*args)))
        return problem

    monkeypatch.setattr(Planned, "of", staticmethod(record))
    model, feeds = make_model(parse(text))
    tilewise.load(model).run(feeds)
    assert named
    planned, ours = parse(named[0]), parse(text)
    assert (planned.kind, planned.sizes, planned.flops) == (ours.kind, ours.sizes, ours.flops)
    assert planned.axes[-len(ours.axes) :] == ours.axes
    assert all(axis == Axis(1, 1) for axis in planned.axes[: -len(ours.axes)])


@pytest.mark.parametrize("text", [t for t in SMALL if t.startswith("conv")])
def test_listed_from_a_model(text: str) -> None:
    (listed,) = conv_strings(make_model(parse(text))[0])
    assert (parse(listed).sizes, parse(listed).axes) == (parse(text).sizes, parse(text).axes)


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("conv n2g2c4o6_ih7oh5kh3_iw7ow5kw3", 2 * 2 * 6 * 2 * 9 * 25),
        ("convt n1g1c3o2_ih4oh8kh2sh2_iw4ow8kw2sw2", 2 * 3 * 2 * 4 * 16),
        ("matmul n2m3k4o5", 2 * 2 * 3 * 4 * 5),
        ("softmax m3c4", 0),
    ],
)
def test_flops(text: str, flops: int) -> None:
    assert parse(text).flops == flops


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv", "expected KIND and sizes"),
        ("conv n1c", "expected KIND and sizes"),
        ("conv n1n2c3", "a letter twice"),
        ("conv n1c3_ih4iw4", "neither an axis"),
        ("conv n1c3_iw4_ih4", "in this order"),
        ("conv n1c3_oh4", "needs an input size"),
        ("conv n1c3_ih4sh0", "may be 0"),
    ],
)
def test_refused_strings(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool n1c3_iw4", "no kind 'pool'"),
        ("softmax m3c4_fast", "no flag fast"),
        ("softmax m3", "needs a size 'c'"),
        ("conv n1c1o1_iw4ow9kw3", "does not add up"),
        ("conv n1c1o1_iw9ow2kw3", "does not add up"),
        ("convt n1c1o1_iw4ow12kw2sw2", "does not add up"),
    ],
)
def test_refused_problems(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(parse(text))


def test_the_lists() -> None:
    for group, problems in groups().items():
        assert problems, group
        assert len(set(problems)) == len(problems), group
        for problem in problems:
            assert problem.kind in KINDS, problem.text
            assert problem.flags <= KINDS[problem.kind][1], problem.text
            for axis in problem.axes:
                if problem.kind in ("conv", "deform", "maxpool", "avgpool"):
                    assert axis.end >= 0
                elif problem.kind == "convt":
                    assert axis.transposed_end >= (0, 0)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("# fine\nsoftmax m1c2  # so is this\nconv n1_x9\n")
    with pytest.raises(ValueError, match=r"bad\.txt:3: .*'x9'"):
        groups(tmp_path)
