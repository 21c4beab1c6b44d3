"""Which implementation of a convolution is taken, and forced ones against a sum over taps in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tilewise as tw
import tilewise_kernels
from tests.ops import oracles
from tests.ops.harness import check, one_node
from tilewise.graph import Fact
from tilewise.ops.choice import (
    CLEAR,
    CONVERSION_COST,
    MEASURED_COST,
    MEASURED_WEIGHTS,
    Implementation,
    choose,
)
from tilewise.ops.conv import IMPLEMENTATIONS
from tilewise.ops.layout import BLOCKED, PLAIN, VECTOR

RNG = np.random.default_rng(11)
NAMES = [i.name for i in IMPLEMENTATIONS]

blocked_kernels = pytest.mark.skipif(
    not tilewise_kernels.has("blocked_conv"), reason="blocked layout needs extension modules"
)

V = VECTOR
# implementation, shape of x, shape of w, form
FORCED = {
    "blocked 1x1": ("blocked", (2, V, 5, 7), (V, V, 1, 1), {}),
    "blocked one pixel": ("blocked", (1, 2 * V, 1, 1), (V, 2 * V, 1, 1), {}),
    "blocked odd channels": ("blocked", (1, V + 3, 9, 8), (V - 1, V + 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    "blocked asymmetric": ("blocked", (1, V, 6, 33), (2 * V, V, 3, 3), {"pads": (0, 1, 2, 3)}),
    "blocked stride 3": ("blocked", (2, V, 17, 16), (V, V, 3, 3), {"pads": (1,) * 4, "stride": 3}),
    "blocked dilated": ("blocked", (1, V, 12, 13), (V, V, 3, 3), {"pads": (2,) * 4, "dilation": 2}),
    "blocked groups": ("blocked", (1, 2 * V, 9, 9), (4 * V, V, 3, 3), {"pads": (1,) * 4, "group": 2}),
    "narrow groups": (
        "blocked_group",
        (1, 2 * V, 9, 8),
        (2 * V, V // 2, 3, 3),
        {"pads": (1, 0, 2, 1), "group": 4},
    ),
    "blocked 1-D": ("blocked", (2, V, 40), (V, V, 5), {"pads": (2, 1), "stride": 2}),
    "blocked 3-D": ("blocked", (1, V, 4, 5, 6), (V, V, 2, 3, 3), {"pads": (1, 0, 1, 0, 1, 1)}),
    "winograd": ("winograd", (2, V, 8, 12), (2 * V, V, 3, 3), {"pads": (1,) * 4}),
    "winograd few channels": ("winograd", (1, 3, 7, 9), (V, 3, 3, 3), {"pads": (1,) * 4}),
    "winograd odd channels": ("winograd", (1, V + 5, 5, 6), (V - 1, V + 5, 3, 3), {"pads": (0, 1, 2, 0)}),
    "winograd one pixel": ("winograd", (3, V, 3, 3), (V, V, 3, 3), {}),
    "depthwise in blocks": ("blocked_depthwise", (2, V - 1, 9, 8), (V - 1, 1, 3, 3), {"pads": (1,) * 4}),
    "depthwise in blocks, stride 3": (
        "blocked_depthwise",
        (1, 2 * V, 14, 11),
        (2 * V, 1, 5, 3),
        {"pads": (2, 0, 1, 3), "stride": 3},
    ),
    "depthwise plain": ("depthwise", (1, V, 9, 8), (V, 1, 3, 3), {"pads": (1,) * 4}),
    "tile instead of depthwise": ("tile", (1, V, 9, 8), (V, 1, 3, 3), {"pads": (1,) * 4}),
    "tile instead of a product": ("tile", (2, 5, 3, 4), (7, 5, 3, 4), {}),
}


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def plan_of(x: tuple, w: tuple, attrs: dict | None = None):
    proto = one_node("Conv", [rand(*x), rand(*w)], attrs, constants=[1])
    return tw.load(proto.SerializeToString()).plan()


def implementation(x: tuple, w: tuple, attrs: dict | None = None) -> str:
    (choice,) = plan_of(x, w, attrs).choices.values()
    return choice.implementation


@blocked_kernels
@pytest.mark.parametrize("case", FORCED)
def test_a_forced_implementation_computes_a_single_convolution(case, monkeypatch):
    name, x, w, form = FORCED[case]
    n = len(x) - 2
    form = {"group": x[1] if "depthwise" in case else 1, **form}
    spread = {k: [v] * n for k, v in form.items() if k in ("stride", "dilation")}
    attrs = {k: list(v) if k == "pads" else v for k, v in form.items() if k in ("pads", "group")}
    attrs |= {f"{k}s": v for k, v in spread.items()}
    monkeypatch.setenv("TILEWISE_IMPL", name)
    assert implementation(x, w, attrs) == name
    args = [rand(*x), rand(*w) / np.float32(math.sqrt(math.prod(w[1:]))), rand(w[0])]
    want = oracles.conv(*args, **form).astype(np.float32)
    check("Conv", args, attrs, constants=[1, 2], oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)


@blocked_kernels
@pytest.mark.parametrize("forced", [None, ""])
def test_a_single_convolution_changes_layout_where_that_pays(monkeypatch, forced):
    monkeypatch.delenv("TILEWISE_IMPL", raising=False)
    if forced is not None:
        monkeypatch.setenv("TILEWISE_IMPL", forced)
    if V == 16:  # narrower vectors compute for longer than a change of layout takes
        assert implementation((1, V, 64, 64), (2 * V, V, 1, 1)) == "tile"
    assert implementation((1, 16 * V, 7, 7), (16 * V, 16 * V, 3, 3), {"strides": [2, 2]}) == "blocked"
    far = {"pads": [12] * 4, "dilations": [12] * 2}
    assert implementation((1, 4 * V, 14, 14), (4 * V, 4 * V, 3, 3), far) != "tile"


@blocked_kernels
def test_of_several_forced_ones_the_first_that_can_is_taken(monkeypatch):
    monkeypatch.setenv("TILEWISE_IMPL", "blocked_depthwise, blocked,winograd")
    assert implementation((1, V, 8, 8), (V, V, 3, 3)) == "blocked"
    monkeypatch.setenv("TILEWISE_IMPL", "winograd,blocked")
    assert implementation((1, V, 8, 8), (V, V, 3, 3)) == "winograd"
    assert implementation((1, V, 8, 8), (V, V, 1, 3)) == "blocked"


@pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs extension modules")
def test_what_a_forced_one_cannot_do_is_chosen_as_always(monkeypatch):
    monkeypatch.setenv("TILEWISE_IMPL", "depthwise")
    assert implementation((1, 3, 8, 8), (2, 3, 3, 3)) == "tile"


@pytest.mark.parametrize("text", ["fast", "tile,fast", "Tile"])
def test_unknown_names_are_refused(text, monkeypatch):
    monkeypatch.setenv("TILEWISE_IMPL", text)
    with pytest.raises(
        tw.TilewiseError, match=f"TILEWISE_IMPL: .*{text.rpartition(',')[2]}.*{NAMES[0]}.*{NAMES[-1]}"
    ):
        plan_of((1, 4, 8, 8), (4, 4, 3, 3))


class Asked:
    """Stands in for a lowering of x and y, one block each: nothing is forced unless told, and it answers what is asked
    of it."""

    outs = (Fact("float32", (1, V, 1, 1)),)
    ins = (*outs, None)

    def __init__(self, *forced: str, answer: str = "", chained: bool = True, blocked: bool = False) -> None:
        self.forced = forced
        self.chained = chained
        self.blocked = blocked
        self.answer = answer
        self.asked: list[tuple] = []

    def lies_blocked(self, i: int) -> bool:
        return self.blocked

    def quickest(self, problem, layout, ways):
        self.asked.append((problem, layout, list(ways)))
        return self.answer


class Case:
    """A problem that tells nothing but how many weights it has."""

    weights = 1

    def __str__(self) -> str:
        return "a case"


def way(name: str, cost: float | None, layout: str = BLOCKED, accepts: bool = True) -> Implementation:
    estimate = None if cost is None else lambda p: cost
    return Implementation(name, layout, lambda p, b: accepts, lambda b, p, residual: None, estimate)


def test_close_rivals_are_measured_the_cheaper_one_first():
    asked = Asked(answer="a")
    ways = [way("a", 100 * CLEAR), way("b", 100), way("c", 101 * CLEAR), way("d", None), way("e", 100, PLAIN)]
    assert choose(ways, Case(), asked).name == "a"
    assert asked.asked == [("a case", BLOCKED, ["b", "a"])]


UNMEASURED = {
    "clear": ([way("a", 100 * CLEAR + 1), way("b", 100)], "b"),
    "not worth a trial": ([way("a", math.inf), way("b", 100)], "b"),
    "the first has no rivals": ([way("a", None), way("b", 100), way("c", 100)], "a"),
    "of another layout": ([way("a", 100), way("b", 100, PLAIN)], "a"),
    "not accepted": ([way("a", 100, accepts=False), way("b", 100), way("c", 100, accepts=False)], "b"),
    "too long": ([way("a", MEASURED_COST + 2), way("b", MEASURED_COST + 1)], "b"),
}


@pytest.mark.parametrize("case", UNMEASURED)
def test_costs_alone_decide(case):
    ways, want = UNMEASURED[case]
    asked = Asked()
    assert choose(ways, Case(), asked).name == want
    assert asked.asked == []


def test_rivals_with_many_weights_are_not_packed_for_a_trial():
    case, asked = Case(), Asked()
    case.weights = MEASURED_WEIGHTS + 1
    assert choose([way("a", 101), way("b", 100)], case, asked).name == "b"
    assert asked.asked == []


def test_nothing_is_measured_where_one_is_forced():
    asked = Asked("x", "b")
    assert choose([way("a", 100), way("b", 101)], Case(), asked).name == "b"
    assert asked.asked == []


MOVED = CONVERSION_COST * 2 * V
"""What it costs to bring x and y of `Asked` from one layout to the other."""


@pytest.mark.parametrize(
    ("gain", "asked", "taken"),
    [
        (MOVED + 1, {}, "blocked"),
        (MOVED - 1, {}, "plain"),
        (None, {}, "plain"),
        (MOVED - 1, {"chained": True}, "blocked"),
        (MOVED - 1, {"blocked": True}, "blocked"),
    ],
    ids=["pays", "does not pay", "unknown", "in a chain", "blocked already"],
)
def test_a_change_of_layout_has_to_pay(gain, asked, taken):
    ways = [way("blocked", 10), way("plain", None if gain is None else 10 + gain, PLAIN)]
    assert choose(ways, Case(), Asked(**{"chained": False, **asked})).name == taken
