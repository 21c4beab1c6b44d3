"""Values that change between plain and channel-blocked layout, and Concat whose inputs are made in place."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tests.ops import oracles
from tests.ops.layout_harness import check_graph, graph, identity, kernels_of, needs_kernels, rand, weights
from tilewise.runtime.model import load

pytestmark = needs_kernels

COPIES = {"copy", "strided_copy"}
MOVES = ("to_blocked", "from_blocked")


def conv(x, w, **form):
    return oracles.conv(x, w, **form)


def relu(v):
    return np.maximum(v, 0)


def count(kernels, *names):
    return sum(kernel in names for kernel in kernels)


# Changes of layout.


def test_a_chain_changes_layout_at_its_ends_alone():
    x, w, d = rand(2, 24, 9, 8), weights(24, 24, 3, 3), weights(24, 1, 3, 3)
    nodes = """a = Conv <pads = [1, 1, 1, 1]> (x, w) b = Sigmoid (a)
        c = Conv <pads = [1, 1, 1, 1], group: int = 24> (b, d) e = MaxPool <kernel_shape = [2, 2]> (c)
        f = Neg (e) y = Conv (f, w)"""
    b = 1 / (1 + np.exp(-conv(x, w, pads=(1,) * 4)))
    c = conv(b, d, pads=(1,) * 4, group=24)
    e = np.maximum.reduce([c[:, :, i : i + 8, j : j + 7] for i in (0, 1) for j in (0, 1)])
    kernels = check_graph(nodes, {"x": x}, {"w": w, "d": d}, {"y": conv(-e, w)}, companion=False)
    assert (kernels[0], kernels[-1]) == MOVES
    assert count(kernels, *MOVES) == 2, kernels
    for kernel in ("blocked_conv", "blocked_depthwise", "blocked_pool"):
        assert kernel in kernels, kernels


def test_a_blocked_value_that_is_an_output_too():
    x, w = rand(2, 24, 6, 7), weights(24, 24, 3, 3)
    a = conv(x, w)
    kernels = check_graph("a = Conv (x, w) r = Relu (a) y = Conv (r, w)", {"x": x}, {"w": w},
                          {"a": a, "r": relu(a), "y": conv(relu(a), w)}, companion=False)  # fmt: skip
    assert count(kernels, "from_blocked") == 3, kernels


def test_a_plain_reader_between_blocked_ones():
    """The value is brought into plain layout once, however many plain readers there are."""
    x, w = rand(2, 24, 6, 7), weights(24, 24, 3, 3)
    a = conv(x, w)
    nodes = (
        "a = Conv (x, w) t = Transpose <perm = [0, 1, 3, 2]> (a) s = Softmax <axis = 1> (a) y = Conv (a, w)"
    )
    e = np.exp(a - a.max(1, keepdims=True))
    want = {"t": a.swapaxes(2, 3), "s": e / e.sum(1, keepdims=True), "y": conv(a, w)}
    kernels = check_graph(nodes, {"x": x}, {"w": w}, want, companion=False)
    assert count(kernels, "from_blocked") == 2, kernels
    assert count(kernels, "to_blocked") == 1, kernels


def test_a_plain_value_read_by_several_convolutions_is_brought_over_once():
    x, w, v = rand(1, 24, 6, 7), weights(24, 24, 3, 3), weights(24, 24, 1, 1)
    want = {"y": conv(x, w), "z": conv(x, v)}
    kernels = check_graph(
        "y = Conv (x, w) z = Conv (x, v)", {"x": x}, {"w": w, "v": v}, want, companion=False
    )
    assert count(kernels, "to_blocked") == 1, kernels


def test_a_step_on_the_host_between_convolutions():
    x, w = rand(2, 24, 6, 7), weights(24, 24, 3, 3)
    a = conv(x, w)
    nodes = "a = Conv (x, w) d = Cast <to = 11> (a) s = Sin (d) c = Cast <to = 1> (s) y = Conv (c, w) z = Add (a, c)"
    want = {"y": conv(np.sin(a), w), "z": a + np.sin(a)}
    kernels = check_graph(nodes, {"x": x}, {"w": w}, want, companion=False)
    assert "host" in kernels, kernels
    assert count(kernels, "blocked_conv") == 2, kernels


def test_a_branch_captures_a_blocked_value():
    x, w = rand(1, 24, 5, 5), weights(24, 24, 1, 1)
    nodes = """a = Conv (x, w) b = Relu (a)
        y = If (flag) <then_branch = one () => (float[] t) { t = Neg (b) },
                       else_branch = two () => (float[] e) { e = Conv (b, v) }>
        z = Conv (b, v)"""
    feeds = {"x": x, "flag": np.array(True)}
    constants = {"w": w, "v": weights(24, 24, 3, 3)}
    b = relu(conv(x, w))
    for flag, y in ((True, -b), (False, conv(b, constants["v"]))):
        feeds["flag"] = np.array(flag)
        check_graph(nodes, feeds, constants, {"y": y, "z": conv(b, constants["v"])}, companion=False)


@pytest.mark.parametrize("node", ["d = Identity (a)", "d = Dropout (a)", "d, mask = Dropout (a)"])
def test_aliases_stay_blocked(node):
    x, w = rand(2, 24, 6, 7), weights(24, 24, 3, 3)
    a = conv(x, w)
    want = {"a": a, "y": conv(a, w), "d": a}
    kernels = check_graph(
        f"a = Conv (x, w) {node} y = Conv (d, w)", {"x": x}, {"w": w}, want, companion=False
    )
    assert count(kernels, "to_blocked") == 1, kernels


@pytest.mark.parametrize("shape", [(1, 24, 1, 1), (17, 32, 1, 1), (17, 24, 1, 1), (5, 48, 1)], ids=str)
def test_single_places(shape):
    """Where both layouts are the same bytes nothing is moved; where they are not, all is."""
    x, w = rand(*shape), weights(shape[1], shape[1], *[1] * (len(shape) - 2))
    g = relu(conv(x, w))
    nodes = "a = Conv (x, w) g = GlobalMaxPool (a) r = Relu (g) f = Flatten (r) y = Conv (r, w)"
    want = {"f": g.reshape(shape[0], -1), "y": conv(g, w)}
    check_graph(nodes, {"x": x}, {"w": w}, want, companion=False)


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 24, 33, 48])
@pytest.mark.parametrize("spatial", [(1,), (17,), (3, 5), (33, 32), (2, 3, 5)], ids=str)
def test_both_ways_without_a_change(channels, spatial):
    """Images of odd channels and places come through: brought over for a depthwise 1x1 or a Concat, and back."""
    x = rand(2, channels, *spatial)
    wide = rand(2, 48, *spatial, seed=1)
    eye = identity(48, len(spatial))
    nodes = "a = Conv (wide, eye) y = Concat <axis = 1> (a, x)"
    check_graph(nodes, {"x": x, "wide": wide}, {"eye": eye}, {"y": np.concatenate([wide, x], 1)})


def test_large_values_move_in_several_tasks():
    x = rand(1, 30, 70, 61)
    check_graph("a = Conv (x, eye) y = Neg (a)", {"x": x}, {"eye": identity(30)}, {"y": -x})
    tasks = {s.kernel: s.tasks for s in load(graph("a = Conv (x, eye) y = Neg (a)", {"x": x},
                                                  {"eye": identity(30)})).plan().steps}  # fmt: skip
    assert tasks["to_blocked"] > 2
    assert tasks["from_blocked"] > 2


# Concat and Split: 48 channels are whole vectors at every width.

W48 = weights(48, 48, 1, 1)


def parts(n=1, h=5, w=6):
    return {"x": rand(n, 48, h, w), "z": rand(n, 48, h, w, seed=1)}


def cat(*arrays):
    return np.concatenate(arrays, 1)


CONCATS = {
    "two": ("y = Concat <axis = 1> (a, b)", lambda a, b: cat(a, b)),
    "negative axis": ("y = Concat <axis = -3> (b, a)", lambda a, b: cat(b, a)),
    "three, computed": (
        "c = Relu (a) d = Neg (b) y = Concat <axis = 1> (c, b, d)",
        lambda a, b: cat(relu(a), b, -b),
    ),
    "nested": (
        "c = Concat <axis = 1> (a, b) d = Neg (a) y = Concat <axis = 1> (d, c)",
        lambda a, b: cat(-a, a, b),
    ),
    "nested twice, all read": (
        "c = Concat <axis = 1> (a, b) d = Relu (c) e = Concat <axis = 1> (c, d) f = Neg (e)"
        " y = Concat <axis = 1> (f, e)",
        lambda a, b: cat(-cat(a, b, relu(cat(a, b))), a, b, relu(cat(a, b))),
    ),
    "in two Concats": (
        "c = Concat <axis = 1> (a, b) d = Concat <axis = 1> (b, a) y = Sub (c, d)",
        lambda a, b: cat(a, b) - cat(b, a),
    ),
}


@pytest.mark.parametrize("case", CONCATS)
@pytest.mark.parametrize("n", [1, 3])
def test_concat(case, n):
    tail, apply = CONCATS[case]
    feeds = parts(n)
    a, b = conv(feeds["x"], W48), conv(feeds["z"], W48)
    kernels = check_graph(f"a = Conv (x, w) b = Conv (z, w) {tail}", feeds, {"w": W48}, {"y": apply(a, b)},
                          companion=False)  # fmt: skip
    if n == 1 and case in ("two", "negative axis", "three, computed", "nested"):
        assert not COPIES & set(kernels), kernels


@pytest.mark.parametrize("n", [1, 2])
def test_concats_of_all_the_earlier_ones(n):
    """As DenseNet is exported: each Concat takes what the one before took, and one more."""
    x = rand(n, 48, 5, 6)
    w1, w2, w3 = (weights(16, c, 3, 3, seed=c) for c in (48, 64, 80))
    form = {"pads": (1,) * 4}
    spelled = "Conv <pads = [1, 1, 1, 1]>"
    nodes = f"""a = Conv (x, w) r0 = Relu (a) b = {spelled} (r0, w1)
        c1 = Concat <axis = 1> (a, b) r1 = Relu (c1) c = {spelled} (r1, w2)
        c2 = Concat <axis = 1> (a, b, c) r2 = Relu (c2) d = {spelled} (r2, w3)
        c3 = Concat <axis = 1> (a, b, c, d) y = Relu (c3)"""
    a = conv(x, W48)
    b = conv(relu(a), w1, **form)
    c = conv(relu(cat(a, b)), w2, **form)
    d = conv(relu(cat(a, b, c)), w3, **form)
    want = {"y": relu(cat(a, b, c, d))}
    kernels = check_graph(nodes, {"x": x}, {"w": W48, "w1": w1, "w2": w2, "w3": w3}, want, companion=False)
    assert (n == 1) is not bool(COPIES & set(kernels)), kernels


def test_concats_each_of_the_last_and_one_more():
    x = rand(1, 48, 5, 6)
    w1, w2 = weights(16, 48, 1, 1), weights(16, 64, 1, 1)
    nodes = """a = Conv (x, w) b = Conv (a, w1) c1 = Concat <axis = 1> (a, b) c = Conv (c1, w2)
        y = Concat <axis = 1> (c1, c)"""
    a = conv(x, W48)
    c1 = cat(a, conv(a, w1))
    kernels = check_graph(nodes, {"x": x}, {"w": W48, "w1": w1, "w2": w2}, {"y": cat(c1, conv(c1, w2))},
                          companion=False)  # fmt: skip
    assert not COPIES & set(kernels), kernels


ODD_PARTS = {
    "the same twice": ("y = Concat <axis = 1> (a, a)", lambda a, b, k, x: cat(a, a)),
    "the same twice, and once more": (
        "c = Concat <axis = 1> (a, a) y = Concat <axis = 1> (a, a, b, c)",
        lambda a, b, k, x: cat(a, a, b, a, a),
    ),
    "an input of the graph": ("y = Concat <axis = 1> (x, a)", lambda a, b, k, x: cat(x, a)),
    "inputs of the graph alone": ("y = Concat <axis = 1> (x, z)", None),
    "a constant": ("y = Concat <axis = 1> (a, k, b)", lambda a, b, k, x: cat(a, k, b)),
    "a constant first": ("y = Concat <axis = 1> (k, a)", lambda a, b, k, x: cat(k, a)),
    "an alias": ("i = Dropout (a) y = Concat <axis = 1> (i, b, a)", lambda a, b, k, x: cat(a, b, a)),
    "along another axis": ("y = Concat <axis = 2> (a, b)", lambda a, b, k, x: np.concatenate([a, b], 2)),
    "of images": ("y = Concat <axis = 0> (a, b)", lambda a, b, k, x: np.concatenate([a, b], 0)),
    "read after": ("c = Concat <axis = 1> (a, b) g = Relu (a) h = Concat <axis = 1> (g, b) y = Add (c, h)",
                   lambda a, b, k, x: cat(a, b) + cat(relu(a), b)),
    "a reader in place": ("c = Concat <axis = 1> (a, b) s = Neg (c) y = Sigmoid (s)",
                          lambda a, b, k, x: 1 / (1 + np.exp(cat(a, b)))),
    "one input": ("c = Concat <axis = 1> (a) y = Concat <axis = 1> (c, b)", lambda a, b, k, x: cat(a, b)),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD_PARTS)
@pytest.mark.parametrize("n", [1, 2])
def test_odd_parts(case, n):
    tail, apply = ODD_PARTS[case]
    feeds, k = parts(n), rand(n, 48, 5, 6, seed=2)
    a, b = conv(feeds["x"], W48), conv(feeds["z"], W48)
    want = cat(feeds["x"], feeds["z"]) if apply is None else apply(a, b, k, feeds["x"])
    nodes = f"a = Conv (x, w) b = Conv (z, w) {tail} also = Add (a, b)"
    check_graph(nodes, feeds, {"w": W48, "k": k}, {"y": want, "also": a + b}, companion=False)


@pytest.mark.parametrize("outputs", [["a", "y"], ["y", "a", "b"], ["b", "c", "y"], ["c", "a"]], ids=str)
@pytest.mark.parametrize("n", [1, 2])
def test_parts_that_are_outputs(outputs, n):
    feeds = parts(n)
    a, b = conv(feeds["x"], W48), conv(feeds["z"], W48)
    values = {"a": a, "b": b, "c": cat(a, b), "y": cat(a, b, -a)}
    nodes = """a = Conv (x, w) b = Conv (z, w) c = Concat <axis = 1> (a, b) d = Neg (a)
        y = Concat <axis = 1> (c, d)"""
    check_graph(nodes, feeds, {"w": W48}, {name: values[name] for name in outputs}, companion=False)


@pytest.mark.parametrize("channels", [(16, 17), (17, 16), (24, 30), (48, 1), (33, 33), (16, 30, 16)], ids=str)
@pytest.mark.parametrize("n", [1, 2])
def test_parts_of_odd_channels(channels, n):
    feeds = {f"x{i}": rand(n, 24, 4, 5, seed=i) for i in range(len(channels))}
    constants = {f"w{i}": weights(c, 24, 1, 1, seed=i) for i, c in enumerate(channels)}
    made = [conv(feeds[f"x{i}"], constants[f"w{i}"]) for i in range(len(channels))]
    nodes = " ".join(f"a{i} = Conv (x{i}, w{i})" for i in range(len(channels)))
    names = ", ".join(f"a{i}" for i in range(len(channels)))
    check_graph(
        f"{nodes} y = Concat <axis = 1> ({names})", feeds, constants, {"y": cat(*made)}, companion=False
    )


def test_plain_parts_made_in_place():
    x, z = rand(1, 3, 4, 5), rand(1, 3, 4, 5, seed=1)
    nodes = "a = Exp (x) b = Neg (z) c = Concat <axis = 1> (a, b) d = Abs (z) y = Concat <axis = 1> (c, d)"
    want = {"y": cat(np.exp(x), -z, np.abs(z)), "b": -z}
    kernels = check_graph(nodes, {"x": x, "z": z}, {}, want, companion=False)
    assert not COPIES & set(kernels), kernels


@pytest.mark.parametrize("node", ["d = Cast <to = 11> (x) e = Sin (d) a = Cast <to = 1> (e)", "a = Sin (x)"])
def test_a_part_made_on_the_host_or_not(node):
    x, z = rand(1, 48, 4, 5), rand(1, 48, 4, 5, seed=1)
    nodes = f"{node} b = Conv (z, w) y = Concat <axis = 1> (a, b) v = Concat <axis = 1> (b, a, b)"
    b = conv(z, W48)
    want = {"y": cat(np.sin(x), b), "v": cat(b, np.sin(x), b)}
    check_graph(nodes, {"x": x, "z": z}, {"w": W48}, want)


SPLITS = {
    "halves": ([24, 24], "y = Sub (p, q)", lambda p, q: p - q),
    "whole vectors": ([16, 32], "y = Concat <axis = 1> (q, p)", lambda p, q: cat(q, p)),
    "back together": ([16, 32], "y = Concat <axis = 1> (p, q)", lambda p, q: cat(p, q)),
    "a small rest": ([47, 1], "y = Mul (p, q)", lambda p, q: p * q),
    "a rest": ([32, 16], "n = Neg (p) y = Concat <axis = 1> (n, q, p)", lambda p, q: cat(-p, q, p)),
    "one computed in place": ([32, 16], "r = Relu (q) s = Neg (p) y = Concat <axis = 1> (s, r)",
                              lambda p, q: cat(-p, relu(q))),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
@pytest.mark.parametrize("n", [1, 3])
def test_split(case, n):
    sizes, tail, apply = SPLITS[case]
    x = rand(n, 48, 5, 6)
    a = conv(x, W48)
    p, q = a[:, : sizes[0]], a[:, sizes[0] :]
    nodes = f"a = Conv (x, w) p, q = Split <axis = 1> (a, sizes) {tail}"
    want = {"y": apply(p, q), "a": a, "q": q}
    check_graph(nodes, {"x": x}, {"w": W48, "sizes": np.int64(sizes)}, want)
    check_graph(nodes, {"x": x}, {"w": W48, "sizes": np.int64(sizes)}, {"y": want["y"]})


def test_pieces_of_one_image_lie_where_they_are():
    x = rand(1, 48, 5, 6)
    a = conv(x, W48)
    w = weights(24, 32, 1, 1)
    nodes = "a = Conv (x, w) p, q = Split <axis = 1> (a, sizes) y = Conv (q, v) z = Neg (p)"
    constants = {"w": W48, "v": w, "sizes": np.int64([16, 32])}
    kernels = check_graph(
        nodes, {"x": x}, constants, {"y": conv(a[:, 16:], w), "z": -a[:, :16]}, companion=False
    )
    assert not COPIES & set(kernels), kernels
    assert count(kernels, *MOVES) == 3, kernels


def test_the_second_piece_alone_is_asked_for():
    x = rand(1, 48, 5, 6)
    a = conv(x, W48)
    nodes = "a = Conv (x, w) p, q = Split <axis = 1, num_outputs = 2> (a) y = Neg (q)"
    check_graph(nodes, {"x": x}, {"w": W48}, {"y": -a[:, 24:]})


def test_the_plan_needs_no_more_memory_than_its_buffers():
    """A Concat in place: its parts take no room of their own."""
    feeds = parts(1, 40, 40)
    proto = graph(
        "a = Conv (x, w) b = Conv (z, w) y = Concat <axis = 1> (a, b)", feeds, {"w": W48}, companion=False
    )
    model = load(proto)
    image = feeds["x"].nbytes
    assert model.plan().peak_bytes <= 4 * image + 4096
    assert count(kernels_of(model), *MOVES) == 3


def test_vectors_are_as_wide_as_the_level_says():
    widths = {"v4": 16, "v3": 8, "v2": 4, "base": 4}
    assert widths[tilewise_kernels.ISA] == tilewise_kernels.VECTOR_FLOATS
