"""Optimizer steps, against a transcript of ONNX's pseudo code in float64 and several steps in a row."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tilewise import TilewiseError, load

DOMAIN = "ai.onnx.preview.training"


def adagrad(r, t, x, g, h, norm_coefficient=0.0, decay_factor=0.0, epsilon=1e-6):
    r = r / (1 + t * decay_factor)
    g = norm_coefficient * x + g
    h = h + g * g
    return x - r * g / (np.sqrt(h) + epsilon), h


def adam(
    r, t, x, g, v, h, alpha=0.9, beta=0.999, epsilon=1e-6, norm_coefficient=0.0, norm_coefficient_post=0.0
):
    g = norm_coefficient * x + g
    v = alpha * v + (1 - alpha) * g
    h = beta * h + (1 - beta) * g * g
    r = r * np.sqrt(1 - beta**t) / (1 - alpha**t) if t > 0 else r
    return (1 - norm_coefficient_post) * (x - r * v / (np.sqrt(h) + epsilon)), v, h


def momentum(r, t, x, g, v, alpha, beta, mode, norm_coefficient):
    g = norm_coefficient * x + g
    v = alpha * v + (beta if t > 0 else 1) * g
    return x - r * (g + alpha * v if mode == "nesterov" else v), v


def momentum_attrs(mode):
    return {"alpha": 0.875, "beta": 0.25, "mode": mode, "norm_coefficient": 0.125}


RULES = [
    ("Adagrad", adagrad, 1, {}),
    ("Adagrad", adagrad, 1, {"norm_coefficient": 0.125, "decay_factor": 0.5, "epsilon": 0.25}),
    ("Adam", adam, 2, {}),
    ("Adam", adam, 2, {"alpha": 0.75, "beta": 0.875, "epsilon": 0.25, "norm_coefficient": 0.125}),
    ("Adam", adam, 2, {"norm_coefficient_post": 0.125}),
    ("Momentum", momentum, 1, momentum_attrs("standard")),
    ("Momentum", momentum, 1, momentum_attrs("nesterov")),
]


def tensors(shapes, states, dtype):
    rng = np.random.default_rng(len(shapes))
    values = [rng.standard_normal(s) for _ in range(2) for s in shapes]
    values += [rng.random(s) for _ in range(states) for s in shapes]  # sums of squares are not negative
    return [np.asarray(v, dtype) for v in values]


def oracle_of(rule, states, attrs):
    def run(r, t, *inputs):
        n = len(inputs) // (2 + states)
        outs = [rule(float(r.item()), int(t.item()), *(a.astype(np.float64) for a in inputs[i::n]), **attrs)
                for i in range(n)]  # fmt: skip
        return [outs[i][k].astype(inputs[i].dtype) for k in range(1 + states) for i in range(n)]

    return run


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("shapes", [[()], [(0,)], [(3,), (2, 1, 3)], [(1,), (2, 2), (5,)]], ids=str)
@pytest.mark.parametrize(("op", "rule", "states", "attrs"), RULES)
def test_step(op, rule, states, attrs, shapes, count):
    scalar = () if count else (1,)
    inputs = [np.full(scalar, 0.1, np.float32), np.full(scalar, count, np.int64)]
    inputs += tensors(shapes, states, np.float32)
    outputs = len(shapes) * (1 + states)
    oracle = oracle_of(rule, states, attrs)
    check(op, inputs, attrs, outputs=outputs, oracle=oracle, domain=DOMAIN)


@pytest.mark.parametrize(("op", "rule", "states", "attrs"), RULES)
def test_float64_with_a_float32_rate(op, rule, states, attrs):
    inputs = [np.float32(0.5).reshape(()), np.array(3), *tensors([(4,)], states, np.float64)]
    exact = {"Adagrad": {"epsilon": 0.25}, "Adam": {"alpha": 0.75, "beta": 0.875, "epsilon": 0.25}}
    attrs = {**exact.get(op, {}), **attrs}
    oracle = oracle_of(rule, states, attrs)
    check(op, inputs, attrs, outputs=1 + states, oracle=oracle, domain=DOMAIN, rtol=1e-12)


F = np.zeros(2, np.float32)
R, T = np.array(0.1, np.float32), np.array(1)
ERRORS = [
    ("Adam", [R, T, F, F, F], {}, 3, "a multiple of 4 tensors, got 3"),
    ("Adagrad", [R, T, F, F, F], {}, 3, "expected 2 outputs for 3 tensors, got 3"),
    ("Adagrad", [R, T, F, np.zeros(3, np.float32), F], {}, 2, "like the tensor float32[2], got float32[3]"),
    ("Adagrad", [R, T, F, F, F.astype(np.float64)], {}, 2, "like the tensor float32[2], got float64[2]"),
    ("Adagrad", [F, T, F, F, F], {}, 2, "expected a scalar R, got float32[2]"),
    ("Momentum", [R, T, F, F, F], momentum_attrs("heavy"), 2, "'mode' = 'heavy'"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "outputs", "message"), ERRORS)
def test_errors(op, inputs, attrs, outputs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, outputs=outputs, domain=DOMAIN))
    assert message in str(raised.value)
