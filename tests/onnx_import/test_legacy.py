"""Opset 6 forms, rewritten as those of opset 7."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise
from tests.onnx_import.models import parse
from tilewise import UnsupportedError
from tilewise.onnx.load import load_graph

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)


def binary(attrs: str, shape: str) -> bytes:
    """A legacy Sub of x, of rank 4, and b."""
    return parse(
        f"g (float[2,3,4,5] x, float[{shape}] b) => (float[2,3,4,5] y) {{ [sub] y = Sub <{attrs}> (x, b) }}",
        opset=6,
    )


@pytest.mark.parametrize(
    ("attrs", "shape", "aligned"),
    [
        ("broadcast = 0", (2, 3, 4, 5), (2, 3, 4, 5)),
        ("broadcast = 1", (), ()),
        ("broadcast = 1", (4, 5), (4, 5)),
        ("broadcast = 1, axis = 1", (3,), (3, 1, 1)),
        ("broadcast = 1, axis = 1", (3, 4), (3, 4, 1)),
        ("broadcast = 1, axis = 0", (2,), (2, 1, 1, 1)),
        ("broadcast = 1, axis = -1", (5,), (5,)),
        ("broadcast = 1, axis = 2", (4, 5), (4, 5)),
    ],
)
def test_broadcasting_along_an_axis(attrs: str, shape: tuple[int, ...], aligned: tuple[int, ...]) -> None:
    b = RNG.standard_normal(shape).astype(np.float32)
    source = binary(attrs, ",".join(map(str, shape)))
    sub = load_graph(source).nodes[-1]
    assert (sub.op_type, sub.version, sub.attrs) == ("Sub", 7, {})
    np.testing.assert_array_equal(tilewise.load(source)(X, b), X - b.reshape(aligned))


def test_ranks_are_inferred() -> None:
    source = parse(
        """g (float[2,3,4,5] x, float[3] b) => (float[2,3,4,5] y) {
            t = Relu(x)
            y = Add <broadcast = 1, axis = 1> (t, b)
        }""",
        opset=6,
    )
    assert [n.op_type for n in load_graph(source).nodes] == ["Relu", "Unsqueeze", "Add"]


@pytest.mark.parametrize("shape", [(1,), (3,)])
def test_slope_of_prelu_lies_along_the_channels(shape: tuple[int, ...]) -> None:
    slope = np.full(shape, 0.5, np.float32) + np.arange(shape[0], dtype=np.float32)
    source = parse(
        f"g (float[2,3,4,5] x, float[{shape[0]}] s) => (float[2,3,4,5] y) {{ y = PRelu(x, s) }}", opset=6
    )
    want = np.where(X < 0, X * slope.reshape(-1, 1, 1), X)
    np.testing.assert_allclose(tilewise.load(source)(X, slope), want)


def test_gemm_and_inference_forms() -> None:
    source = parse(
        """g (float[2,3] x, float[3,4] w, float[4] c, float[4] v) => (float[2,4] y) {
            a = Gemm <broadcast = 1> (x, w, c)
            b = BatchNormalization <is_test = 1> (a, c, c, c, v)
            y = Dropout <is_test = 1> (b)
        }""",
        opset=6,
    )
    graph = load_graph(source)
    assert [n.version for n in graph.nodes] == [7, 7, 7]
    assert {name for n in graph.nodes for name in n.attrs}.isdisjoint({"broadcast", "is_test"})
    x, w, c = (RNG.standard_normal(s).astype(np.float32) for s in ((2, 3), (3, 4), (4,)))
    v = np.ones(4, np.float32)
    want = (x @ w + c - c) / np.sqrt(v + 1e-5) * c + c
    np.testing.assert_allclose(tilewise.load(source)(x, w, c, v), want, rtol=1e-5)


@pytest.mark.parametrize("opset", [1, 3, 6])
def test_operators_that_opset_7_left_alone(opset: int) -> None:
    source = parse("g (bool[2] x) => (bool[2] y) { y = Not(x) }", opset=opset)
    assert load_graph(source).nodes[0].version == 7
    assert tilewise.load(source)(np.array([True, False])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("body", "opset", "words"),
    [
        ("g (float[2] x) => (float[2] y) { [d] y = Dropout (x) }", 6, r"node 'd' \(Dropout\).*opset 6"),
        (
            "g (float[] x, float[3] b) => (y) { [a] y = Add <axis = 1, broadcast = 1> (x, b) }",
            6,
            r"node 'a' \(Add\): the operator's form of opset 6",
        ),
        ("g (float[2] x) => (float[2] y) { [r] y = Relu (x) }", 5, r"node 'r' \(Relu\).*opset 5"),
        ("g (float[2] x, float[2] b) => (y) { [a] y = Add (x, b) }", 1, r"node 'a' \(Add\).*opset 1"),
    ],
)
def test_forms_without_a_newer_one(body: str, opset: int, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        tilewise.load(parse(body, opset=opset))
