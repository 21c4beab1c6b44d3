"""1x1 and depthwise convolutions in strips of rows, against sums over taps in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracles
from tests.ops.layout_harness import check_graph, graph, identity, kernels_of, needs_kernels, rand, weights
from tests.ops.test_blocked_conv import spell
from tilewise.ops.blocked import strips
from tilewise.runtime.model import load

pytestmark = needs_kernels

ROW = 40 * 9
"""Floats of a row in most of these tests, where lanes are not filled up."""


@pytest.fixture(autouse=True)
def short_strips(monkeypatch):
    """Strips of a few rows, so that small images have several."""
    monkeypatch.setattr(strips, "STRIP_FLOATS", 3 * ROW)


def relu(v):
    return np.maximum(v, 0)


# The depthwise convolution between two 1x1 ones: spatial shape of x, kernel, form
DEPTHWISE = {
    "3x3": ((12, 9), (3, 3), {"pads": (1,) * 4}),
    "5x5": ((13, 9), (5, 5), {"pads": (2,) * 4}),
    "stride 2": ((13, 9), (3, 3), {"pads": (1,) * 4, "stride": 2}),
    "stride 3": ((17, 8), (3, 3), {"pads": (1, 0, 0, 1), "stride": 3}),
    "strides 2, 1, even": ((14, 9), (4, 2), {"pads": (1, 0, 2, 1), "stride": (2, 1)}),
    "dilation 2": ((12, 9), (3, 3), {"pads": (2,) * 4, "dilation": 2}),
    "dilation 12": ((14, 9), (3, 3), {"pads": (12,) * 4, "dilation": 12}),
    "valid": ((12, 9), (3, 3), {}),
    "pads beyond the kernel": ((11, 9), (3, 3), {"pads": (7, 4, 8, 5)}),
    "pads beyond the kernel, stride 2": ((11, 9), (3, 3), {"pads": (7, 4, 8, 5), "stride": 2}),
    "stride beyond the kernel": ((23, 9), (2, 2), {"stride": 4}),
    "one row": ((1, 90), (1, 3), {"pads": (0, 1, 0, 1)}),
    "one column": ((90, 1), (3, 1), {"pads": (1, 0, 1, 0)}),
    "one output": ((3, 3), (3, 3), {}),
    "7x1": ((15, 9), (7, 1), {"pads": (3, 0, 3, 0)}),
    "1x1": ((12, 9), (1, 1), {}),
}


def inverted(xs, middle, window, form, n_out=24):
    """Weights, and the values of x0 -> 1x1, Relu -> depthwise, Clip -> 1x1 -> y."""
    x = rand(*xs)
    constants = {
        "eye": identity(xs[1]),
        "w1": weights(middle, xs[1], 1, 1),
        "b1": rand(middle, seed=1),
        "wd": weights(middle, 1, *window),
        "bd": rand(middle, seed=2),
        "w2": weights(n_out, middle, 1, 1),
        "lo": np.float32(0),
        "hi": np.float32(1.5),
    }
    a = relu(oracles.conv(x, constants["w1"], constants["b1"]))
    d = np.clip(oracles.conv(a, constants["wd"], constants["bd"], group=middle, **form), 0, 1.5)
    return x, constants, a, d, oracles.conv(d, constants["w2"])


def nodes_of(form, middle, x="x0", mark=""):
    """From value `x` to d, the result of the depthwise convolution; `mark` ends the names between."""
    first = "x0 = Conv (x, eye)" if x == "x0" else ""
    return f"""{first} c1{mark} = Conv ({x}, w1, b1) a{mark} = Relu (c1{mark})
        cd{mark} = Conv {spell(2, group=middle, **form)} (a{mark}, wd, bd) d{mark} = Clip (cd{mark}, lo, hi)"""


def has_strips(kernels):
    return kernels.count("blocked_depthwise") > 1


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("form", DEPTHWISE)
def test_between_two_pointwise_convolutions(form, n):
    spatial, window, more = DEPTHWISE[form]
    x, constants, _, _, y = inverted((n, 24, *spatial), 40, window, more)
    kernels = check_graph(f"{nodes_of(more, 40)} y = Conv (d, w2)", {"x": x}, constants, {"y": y})
    assert has_strips(kernels) is (form not in ("one row", "one output")), kernels
    assert not {"blocked_pad", "pad_phases"} & set(kernels), kernels


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("form", DEPTHWISE)
def test_behind_a_pointwise_convolution(form, n):
    spatial, window, more = DEPTHWISE[form]
    x, constants, _, d, _ = inverted((n, 24, *spatial), 40, window, more)
    kernels = check_graph(f"{nodes_of(more, 40)} y = Neg (d)", {"x": x}, constants, {"y": -d})
    many = spatial[0] > 1 and form != "one output"
    assert has_strips(kernels) is many, kernels


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("form", DEPTHWISE)
def test_before_a_pointwise_convolution(form, n):
    spatial, window, more = DEPTHWISE[form]
    x, wd, w2 = rand(n, 40, *spatial), weights(40, 1, *window), weights(24, 40, 1, 1)
    d = relu(oracles.conv(x, wd, group=40, **more))
    nodes = (
        f"x0 = Conv (x, eye) cd = Conv {spell(2, group=40, **more)} (x0, wd) d = Relu (cd) y = Conv (d, w2)"
    )
    constants = {"eye": identity(40), "wd": wd, "w2": w2}
    kernels = check_graph(nodes, {"x": x}, constants, {"y": oracles.conv(d, w2)})
    assert "blocked_depthwise" in kernels, kernels


@pytest.mark.parametrize("channels", [24, 30, 33, 48], ids=str)
@pytest.mark.parametrize("outs", [15, 24, 33, 48], ids=str)
def test_channels(channels, outs):
    x, constants, _, _, y = inverted((2, channels, 13, 9), channels, (3, 3), {"pads": (1,) * 4}, outs)
    kernels = check_graph(
        f"{nodes_of({'pads': (1,) * 4}, channels)} y = Conv (d, w2)", {"x": x}, constants, {"y": y}
    )
    assert has_strips(kernels), kernels


@pytest.mark.parametrize("tail", ["Relu", "HardSwish", "Sigmoid"])
def test_a_residual_around_the_three(tail):
    """As in MobileNet: the block's input is added to its result, in place where it can be."""
    x, constants, _, _, y = inverted((2, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    total = y + x
    want = {
        "Relu": relu(total),
        "HardSwish": total * np.clip(total / 6 + 0.5, 0, 1),
        "Sigmoid": 1 / (1 + np.exp(-total)),
    }
    nodes = f"{nodes_of({'pads': (1,) * 4}, 40)} c = Conv (d, w2) s = Add (c, x0) y = {tail} (s) z = Neg (s)"
    kernels = check_graph(nodes, {"x": x}, constants, {"y": want[tail], "z": -total})
    assert has_strips(kernels), kernels


def test_a_residual_behind_the_depthwise_convolution():
    x, constants, _, d, _ = inverted((1, 40, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    constants |= {"lo": np.float32(-9), "hi": np.float32(9)}
    a = relu(oracles.conv(x, constants["w1"], constants["b1"]))
    d = oracles.conv(a, constants["wd"], constants["bd"], group=40, pads=(1,) * 4) + x
    nodes = f"""x0 = Conv (x, eye) c1 = Conv (x0, w1, b1) a = Relu (c1)
        cd = Conv {spell(2, group=40, pads=(1,) * 4)} (a, wd, bd) d = Add (x0, cd) y = Conv (d, w2)"""
    kernels = check_graph(nodes, {"x": x}, constants, {"y": oracles.conv(d, constants["w2"])})
    assert has_strips(kernels), kernels


WHOLE = {
    "the first is read twice": "y = Conv (d, w2) z = Neg (a)",
    "the first is an output": "y = Conv (d, w2)",
    "the second is read twice": "y = Conv (d, w2) z = Neg (d)",
    "the second is an output": "y = Conv (d, w2)",
    "the second is summed up too": "y = Conv (d, w2) v = ReduceSum <keepdims = 0> (d)",
}


@pytest.mark.parametrize("case", WHOLE)
def test_values_that_others_read(case):
    x, constants, a, d, y = inverted((2, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    want = {"y": y}
    if "z =" in WHOLE[case]:
        want["z"] = -a if "(a)" in WHOLE[case] else -d
    if "v =" in WHOLE[case]:
        want["v"] = d.sum()
    if "output" in case:
        want["a" if "first" in case else "d"] = a if "first" in case else d
    check_graph(f"{nodes_of({'pads': (1,) * 4}, 40)} {WHOLE[case]}", {"x": x}, constants, want, atol=1e-4)


READERS = {
    "plain weights": ("y = Conv (d, w2)", {"w2"}),
    "a plain operator": ("y = Transpose <perm = [1, 0, 3, 2]> (d)", set()),
    "a step on the host": ("h = Cast <to = 11> (d) y = Sin (h)", set()),
    "one channel out": ("y = Conv (d, w1x)", set()),
}


@pytest.mark.parametrize("case", READERS)
def test_a_reader_that_takes_the_whole(case):
    x, constants, _, d, y = inverted((1, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    tail, fed = READERS[case]
    constants["w1x"] = weights(1, 40, 1, 1)
    want = {
        "plain weights": y,
        "a plain operator": d.transpose(1, 0, 3, 2),
        "a step on the host": np.sin(d),
        "one channel out": oracles.conv(d, constants["w1x"]),
    }
    feeds = {"x": x, **{name: constants[name] for name in fed}}
    held = {name: a for name, a in constants.items() if name not in fed}
    check_graph(f"{nodes_of({'pads': (1,) * 4}, 40)} {tail}", feeds, held, {"y": want[case]})


@pytest.mark.parametrize("group", [1, 20])
def test_a_reader_that_is_not_depthwise(group):
    """After the first 1x1 convolution comes one that needs all of it."""
    x, constants, a, _, _ = inverted((2, 24, 12, 9), 40, (3, 3), {})
    constants["wg"] = weights(40, 40 // group, 3, 3)
    nodes = f"x0 = Conv (x, eye) c1 = Conv (x0, w1, b1) a = Relu (c1) y = Conv <group: int = {group}> (a, wg)"
    check_graph(nodes, {"x": x}, constants, {"y": oracles.conv(a, constants["wg"], group=group)})


def test_a_branch_captures_the_value_between():
    x, constants, a, d, _ = inverted((1, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    nodes = f"""{nodes_of({"pads": (1,) * 4}, 40)}
        y = If (flag) <then_branch = one () => (float[] t) {{ t = Neg (a) }},
                       else_branch = two () => (float[] e) {{ e = Neg (d) }}>"""
    for flag, want in ((True, -a), (False, -d)):
        check_graph(nodes, {"x": x, "flag": np.array(flag)}, constants, {"y": want})


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    spatial, window = ((60,), (3,)) if rank == 1 else ((5, 6, 7), (3, 3, 3))
    form = {"pads": (1,) * (2 * rank)}
    x, w1, wd = rand(2, 24, *spatial), weights(40, 24, *[1] * rank), weights(40, 1, *window)
    w2 = weights(24, 40, *[1] * rank)
    want = oracles.conv(oracles.conv(oracles.conv(x, w1), wd, group=40, **form), w2)
    nodes = f"""x0 = Conv (x, eye) a = Conv (x0, w1) d = Conv {spell(rank, group=40, **form)} (a, wd)
        y = Conv (d, w2)"""
    constants = {"eye": identity(24, rank), "w1": w1, "wd": wd, "w2": w2}
    check_graph(nodes, {"x": x}, constants, {"y": want})


def test_chains_of_blocks():
    """Two blocks one behind the other, with Concat and pooling after them."""
    x, constants, _, _, y = inverted((1, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    first, second = nodes_of({"pads": (1,) * 4}, 40), nodes_of({"pads": (1,) * 4}, 40, "y1", "_2")
    nodes = f"{first} y1 = Conv (d, w2) {second} y2 = Conv (d_2, w2) y = Concat <axis = 1> (y1, y2, x0)"
    a = relu(oracles.conv(y, constants["w1"], constants["b1"]))
    d = np.clip(oracles.conv(a, constants["wd"], constants["bd"], group=40, pads=(1,) * 4), 0, 1.5)
    want = np.concatenate([y, oracles.conv(d, constants["w2"]), x], 1)
    kernels = check_graph(nodes, {"x": x}, constants, {"y": want}, atol=5e-5)
    assert kernels.count("blocked_depthwise") >= 4, kernels


def test_so_many_strips_that_all_is_done_at_once(monkeypatch):
    monkeypatch.setattr(strips, "MAX_STRIPS", 3)
    x, constants, _, _, y = inverted((2, 24, 12, 9), 40, (3, 3), {"pads": (1,) * 4})
    kernels = check_graph(
        f"{nodes_of({'pads': (1,) * 4}, 40)} y = Conv (d, w2)", {"x": x}, constants, {"y": y}
    )
    assert kernels.count("blocked_depthwise") == 1, kernels


def test_strips_save_memory():
    x, constants, _, _, _ = inverted((1, 24, 40, 9), 480, (3, 3), {"pads": (1,) * 4})
    nodes = f"{nodes_of({'pads': (1,) * 4}, 480)} y = Conv (d, w2)"
    small = load(graph(nodes, {"x": x}, constants))
    assert kernels_of(small).count("blocked_depthwise") > 4
    assert small.plan().peak_bytes < 4 * 480 * 40 * 9  # less than what stands between the convolutions


def test_strips_cover_all_rows():
    for images, rows, floats in [(1, 1, 10**9), (3, 7, ROW), (2, 64, 5 * ROW), (1, 10, ROW // 5)]:
        cuts = strips.strips(images, rows, floats)
        if len(cuts) == 1:
            assert cuts == [(0, 0, rows)]
            continue
        for n in range(images):
            covered = [r for image, a, b in cuts if image == n for r in range(a, b)]
            assert covered == list(range(rows))
