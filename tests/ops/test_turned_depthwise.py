"""Depthwise convolutions of plain images, turned into blocks in the cache, against sums over taps in float64."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise as tw
import tilewise_kernels
from tests.ops import oracles
from tests.ops.harness import check, one_node
from tilewise.ops.layout import VECTOR

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")

RNG = np.random.default_rng(23)
V = VECTOR
# n, channels, size, kernel, form
CASES = {
    "3x3": (1, V, (14, 14), (3, 3), {"pads": (1,) * 4}),
    "5x5": (1, V, (14, 15), (5, 5), {"pads": (2,) * 4}),
    "7x7": (2, V, (9, 33), (7, 7), {"pads": (3,) * 4}),
    "3x3 stride 2": (1, V, (15, 14), (3, 3), {"pads": (1,) * 4, "stride": 2}),
    "5x5 stride 2": (1, V, (14, 15), (5, 5), {"pads": (2, 1, 2, 1), "stride": 2}),
    "7x7 stride 2": (1, V, (17, 16), (7, 7), {"pads": (3,) * 4, "stride": 2}),
    "4x2 stride 3, 1": (1, V, (16, 11), (4, 2), {"pads": (0, 1, 2, 0), "stride": (3, 1)}),
    "1x7 stride 1, 3": (1, V, (5, 23), (1, 7), {"pads": (0, 3, 0, 2), "stride": (1, 3)}),
    "columns dilated": (1, V, (8, 20), (3, 3), {"pads": (1, 4, 1, 4), "dilation": (1, 4)}),
    "no pads": (1, V, (9, 21), (3, 3), {}),
    "pads alone in a window": (1, V, (3, 3), (3, 3), {"pads": (5, 4, 3, 6)}),
    "one more channel": (2, 2 * V + 1, (10, 12), (3, 3), {"pads": (1,) * 4}),
    "one channel less": (2, 3 * V - 1, (7, 7), (3, 3), {"pads": (1,) * 4}),
    "a place": (2, 2 * V, (1, 1), (3, 3), {"pads": (1,) * 4}),
    "a row shorter than a vector": (1, V, (1, V - 1), (1, 3), {"pads": (0, 1, 0, 1)}),
    "a column": (1, V, (40, 1), (3, 1), {"pads": (1, 0, 1, 0)}),
    "rows in several turns": (1, V, (30, 40), (3, 3), {"pads": (1,) * 4}),
    "few places out of many": (1, V, (64, 64), (3, 3), {"stride": 21}),
    "1-D": (2, V, (50,), (3,), {"pads": (1, 1)}),
    "planes enough": (9, V, (6, 6), (3, 3), {"pads": (1,) * 4}),
}


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def attributes(n: int, group: int, form: dict) -> dict:
    spread = {k: [v] * n if isinstance(v, int) else list(v) for k, v in form.items() if k != "pads"}
    attrs = {f"{k}s": v for k, v in spread.items()} | {"group": group}
    return attrs | ({"pads": list(form["pads"])} if "pads" in form else {})


def taken(args: list[np.ndarray], attrs: dict) -> str:
    proto = one_node("Conv", args, attrs, constants=list(range(1, len(args))))
    (choice,) = tw.load(proto.SerializeToString()).plan().choices.values()
    return choice.implementation


@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("case", CASES)
def test_against_a_sum_over_taps(case, biased):
    n, c, size, kernel, form = CASES[case]
    args = [rand(n, c, *size), rand(c, 1, *kernel)] + [rand(c)] * biased
    attrs = attributes(len(size), c, form)
    assert taken(args, attrs) == "turned_depthwise"
    want = oracles.conv(*args, group=c, **form).astype(np.float32)
    constants = list(range(1, len(args)))
    check("Conv", args, attrs, constants=constants, oracle=lambda *_: want, rtol=1e-4, atol=1e-5, kernel=True)


def test_nan_and_infinity_reach_only_their_windows_and_channels():
    x, w = rand(1, V + V // 2, 20, 20), rand(V + V // 2, 1, 3, 3)
    x[0, 1, 2, 3], x[0, V + 1, 19, 19], x[0, -1, 0, 0] = np.nan, np.inf, -np.inf
    attrs = {"group": x.shape[1], "pads": [1] * 4}
    with np.errstate(invalid="ignore"):
        want = oracles.conv(x, w, group=x.shape[1], pads=(1,) * 4).astype(np.float32)
    check("Conv", [x, w], attrs, constants=[1], oracle=lambda *_: want, rtol=1e-4, atol=1e-5, kernel=True)


@pytest.mark.parametrize(
    ("c", "size", "form"),
    [
        (V, (9, 2000), {"pads": (1,) * 4}),
        (V, (20, 20), {"pads": (2,) * 4, "dilation": (2, 1)}),
        (1, (9, 9), {"pads": (1,) * 4}),
    ],
    ids=["rows too long for the buffers", "rows dilated", "few channels"],
)
def test_other_forms_take_another_way(c, size, form):
    args = [rand(1, c, *size), rand(c, 1, 3, 3)]
    attrs = attributes(2, c, form)
    assert taken(args, attrs) != "turned_depthwise"
    want = oracles.conv(*args, group=c, **form).astype(np.float32)
    check("Conv", args, attrs, constants=[1], oracle=lambda *_: want, rtol=1e-4, atol=1e-5, kernel=True)


@pytest.mark.parametrize("activation", ["Relu", "HardSwish", "Clip"])
def test_an_activation_behind_it(activation):
    import onnx

    bounds = "(c, lo, hi)" if activation == "Clip" else "(c)"
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[1, {V}, 9, 10] x) => (float[1, {V}, 9, 10] y)
    <float lo = {{-0.5}}, float hi = {{0.75}}>
    {{ c = Conv <group = {V}, pads = [1, 1, 1, 1]> (x, w)  y = {activation}{bounds} }}"""
    x, w = rand(1, V, 9, 10), rand(V, 1, 3, 3)
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    c = oracles.conv(x, w, group=V, pads=(1,) * 4)
    want = {
        "Relu": np.maximum(c, 0),
        "HardSwish": c * np.clip(c / 6 + 0.5, 0, 1),
        "Clip": np.clip(c, -0.5, 0.75),
    }[activation]
    y = tw.load(model.SerializeToString()).run({"x": x})["y"]
    np.testing.assert_allclose(y, want.astype(np.float32), rtol=1e-4, atol=1e-5)


def test_bitwise_equal_for_any_number_of_threads():
    args = [rand(1, 2 * V, 33, 20), rand(2 * V, 1, 5, 5)]
    proto = one_node("Conv", args, {"group": 2 * V, "pads": [2] * 4}, constants=[1]).SerializeToString()
    one, many = (tw.load(proto, threads=t) for t in (1, 3))
    feeds = {one.inputs[0].name: args[0]}
    for a, b in zip(one.run(feeds).values(), many.run(feeds).values(), strict=True):
        assert np.array_equal(a, b)
