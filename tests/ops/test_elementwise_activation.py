"""Activations, against their formulas in float64 and `onnx.reference`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.elementwise_cases import (
    ATOL,
    FLOATS,
    RTOL,
    SPECIAL,
    erf,
    exact,
    infer,
    normal,
    sigmoid,
    softplus,
    versions,
)
from tests.ops.harness import check
from tilewise import TilewiseError, UnsupportedError
from tilewise.graph import Fact


def below_zero(f):
    return lambda x: np.where(x < 0, f(np.minimum(x, 0)), x)


def shrink(lambd, bias):
    return lambda x: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def single(value):
    """An attribute as a model holds it."""
    return float(np.float32(value))


SELU_ALPHA, SELU_GAMMA = 1.6732631921768188, 1.0507010221481323
CASES = {
    "relu": ("Relu", {}, lambda x: np.maximum(x, 0)),
    "leaky": ("LeakyRelu", {}, below_zero(lambda x: single(0.01) * x)),
    "leaky_alpha": ("LeakyRelu", {"alpha": 0.25}, below_zero(lambda x: 0.25 * x)),
    "leaky_negative": ("LeakyRelu", {"alpha": -0.5}, below_zero(lambda x: -0.5 * x)),
    "elu": ("Elu", {}, below_zero(np.expm1)),
    "elu_alpha": ("Elu", {"alpha": 2.5}, below_zero(lambda x: 2.5 * np.expm1(x))),
    "celu": ("Celu", {}, below_zero(np.expm1)),
    "celu_alpha": ("Celu", {"alpha": 2.0}, below_zero(lambda x: 2 * np.expm1(x / 2))),
    "selu": ("Selu", {}, lambda x: SELU_GAMMA * below_zero(lambda x: SELU_ALPHA * np.expm1(x))(x)),
    "selu_both": (
        "Selu",
        {"alpha": 2.0, "gamma": 3.0},
        lambda x: 3 * below_zero(lambda x: 2 * np.expm1(x))(x),
    ),
    "sigmoid": ("Sigmoid", {}, sigmoid),
    "hard_sigmoid": ("HardSigmoid", {}, lambda x: np.clip(single(0.2) * x + 0.5, 0, 1)),
    "hard_sigmoid_both": (
        "HardSigmoid",
        {"alpha": 0.5, "beta": 0.75},
        lambda x: np.clip(0.5 * x + 0.75, 0, 1),
    ),
    "hard_swish": ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "swish": ("Swish", {}, lambda x: x * sigmoid(x)),
    "swish_alpha": ("Swish", {"alpha": 1.75}, lambda x: x * sigmoid(1.75 * x)),
    "mish": ("Mish", {}, lambda x: x * np.tanh(softplus(x))),
    "gelu": ("Gelu", {}, lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}, gelu_tanh),
    "softplus": ("Softplus", {}, softplus),
    "softsign": ("Softsign", {}, lambda x: x / (1 + np.abs(x))),
    "tanh": ("Tanh", {}, np.tanh),
    "thresholded": ("ThresholdedRelu", {}, lambda x: np.where(x > 1, x, 0)),
    "thresholded_alpha": ("ThresholdedRelu", {"alpha": -0.5}, lambda x: np.where(x > -0.5, x, 0)),
    "shrink": ("Shrink", {}, shrink(0.5, 0)),
    "shrink_both": ("Shrink", {"lambd": 1.0, "bias": 0.25}, shrink(1.0, 0.25)),
}
OPERATORS = sorted({op for op, _, _ in CASES.values()})


def dtypes_of(op):
    return [d for d in FLOATS if not (op == "Shrink" and d == "bfloat16")]


@pytest.mark.parametrize(("case", "of"), [(c, d) for c, (op, _, _) in CASES.items() for d in dtypes_of(op)])
def test_values(case, of):
    op, attrs, formula = CASES[case]
    x = normal(3, 4, 5, of=of)
    check(op, [x], attrs, oracle=exact(formula), rtol=RTOL[of], atol=ATOL[of], kernel=of == "float32")


@pytest.mark.parametrize("case", CASES)
def test_special_values(case):
    op, attrs, formula = CASES[case]
    check(op, [SPECIAL], attrs, oracle=exact(formula), rtol=2e-6, atol=2e-7, kernel=True)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (1, 1), (2, 3, 5), (3, 1, 33, 171)])
def test_shapes(op, shape):
    formula = next(f for o, _, f in CASES.values() if o == op)
    check(op, [normal(*shape)], oracle=exact(formula), rtol=2e-6, atol=2e-7, kernel=True)


@pytest.mark.parametrize("op", OPERATORS)
def test_empty(op):
    check(op, [np.zeros((2, 0), np.float32)], oracle=lambda x: x)


@pytest.mark.parametrize(("op", "opset"), [(op, v) for op in OPERATORS for v in versions(op)])
def test_versions(op, opset):
    check(op, [normal(2, 3)], opset=opset, kernel=True)


@pytest.mark.parametrize("of", ["int8", "int16", "int32", "int64"])
def test_relu_of_integers(of):
    check("Relu", [np.array([-3, 0, 5], of)], kernel=False)


@pytest.mark.parametrize("of", ["int8", "int32", "uint8"])
def test_shrink_of_integers(of):
    attrs = {"lambd": 1.5, "bias": 1.0}
    check("Shrink", [np.array([0, 1, 2, 3], of)], attrs, oracle=lambda x: np.array([0, 0, 1, 2], x.dtype))


PRELU = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4), (1,)),
    ((2, 3, 4), ()),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), (1, 3, 1, 5)),
    ((1,), (1,)),
]


@pytest.mark.parametrize(("shape", "slope"), PRELU)
@pytest.mark.parametrize("of", [*FLOATS, "int32", "int64"])
def test_prelu(shape, slope, of):
    x, s = normal(*shape, of=of), normal(*slope, seed=1, of=of)
    check("PRelu", [x, s], oracle=lambda x, s: np.where(x < 0, x * s, x), kernel=of == "float32")


@pytest.mark.parametrize("opset", versions("PRelu"))
def test_prelu_versions(opset):
    check("PRelu", [normal(2, 3, 4), normal(3, 1, seed=1)], opset=opset, constants=[1], kernel=True)


def test_prelu_before_opset_7_has_one_slope_a_channel():
    x, s = normal(2, 3, 4, 5), normal(3, seed=1)
    check("PRelu", [x, s], opset=6, oracle=lambda x, s: np.where(x < 0, x * s[:, None, None], x))


def test_prelu_slope_must_not_enlarge_x():
    with pytest.raises(TilewiseError, match=r"PRelu.*slope.*\(1, 3\).*\(2, 3\)"):
        infer("PRelu", Fact(np.dtype("float32"), (1, 3)), Fact(np.dtype("float32"), (2, 3)))


def test_gelu_refuses_an_unknown_approximation():
    with pytest.raises(UnsupportedError, match=r"approximate.*'none' or 'tanh'.*'cubic'"):
        check("Gelu", [normal(2)], {"approximate": "cubic"}, oracle=lambda x: x)


@pytest.mark.parametrize("op", [op for op in OPERATORS if op not in ("Relu", "Shrink")])
def test_wrong_type_is_named(op):
    with pytest.raises(TilewiseError, match=rf"{op}.*expected a tensor of .*float32.*got int64\[2, N\]"):
        infer(op, Fact(np.dtype("int64"), (2, "N")))
