"""Measured choices between implementations: when they are made, kept and left alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tilewise as tw
import tilewise_kernels
from tests.ops import oracles
from tests.ops.harness import one_node
from tilewise.ops import choice
from tilewise.ops.layout import VECTOR
from tilewise.plan import tune

pytestmark = pytest.mark.skipif(
    not tilewise_kernels.has("blocked_conv"), reason="blocked layout needs extension modules"
)

RNG = np.random.default_rng(3)
C = max(VECTOR, 16)
X = RNG.standard_normal((1, C, 10, 9)).astype(np.float32)
W = (RNG.standard_normal((C, C, 3, 3)) / np.sqrt(9 * C)).astype(np.float32)
PROBLEM = f"conv n1g1c{C}o{C}_ih10oh8kh3sh1dh1ph0_iw9ow7kw3sw1dw1pw0"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, in which all rivals are close."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TILEWISE_TUNE", "on")
    monkeypatch.setenv("TILEWISE_CACHE", str(folder))
    monkeypatch.delenv("TILEWISE_IMPL", raising=False)
    monkeypatch.setattr(choice, "CLEAR", 1e9)
    monkeypatch.setattr(tune, "TUNER", tune.Tuner())
    monkeypatch.setattr("tilewise.plan.builder._has_chains", lambda graph: True)
    return folder


def model() -> tw.Model:
    return tw.load(one_node("Conv", [X, W], constants=[1]).SerializeToString(), threads=1)


def implementation() -> str:
    (chosen,) = model().plan().choices.values()
    assert chosen.problem == PROBLEM
    return chosen.implementation


def never(*args) -> str:
    raise AssertionError("measured")


def kept(place: Path) -> dict[str, str]:
    (file,) = place.glob("choices-*.json")
    report = json.loads(file.read_text())
    assert tw.__version__ in report["made_for"]
    assert tilewise_kernels.ISA in report["made_for"]
    return report["choices"]


def test_a_measured_choice_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = implementation()
    assert chosen in ("winograd", "blocked")
    assert kept(place) == {PROBLEM: chosen}
    assert tune.TUNER.spent > 0
    monkeypatch.setattr(tune, "_measure", never)
    assert implementation() == chosen


@pytest.mark.parametrize("name", ["winograd", "blocked"])
def test_the_kept_choice_is_taken_and_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_measure", lambda *args: name)
    assert implementation() == name
    monkeypatch.setattr(tune, "_measure", never)
    tune._kept.cache_clear()
    assert implementation() == name
    np.testing.assert_allclose(model()(X), oracles.conv(X, W), rtol=1e-4, atol=1e-4)


def test_the_quicker_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is replaced: runs of one way take twice as long as those of the other."""
    for quick in ("winograd", "blocked"):

        def run(trial: tune.Trial, swept: np.ndarray, quick: str = quick) -> int:
            is_winograd = any("winograd" in str(form) for _, form in trial.made)
            return 1000 if is_winograd == (quick == "winograd") else 2000

        with monkeypatch.context() as patch:
            patch.setattr(tune.Trial, "run", run)
            patch.setenv("TILEWISE_CACHE", str(Path("nowhere", quick)))
            patch.setattr(tune.Kept, "writable", lambda self: True)
            patch.setattr(tune.Kept, "keep", lambda self, problem, name, names: name)
            assert implementation() == quick


def test_a_small_gain_is_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(10**6, 0, -1))
    monkeypatch.setattr(tune.Trial, "run", lambda trial, swept: next(times))
    monkeypatch.setattr(tune, "TUNER", recorder := Recorder())
    assert implementation() == recorder.first


class Recorder(tune.Tuner):
    """Remembers which way it was told to prefer."""

    first = ""

    def quickest(self, asked, problem, layout, ways, constants):
        self.first = next(iter(ways))
        return super().quickest(asked, problem, layout, ways, constants)


def test_the_weights_of_the_better_way_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.Trial, "run", lambda trial, swept: 1000)
    m = model()
    m.plan()
    packed = [key for key in m._runner._constants if key[0] == "x1"]
    assert len(packed) == 1


def test_off_measures_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWISE_TUNE", "off")
    monkeypatch.setattr(tune, "_measure", never)
    assert implementation() in ("winograd", "blocked")
    assert not place.exists()


def test_where_nothing_can_be_kept_nothing_is_measured(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write_text("a file")
    monkeypatch.setattr(tune, "_measure", never)
    assert implementation() in ("winograd", "blocked")


def test_a_process_measures_for_a_limited_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune.TUNER.spent = tune.PROCESS_NS
    monkeypatch.setattr(tune, "_measure", never)
    assert implementation() in ("winograd", "blocked")
    assert not list(place.glob("choices-*.json"))


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWISE_TUNE", "sometimes")
    with pytest.raises(tw.TilewiseError, match="TILEWISE_TUNE: expected on or off, got 'sometimes'"):
        implementation()


def test_a_residual_is_measured_too() -> None:
    node = one_node("Conv", [X, W], constants=[1])
    from onnx import helper

    node.graph.node.append(helper.make_node("Add", ["y0", "r"], ["z"]))
    residual = RNG.standard_normal((1, C, 8, 7)).astype(np.float32)
    node.graph.input.append(helper.make_tensor_value_info("r", 1, residual.shape))
    node.graph.output[0].name = "z"
    fused = tw.load(node.SerializeToString(), threads=1)
    np.testing.assert_allclose(fused(X, residual), oracles.conv(X, W) + residual, rtol=1e-4, atol=1e-4)
    (chosen,) = fused.plan().choices.values()
    assert chosen.implementation in ("winograd", "blocked")
