"""Winograd's F(4x4, 3x3) against sums over taps in float64: edges of tiles, chunks, batches, epilogues."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from onnx.numpy_helper import from_array

import tilewise as tw
import tilewise_kernels
from tests.ops import oracles
from tilewise.ops import winograd

RNG = np.random.default_rng(13)

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")


def rand(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model_of(n, c, h, w, outs, pads, tail):
    """Conv with bias, then nodes from `c` to `y`; a second input `r` of the convolution's shape."""
    oh, ow = h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    g (float[{n},{c},{h},{w}] x, float[{n},{outs},{oh},{ow}] r) => (float[{n},{outs},{oh},{ow}] y)
    {{ c = Conv <pads: ints = {list(pads)}> (x, w, b) {tail} }}"""
    proto = parser.parse_model(text)
    weights = {"w": rand(outs, c, 3, 3) / np.float32(np.sqrt(9 * c)), "b": rand(outs)}
    for name, array in weights.items():
        proto.graph.initializer.append(from_array(array, name))
    return proto, weights, {"x": rand(n, c, h, w), "r": rand(n, outs, oh, ow)}


def steps_of(model):
    return {step.kernel for step in model.plan().steps}


SHAPES = {
    "whole tiles": (1, 32, 16, 16, 32, (1, 1, 1, 1)),
    "cut tiles": (1, 33, 30, 29, 37, (1, 1, 1, 1)),
    "valid": (1, 32, 34, 31, 32, (0, 0, 0, 0)),
    "asymmetric pads": (1, 40, 25, 27, 33, (2, 0, 1, 3)),
    "batch": (3, 32, 15, 18, 35, (1, 1, 1, 1)),
    "wide": (1, 32, 13, 130, 32, (1, 1, 1, 1)),
    "tall": (2, 32, 131, 12, 32, (1, 1, 1, 1)),
    "several chunks": (1, 48, 120, 117, 56, (1, 1, 1, 1)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("tail", "finish"),
    [
        ("y = Identity(c)", lambda c, r: c),
        ("y = Relu(c)", lambda c, r: np.maximum(c, 0)),
        ("y = HardSwish(c)", lambda c, r: c * np.clip(c / 6 + 0.5, 0, 1)),
        ("y = Add(c, r)", lambda c, r: c + r),
        ("a = Add(r, c) y = Relu(a)", lambda c, r: np.maximum(c + r, 0)),
    ],
    ids=["plain", "relu", "hard swish", "residual", "residual relu"],
)
def test_winograd(shape, tail, finish):
    proto, weights, feeds = model_of(*SHAPES[shape], tail)
    model = tw.load(proto, threads=2)
    assert "winograd_output" in steps_of(model)
    want = finish(oracles.conv(feeds["x"], weights["w"], weights["b"], pads=SHAPES[shape][5]), feeds["r"])
    got = model.run(feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=5e-5)
    single = tw.load(proto, threads=1).run(feeds)["y"]
    np.testing.assert_array_equal(got, single)


def test_error_is_small_against_the_largest_output():
    proto, weights, feeds = model_of(1, 256, 28, 28, 64, (1, 1, 1, 1), "y = Identity(c)")
    want = oracles.conv(feeds["x"], weights["w"], weights["b"], pads=(1, 1, 1, 1))
    got = tw.load(proto).run(feeds)["y"]
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_a_nan_spoils_its_tiles_only():
    proto, _, feeds = model_of(1, 32, 32, 32, 32, (1, 1, 1, 1), "y = Identity(c)")
    model = tw.load(proto)
    clean = model.run(feeds)["y"]
    feeds["x"][0, 3, 9, 9] = np.nan
    got = model.run(feeds)["y"]
    assert np.isnan(got[0, :, 8:11, 8:11]).all()
    far = np.ones_like(got, bool)
    far[:, :, 4:16, 4:16] = False
    np.testing.assert_array_equal(got[far], clean[far])


def test_transformed_weights_are_those_of_the_definition():
    w = rand(5, 3, 3, 3)
    planes = winograd.WEIGHTS @ w.astype(np.float64) @ winograd.WEIGHTS.T
    tiles = winograd.transform_weights(w).reshape(36, -1)
    got = tiles.reshape(36, 3, 5).transpose(2, 1, 0).reshape(5, 3, 6, 6)
    np.testing.assert_allclose(got, planes, rtol=1e-6)


@pytest.mark.parametrize(
    "attrs", ["strides: ints = [2, 2]", "dilations: ints = [2, 2]", "group: int = 2"], ids=str
)
def test_other_forms_take_another_way(attrs):
    depth = 16 if "group" in attrs else 32
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[1,32,40,40] x) => (float[N,32,H,W] y) {{ y = Conv <{attrs}> (x, w) }}"""
    )
    proto.graph.initializer.append(from_array(rand(32, depth, 3, 3), "w"))
    assert steps_of(tw.load(proto)) <= {"pad_phases", "tile_gemm"}
