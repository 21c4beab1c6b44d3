"""Transposed convolution in channel-blocked layout, against sums over places and taps in float64."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise as tw
import tilewise_kernels
from tests.ops import oracles
from tests.ops.blocked_models import build, rand, run
from tilewise.ops.layout import VECTOR

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")

FORMS = {
    "as in U-Net": ((6, 5), (2, 2), {"strides": [2, 2]}),
    "overlapping": ((5, 7), (4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "stride 3, asymmetric pads": ((4, 5), (3, 5), {"strides": [3, 2], "pads": [0, 1, 2, 2]}),
    "holes": ((4, 3), (2, 1), {"strides": [3, 2]}),
    "dilation": ((5, 4), (3, 2), {"strides": [2, 1], "dilations": [2, 3]}),
    "output padding": ((5, 4), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "stride 1": ((5, 17), (3, 3), {"pads": [1, 1, 1, 1]}),
    "one axis": ((31,), (4,), {"strides": [2], "pads": [1, 1]}),
    "wide": ((2, 40), (2, 2), {"strides": [2, 2]}),
}
CHANNELS = [(VECTOR, 2 * VECTOR, 1), (2 * VECTOR - 1, 3 * VECTOR - 1, 1), (2 * VECTOR, 2 * VECTOR, 2)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("c", "outs", "group"), CHANNELS)
def test_transposed(form, c, outs, group):
    size, kernel, attrs = FORMS[form]
    shown = ", ".join(f"{k} = {v}" for k, v in {"group": group, **attrs}.items())
    ones = [1] * len(size)
    weights = {"u": rand(c, 3, *ones), "w": rand(c, outs // group, *kernel), "b": rand(outs)}
    feeds = {"x": rand(2, 3, *size)}
    nodes = f"e = Conv (x, u) t = ConvTranspose <{shown}> (e, w, b) y = Relu (t)"
    proto = build(nodes, feeds, weights)
    assert not {"tile_gemm", "tile_gemm_zip"} & {step.kernel for step in tw.load(proto).plan().steps}
    got = run(proto, feeds, "blocked_conv")["y"]
    renamed = {"strides": "stride", "dilations": "dilation"}
    given = {renamed.get(k, k): v for k, v in attrs.items()}
    t = oracles.conv_transpose(
        oracles.conv(feeds["x"], weights["u"]), weights["w"], weights["b"], group=group, **given
    )
    np.testing.assert_allclose(got, np.maximum(t, 0), rtol=1e-4, atol=1e-4)
