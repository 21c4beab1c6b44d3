"""Normalization over channels in channel-blocked layout, against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tests.ops.blocked_models import build, rand, run
from tilewise.ops.layout import VECTOR

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")

SIZES = [(5, 7), (1, 3), (40, 9)]


def copied(c, nodes, size, more=None, n=2):
    """Two convolutions that copy x to e, then `nodes` from e to y; its model and x."""
    feeds = {"x": rand(n, c, *size)}
    weights = {"w": np.eye(c, dtype=np.float32)[..., None, None], **(more or {})}
    return build(f"d = Conv (x, w) e = Conv (d, w) {nodes}", feeds, weights), feeds


@pytest.mark.parametrize("channels", [VECTOR, 2 * VECTOR, 4 * VECTOR - 1, 3 * VECTOR - VECTOR // 4])
@pytest.mark.parametrize(("reach", "beta"), [(5, 0.75), (2, 0.5), (1, 1.0), (4, 0.3), (2 * VECTOR + 1, 0.75)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_local_response(channels, reach, beta, size):
    nodes = f"y = LRN <size = {reach}, alpha = 0.3, beta = {beta}, bias = 1.5> (e)"
    proto, feeds = copied(channels, nodes, size)
    x = feeds["x"].astype(np.float64)
    before, behind = (reach - 1) // 2, reach // 2
    around = [np.square(x[:, max(0, c - before) : c + behind + 1]).sum(axis=1) for c in range(channels)]
    want = x / (1.5 + 0.3 / reach * np.stack(around, axis=1)) ** beta
    np.testing.assert_allclose(run(proto, feeds, "blocked_lrn")["y"], want, rtol=1e-5, atol=1e-6)


def test_local_response_further_than_a_vector_leaves_the_layout():
    proto, feeds = copied(3 * VECTOR, f"y = LRN <size = {2 * VECTOR + 3}, alpha = 0.3> (e)", (3, 4))
    x, c = np.square(feeds["x"].astype(np.float64)), 3 * VECTOR
    around = np.stack([x[:, max(0, i - VECTOR - 1) : i + VECTOR + 2].sum(axis=1) for i in range(c)], axis=1)
    want = feeds["x"] / (1 + 0.3 / (2 * VECTOR + 3) * around) ** 0.75
    np.testing.assert_allclose(run(proto, feeds, "lrn")["y"], want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [VECTOR, 2 * VECTOR, 4 * VECTOR - 1, 3 * VECTOR - VECTOR // 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_channel_normalization(channels, size, bias):
    more = {"s": rand(channels)} | ({"b": rand(channels)} if bias else {})
    nodes = f"""t = Transpose <perm = [0, 2, 3, 1]> (e)
    n = LayerNormalization <epsilon = 0.001> (t, s{", b" if bias else ""}) y = Transpose <perm = [0, 3, 1, 2]> (n)"""
    proto, feeds = copied(channels, nodes, size, more)
    x = feeds["x"].astype(np.float64)
    want = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 0.001)
    want = want * more["s"].reshape(-1, 1, 1) + (more["b"].reshape(-1, 1, 1) if bias else 0)
    np.testing.assert_allclose(run(proto, feeds, "blocked_normalize")["y"], want, rtol=2e-5, atol=2e-5)


def test_a_nan_stays_at_its_place():
    more = {"s": rand(2 * VECTOR)}
    nodes = """t = Transpose <perm = [0, 2, 3, 1]> (e) n = LayerNormalization (t, s)
    y = Transpose <perm = [0, 3, 1, 2]> (n)"""
    proto, feeds = copied(2 * VECTOR, nodes, (3, 4), more)
    feeds["x"][1, 3, 2, 1] = np.nan
    got = np.isnan(run(proto, feeds, "blocked_normalize")["y"])
    assert got[1, :, 2, 1].all()
    assert got.sum() == 2 * VECTOR
