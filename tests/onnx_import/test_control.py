"""If, Loop, Scan and SequenceMap against ONNX Runtime (`onnx.reference` cannot stack matrices in a Loop)."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tilewise
from tests.onnx_import.models import floats, parse, proto
from tilewise import ExecutionError, ShapeError
from tilewise.graph import Fact
from tilewise.onnx.load import load_graph
from tilewise.ops.inference import infer

X = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)


def assert_like_onnxruntime(source: bytes, **feeds: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    want = session.run(None, feeds)
    got = tilewise.load(source).run(feeds)
    facts = inferred(source, **feeds)
    for (name, value), expected in zip(got.items(), want, strict=True):
        assert_same(value, expected)
        if isinstance(value, np.ndarray):
            assert_fits(facts[name], value)


def assert_same(got: object, want: object) -> None:
    if isinstance(want, list):
        assert isinstance(got, list)
        for g, w in zip(got, want, strict=True):
            assert_same(g, w)
        return
    want = np.asarray(want)
    assert isinstance(got, np.ndarray)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def assert_fits(fact: Fact, value: np.ndarray) -> None:
    assert fact.dtype in (None, value.dtype)
    if fact.shape is not None:
        assert len(fact.shape) == value.ndim
        assert all(d == n for d, n in zip(fact.shape, value.shape, strict=True) if isinstance(d, int))


def inferred(source: bytes, **feeds: np.ndarray) -> dict[str, Fact]:
    return infer(load_graph(source), {n: Fact(a.dtype, a.shape) for n, a in feeds.items()})


IF = """g (bool c, float[2,3] x) => (y, z) {
    t = Neg(x)
    y, z = If (c) <
        then_branch = a () => (p, q) { p = Add(t, x)  q = Identity(x) },
        else_branch = b () => (r, s) { k = Constant <value_float = 2.0> ()  r = Mul(x, k)  s = ReduceSum(t) }
    >
}"""


@pytest.mark.parametrize("cond", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_if(cond: bool, shape: tuple[int, ...]) -> None:
    source = parse(IF.replace("bool c", "bool[1] c" if shape else "bool c"))
    assert_like_onnxruntime(source, c=np.full(shape, cond), x=X)


def test_a_branch_without_nodes_returns_outer_values() -> None:
    source = parse(
        """g (bool c, float[2,3] x) => (y) {
            t = Neg(x)
            y = If (c) <then_branch = a () => (t) { }, else_branch = b () => (x) { }>
        }"""
    )
    model = tilewise.load(source)
    np.testing.assert_array_equal(model(np.array(True), X), -X)
    np.testing.assert_array_equal(model(np.array(False), X), X)


def test_a_loop_body_without_nodes_hands_on() -> None:
    source = parse(
        """g (int64 n, float[2,3] x, float[2,3] z) => (y, w, rows) {
            y, w, rows = Loop (n, "", x, z) <body = b (i, go, p, q) => (go, q, p, i) { }>
        }"""
    )
    y, w, rows = tilewise.load(source)(np.array(3), X, X + 1)
    np.testing.assert_array_equal(y, X + 1)
    np.testing.assert_array_equal(w, X)
    assert rows.tolist() == [0, 1, 2]


def test_if_inference_merges_branches() -> None:
    facts = inferred(parse(IF), c=np.array(True), x=X)
    assert (str(facts["y"]), str(facts["z"])) == ("float32[2, 3]", "float32[?, ?]")


def test_if_with_a_constant_condition_is_its_branch() -> None:
    source = parse(
        IF.replace("bool c, ", "").replace("t = Neg(x)", "t = Neg(x) c = Constant<value=bool{0}>()")
    )
    assert str(inferred(source, x=X)["z"]) == "float32[1, 1]"
    np.testing.assert_array_equal(tilewise.load(source)(X)[0], 2 * X)


def test_a_branch_that_does_not_fit_may_lie_idle() -> None:
    """Exporters leave a Squeeze for the case that the axis is 1."""
    source = parse(
        """g (bool c, float[2,3] x) => (y) {
            y = If (c) <
                then_branch = a () => (p) { k = Constant <value_ints = [0]> ()  p = Squeeze(x, k) },
                else_branch = b () => (q) { q = Identity(x) }
            >
        }"""
    )
    model = tilewise.load(source)
    np.testing.assert_array_equal(model(np.array(False), X), X)
    with pytest.raises((ExecutionError, ShapeError), match="Squeeze"):
        model(np.array(True), X)
    np.testing.assert_array_equal(model(np.array(False), X), X)


def test_nested_ifs() -> None:
    source = parse(
        """g (bool c, bool d, float[2,3] x) => (y) {
            t = Neg(x)
            y = If (c) <
                then_branch = a () => (p) {
                    u = Add(x, x)
                    p = If (d) <then_branch = e () => (r) { r = Add(u, t) },
                                else_branch = f () => (s) { s = Identity(t) }>
                },
                else_branch = b () => (q) { q = Abs(x) }
            >
        }"""
    )
    for c in (True, False):
        for d in (True, False):
            assert_like_onnxruntime(source, c=np.array(c), d=np.array(d), x=X)


LOOP = """g (int64 n, bool c, float[2,3] x) => (y, rows) {
    outer = Abs(x)
    y, rows = Loop (n, c, x) <
        body = b (int64 i, bool go, float[2,3] v) => (bool go2, float[2,3] w, float[2,3] row) {
            f = Cast <to = 1> (i)
            w = Add(v, outer)
            row = Mul(w, f)
            limit = Constant <value_float = 20.0> ()
            total = ReduceSum <keepdims = 0> (w)
            go2 = Less(total, limit)
        }
    >
}"""


@pytest.mark.parametrize(("n", "cond"), [(0, True), (3, True), (3, False), (50, True)])
def test_loop(n: int, cond: bool) -> None:
    assert_like_onnxruntime(parse(LOOP), n=np.array(n), c=np.array(cond), x=X)


def test_loop_until_the_condition_ends_it() -> None:
    source = parse(LOOP.replace("int64 n, bool c, ", "").replace("Loop (n, c, x)", 'Loop ("", "", x)'))
    y, rows = tilewise.load(source)(X)
    assert float(y.sum()) >= 20 > float((y - np.abs(X)).sum())
    assert len(rows) > 1


def counted(trips: int, body: str) -> bytes:
    return parse(
        f"""g (float[2,3] x) => (y, rows) {{
            n = Constant <value_int = {trips}> ()
            y, rows = Loop (n, "", x) <
                body = b (int64 i, bool go, float[] v) => (bool go2, float[] w, float[] row) {{
                    go2 = Identity(go)  {body} }}>
        }}"""
    )


def test_loop_inference() -> None:
    facts = inferred(counted(4, "w = Neg(v)  row = Identity(v)"), x=X)
    assert (str(facts["y"]), str(facts["rows"])) == ("float32[2, 3]", "float32[4, 2, 3]")


def test_loop_inference_widens_shapes_that_grow() -> None:
    source = counted(4, "w = Concat <axis = 0> (v, v)  row = ReduceSum <keepdims = 0> (v)")
    facts = inferred(source, x=X)
    assert (str(facts["y"]), str(facts["rows"])) == ("float32[?, 3]", "float32[4]")
    assert_like_onnxruntime(source, x=X)


def test_loop_carries_sequences() -> None:
    source = parse(
        """g (int64 n, float[2,3] x) => (y) {
            s = SequenceEmpty ()
            t = Loop (n, "", s) <body = b (i, go, v) => (go2, w) {
                go2 = Identity(go)  f = Cast <to = 1> (i)  e = Mul(x, f)  w = SequenceInsert(v, e) }>
            y = ConcatFromSequence <axis = 0, new_axis = 1> (t)
        }"""
    )
    y = tilewise.load(source)(np.array(3), X)
    np.testing.assert_array_equal(y, [0 * X, X, 2 * X])


def test_old_bodies_take_vectors_of_one() -> None:
    source = parse(
        """g (int64[1] n, bool[1] c, float[2,3] x) => (y) {
            y = Loop (n, c, x) <body = b (int64[1] i, bool[1] go, v) => (bool[1] go2, w) {
                go2 = Identity(go)  f = Cast <to = 1> (i)  w = Add(v, f) }>
        }"""
    )
    y = tilewise.load(source)(np.array([4]), np.array([True]), X)
    np.testing.assert_allclose(y, X + 6)


SCAN = """g (float[2] s, float[{shape}] a, float[3,2] b) => (final, rows) {{
    final, rows = Scan <num_scan_inputs = 2, {attrs}, body = body (v, p, q) => (w, row) {{
        w = Add(v, p)  row = Mul(w, q) }}> (s, a, b)
}}"""


@pytest.mark.parametrize(
    ("attrs", "shape"),
    [
        ("scan_input_axes = [0, 0]", (3, 2)),
        ("scan_input_axes = [1, 0]", (2, 3)),
        ("scan_input_axes = [-1, 0], scan_output_axes = [1]", (2, 3)),
        ("scan_input_directions = [0, 1], scan_output_directions = [1]", (3, 2)),
        ("scan_input_directions = [1, 1], scan_output_axes = [-1], scan_output_directions = [1]", (3, 2)),
    ],
)
def test_scan(attrs: str, shape: tuple[int, int]) -> None:
    source = parse(SCAN.format(attrs=attrs, shape=f"{shape[0]},{shape[1]}"))
    rng = np.random.default_rng(0)
    s, a, b = (rng.standard_normal(n).astype(np.float32) for n in ((2,), shape, (3, 2)))
    final, rows = tilewise.load(source)(s, a, b)
    want_final, want_rows = scan_by_hand(attrs, s, a, b)
    np.testing.assert_allclose(final, want_final, rtol=1e-6)
    np.testing.assert_allclose(rows, want_rows, rtol=1e-6)
    facts = inferred(source, s=s, a=a, b=b)
    assert (facts["final"].shape, facts["rows"].shape) == (final.shape, rows.shape)


def scan_by_hand(attrs: str, s: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if "input_axes = [1" in attrs or "input_axes = [-1" in attrs:
        a = a.T
    if "input_directions = [1" in attrs:
        a = a[::-1]
    if "input_directions" in attrs:
        b = b[::-1]
    rows = []
    for p, q in zip(a, b, strict=True):
        s = s + p
        rows.append(s * q)
    if "output_directions" in attrs:
        rows = rows[::-1]
    return s, np.stack(rows, axis=1 if "output_axes" in attrs else 0)


def test_scan_of_nothing() -> None:
    source = parse(
        SCAN.format(attrs="scan_input_axes = [0, 0]", shape="n,2").replace("float[3,2] b", "float[n,2] b")
    )
    empty = np.zeros((0, 2), np.float32)
    final, rows = tilewise.load(source)(np.ones(2, np.float32), empty, empty)
    assert (final.tolist(), rows.shape) == ([1, 1], (0, 2))


@pytest.mark.parametrize("directions", [[0], [1]])
@pytest.mark.parametrize("lengths", [None, [3, 1], [2, 0], [0, 0]])
def test_scan_of_opset_8(lengths: list[int] | None, directions: list[int]) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "p"], ["w"]), helper.make_node("Neg", ["w"], ["row"])],
        "body",
        [floats("v", 2), floats("p", 2)],
        [floats("w", 2), floats("row", 2)],
    )
    node = helper.make_node(
        "Scan",
        ["n" if lengths else "", "s", "a"],
        ["y", "rows"],
        body=body,
        num_scan_inputs=1,
        directions=directions,
    )
    inputs = [floats("s", 2, 2), floats("a", 2, 3, 2)]
    if lengths:
        inputs.insert(0, helper.make_tensor_value_info("n", TensorProto.INT64, [2]))
    rng = np.random.default_rng(0)
    s, a = (rng.standard_normal(n).astype(np.float32) for n in ((2, 2), (2, 3, 2)))
    feeds = ([np.array(lengths)] if lengths else []) + [s, a]
    final, rows = tilewise.load(proto([node], inputs, ("y", "rows"), opset=8))(*feeds)
    for b, count in enumerate(lengths or [3, 3]):
        part = a[b, :count][:: -1 if directions[0] else 1]
        sums = s[b] + np.cumsum(part, axis=0)
        np.testing.assert_allclose(final[b], s[b] + part.sum(0), rtol=1e-6)
        np.testing.assert_allclose(rows[b], np.concatenate([-sums, np.zeros((3 - count, 2))]), rtol=1e-6)


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ("scan_input_axes = [0]", r"'scan_input_axes' = \[0\], expected 2 entries"),
        ("scan_input_axes = [0, 5]", r"scan input axis 5 is outside \[-2, 2\)"),
        ("scan_output_axes = [3]", r"scan output axis 3 is outside \[-2, 2\)"),
    ],
)
def test_bad_scans(attrs: str, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        tilewise.load(parse(SCAN.format(attrs=attrs, shape="3,2")))


def test_scan_inputs_of_different_lengths() -> None:
    source = parse(SCAN.format(attrs="scan_input_axes = [0, 0]", shape="n,2"))
    with pytest.raises(ExecutionError, match=r"Scan.*different lengths \[2, 3\]"):
        tilewise.load(source)(
            np.zeros(2, np.float32), np.zeros((2, 2), np.float32), np.zeros((3, 2), np.float32)
        )


def test_sequence_map() -> None:
    source = parse(
        """g (float[2,3] x, float[2,3] z) => (seq(float) y, seq(float) w) {
            s = SequenceConstruct(x, z)
            t = SequenceConstruct(z, z)
            y, w = SequenceMap (s, t, x) <body = b (p, q, r) => (u, v) {
                m = Add(p, q)  u = Sub(m, r)  v = Add(p, z) }>
        }"""
    )
    y, w = tilewise.load(source)(X, X + 1)
    for got, want in ((y, [X + X + 1 - X, X + 2]), (w, [X + X + 1, X + 1 + X + 1])):
        assert_same(got, want)
    assert str(inferred(source, x=X, z=X)["y"]) == "sequence(float32[2, 3])"


def test_sequence_map_of_sequences_of_different_lengths() -> None:
    source = parse(
        """g (seq(float[2]) s, seq(float[2]) t) => (seq(float) y) {
            y = SequenceMap (s, t) <body = b (p, q) => (u) { u = Add(p, q) }>
        }"""
    )
    one = np.zeros(2, np.float32)
    with pytest.raises(ExecutionError, match=r"sequences of one length, got \[1, 2\]"):
        tilewise.load(source)([one], [one, one])
