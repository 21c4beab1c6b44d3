"""Channels joined, split and put in another order in channel-blocked layout, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tests.ops.blocked_models import build, rand, run
from tilewise.ops.layout import VECTOR

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")


def identity(count):
    return np.eye(count, dtype=np.float32)[..., None, None]


def moved(counts, nodes, outputs=("y",), n=2, size=(5, 7)):
    """Convolutions that copy inputs of `counts` channels to a, b, ..., `nodes`, and their inputs."""
    names = "abcdef"[: len(counts)]
    feeds = {f"x{name}": rand(n, count, *size) for name, count in zip(names, counts, strict=True)}
    weights = {f"w{name}": identity(count) for name, count in zip(names, counts, strict=True)}
    # Two convolutions at least, for the graph to be worth blocked layout.
    copies = " ".join(f"c{name} = Conv (x{name}, w{name}) {name} = Conv (c{name}, w{name})" for name in names)
    return build(f"{copies} {nodes}", feeds, weights, outputs), feeds


@pytest.mark.parametrize(
    "counts",
    [(VECTOR - 1, VECTOR - 1), (VECTOR + 1, 2 * VECTOR, 3), (1, 1, VECTOR, 1), (2 * VECTOR - 1, 1)],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 2])
def test_concat_of_any_channels(counts, n):
    names = "abcdef"[: len(counts)]
    proto, feeds = moved(counts, f"y = Concat <axis = 1> ({', '.join(names)})", n=n)
    np.testing.assert_allclose(
        run(proto, feeds, "blocked_channels")["y"], np.concatenate(list(feeds.values()), 1)
    )


@pytest.mark.parametrize(
    "sizes", [(VECTOR + 3, VECTOR - 1), (1, 2 * VECTOR, 2), (2 * VECTOR, VECTOR + 2)], ids=str
)
@pytest.mark.parametrize("n", [1, 3])
def test_split_of_any_channels(sizes, n):
    names = [f"y{i}" for i in range(len(sizes))]
    nodes = f"s = Constant <value_ints = {list(sizes)}> () {', '.join(names)} = Split <axis = 1> (a, s)"
    relus = " ".join(f"r{name} = Relu({name})" for name in names)
    proto, feeds = moved((sum(sizes),), f"{nodes} {relus}", [*names, *[f"r{name}" for name in names]], n=n)
    got = run(proto, feeds, "blocked_channels" if n > 1 or sizes[0] % VECTOR else "blocked_conv")
    for name, part in zip(names, np.split(feeds["xa"], np.cumsum(sizes)[:-1], axis=1), strict=True):
        np.testing.assert_allclose(got[name], part)
        np.testing.assert_allclose(got[f"r{name}"], np.maximum(part, 0))


@pytest.mark.parametrize(
    ("channels", "groups"), [(VECTOR - 2, 2), (3 * VECTOR, 3), (58, 2), (60, 4), (5 * VECTOR, VECTOR)]
)
def test_channel_shuffle(channels, groups):
    n, h, w = 2, 5, 7
    nodes = f"""s = Constant <value_ints = [{n}, {groups}, {channels // groups}, {h}, {w}]> ()
    t = Constant <value_ints = [{n}, {channels}, {h}, {w}]> ()
    c = Reshape (a, s) d = Transpose <perm = [0, 2, 1, 3, 4]> (c) y = Reshape (d, t)"""
    proto, feeds = moved((channels,), nodes)
    want = feeds["xa"].reshape(n, groups, -1, h, w).swapaxes(1, 2).reshape(n, channels, h, w)
    np.testing.assert_allclose(run(proto, feeds, "blocked_channels")["y"], want)


@pytest.mark.parametrize(("start", "end", "step"), [(3, 99, 1), (0, 99, 2), (-1, -99, -1), (VECTOR, 99, 1)])
@pytest.mark.parametrize("n", [1, 2])
def test_slice_of_channels(start, end, step, n):
    nodes = f"""s = Constant <value_ints = [{start}]> () e = Constant <value_ints = [{end}]> ()
    i = Constant <value_ints = [1]> () k = Constant <value_ints = [{step}]> () y = Slice (a, s, e, i, k)"""
    proto, feeds = moved((2 * VECTOR + 5,), nodes, n=n)
    alias = n == 1 and step == 1 and start % VECTOR == 0
    got = run(proto, feeds, "blocked_conv" if alias else "blocked_channels")["y"]
    np.testing.assert_allclose(got, feeds["xa"][:, start : None if end < 0 else end : step])


def test_moving_places_too_leaves_the_layout():
    nodes = """s = Constant <value_ints = [1]> () e = Constant <value_ints = [4]> () i = Constant <value_ints = [2]> ()
    y = Slice (a, s, e, i)"""
    proto, feeds = moved((VECTOR,), nodes)
    np.testing.assert_allclose(run(proto, feeds, "from_blocked")["y"], feeds["xa"][:, :, 1:4])
