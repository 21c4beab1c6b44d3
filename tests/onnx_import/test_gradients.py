"""The operator Gradient (ai.onnx.preview.training) against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

import tilewise
from tests.ops.harness import assert_same, one_node
from tilewise import UnsupportedError
from tilewise.graph import Fact, Node
from tilewise.ops.table import make

STEP = 1e-6


def gradient_model(body: str, inputs: str, outputs: str) -> tilewise.Model:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.preview.training" : 1]>
        g ({inputs}) => ({outputs}) {{ {body} }}"""
    return tilewise.load(onnx.parser.parse_model(text))


def differences(f: Callable[..., np.ndarray], values: list[np.ndarray]) -> list[np.ndarray]:
    """The gradients of sum(f) at `values`."""
    found = []
    for i, value in enumerate(values):
        grad = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            sums = []
            for step in (STEP, -STEP):
                moved = [v.copy() for v in values]
                moved[i][at] += step
                sums.append(f(*moved).sum())
            grad[at] = (sums[0] - sums[1]) / (2 * STEP)
        found.append(grad)
    return found


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CASES = {
    "add": ("y = Add(a, b)", lambda a, b: a + b),
    "sub": ("y = Sub(a, b)", lambda a, b: a - b),
    "mul": ("y = Mul(a, b)", lambda a, b: a * b),
    "div": ("y = Div(a, b)", lambda a, b: a / b),
    "neg": ("c = Neg(a) y = Mul(c, b)", lambda a, b: -a * b),
    "used twice": ("c = Mul(a, a) y = Add(c, b)", lambda a, b: a * a + b),
    "exp": ("c = Exp(a) y = Mul(c, b)", lambda a, b: np.exp(a) * b),
    "log": ("c = Log(a) y = Div(c, b)", lambda a, b: np.log(a) / b),
    "sqrt": ("c = Sqrt(a) y = Mul(c, b)", lambda a, b: np.sqrt(a) * b),
    "tanh": ("c = Tanh(a) y = Mul(c, b)", lambda a, b: np.tanh(a) * b),
    "sigmoid": ("c = Sigmoid(a) d = Identity(c) y = Mul(d, b)", lambda a, b: sigmoid(a) * b),
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((2, 3), (1, 1)), ((0, 3), (3,))]


@pytest.mark.parametrize(("body", "f"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_against_differences(body: str, f: Callable[..., np.ndarray], shapes) -> None:
    gradient = 'da, db = ai.onnx.preview.training.Gradient <xs = ["a", "b"], y = "y"> (a, b)'
    dims = [f"double[{', '.join(map(str, shape))}]" for shape in shapes]
    model = gradient_model(f"{body} {gradient}", f"{dims[0]} a, {dims[1]} b", "y, da, db")
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 2, shape) for shape in shapes]
    got = model.run(dict(zip("ab", values, strict=True)))
    for name, want in zip(("da", "db"), differences(f, values), strict=True):
        assert_same(got[name], want, 1e-6, 1e-7, name)


def test_at_other_values_than_those_of_the_run() -> None:
    model = gradient_model(
        """y = Mul(a, a)
        h = Add(b, b)
        da = ai.onnx.preview.training.Gradient <xs = ["a"], y = "y"> (h)""",
        "float[2] a, float[2] b",
        "y, da",
    )
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    got = model.run({"a": a, "b": b})
    np.testing.assert_array_equal(got["y"], a * a)
    np.testing.assert_array_equal(got["da"], 2 * (b + b))


def test_to_an_inner_value_with_others_held() -> None:
    model = gradient_model(
        """h = Mul(a, a)
        y = Mul(h, b)
        dh = ai.onnx.preview.training.Gradient <xs = ["h"], zs = ["b"], y = "y"> (h, b)""",
        "float[2] a, float[2] b",
        "dh",
    )
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    np.testing.assert_array_equal(model.run({"a": a, "b": b})["dh"], b)


def test_outputs_left_out_and_values_without_influence() -> None:
    model = gradient_model(
        """y = Mul(a, a)
        "", db = ai.onnx.preview.training.Gradient <xs = ["a", "b"], y = "y"> (a, b)""",
        "float[2] a, float[3] b",
        "db",
    )
    feeds = {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)}
    np.testing.assert_array_equal(model.run(feeds)["db"], np.zeros(3, np.float32))


def test_operators_without_a_rule_are_reported() -> None:
    with pytest.raises(UnsupportedError, match="Gradient"):
        gradient_model(
            """y = Erf(a)
            da = ai.onnx.preview.training.Gradient <xs = ["a"], y = "y"> (a)""",
            "float[2] a",
            "da",
        )


@pytest.mark.parametrize(
    ("shape", "like"), [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 3), (1, 3)), ((4, 2, 3), (2, 1)), ((2,), ())]
)
def test_sum_to(shape: tuple[int, ...], like: tuple[int, ...]) -> None:
    op = make(Node("SumTo", ["x", "like"], ["y"], domain="tilewise"))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (y,) = op.evaluate(x, np.empty(like, np.float32))
    assert op.infer([Fact.of(x), Fact(np.dtype(np.float32), like)])[0].shape == like == y.shape
    np.testing.assert_array_equal(np.broadcast_to(x, shape).sum(), y.sum())
    expected = np.zeros(like, np.float32)
    for at in np.ndindex(shape):
        inner = at[len(shape) - len(like) :]
        expected[tuple(0 if n == 1 else i for i, n in zip(inner, like, strict=True))] += x[at]
    np.testing.assert_array_equal(y, expected)


def test_fill_like() -> None:
    op = make(Node("FillLike", ["x"], ["y"], {"value": 1.0}, domain="tilewise"))
    (y,) = op.evaluate(np.zeros((2, 0, 3), np.float16))
    assert (y.dtype, y.shape) == (np.float16, (2, 0, 3))


def test_internal_operators_are_not_onnx() -> None:
    proto = one_node("SumTo", [np.ones((2, 3), np.float32), np.ones(3, np.float32)])
    with pytest.raises(UnsupportedError, match="SumTo"):
        tilewise.load(proto)
