"""Batch normalization and dropout."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.graph import Fact, Graph, Node
from tilewise.runtime.model import Model, load


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parameters(shape, dtype=np.float32):
    """scale, bias, mean, var."""
    rng = np.random.default_rng(5)
    scale, bias, mean = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    return [scale, bias, mean, rng.uniform(0.3, 2, shape).astype(dtype)]


def stored(value):
    """A float attribute as a model file holds it."""
    return float(np.float32(value))


def inference(epsilon=1e-5, spatial=True):
    """An oracle in float64."""
    epsilon = stored(epsilon)

    def run(x, *vectors):
        rows = x.astype(np.float64)
        ones = (1,) * (x.ndim - 2) if spatial else ()
        scale, bias, mean, var = (v.astype(np.float64).reshape(*v.shape, *ones) for v in vectors)
        return ((rows - mean) / np.sqrt(var + epsilon) * scale + bias).astype(x.dtype)

    return run


def training(momentum=0.9, epsilon=1e-5, saved=False):
    """An oracle in float64: y, running mean and variance, and with `saved` the batch's own."""
    momentum = stored(momentum)

    def run(x, scale, bias, mean, var):
        axes = (0, *range(2, x.ndim))
        new = [x.astype(np.float64).mean(axis=axes), x.astype(np.float64).var(axis=axes)]
        y = inference(epsilon)(x, scale, bias, *new)
        running = [o * momentum + n * (1 - momentum) for o, n in zip((mean, var), new, strict=True)]
        extra = running + (new if saved else [])
        return [y, *(e.astype(mean.dtype) for e in extra)]

    return run


SHAPES = [(2, 1), (5, 3), (3, 1500), (1, 2, 1), (2, 3, 7), (2, 3, 5, 7), (1, 70, 12, 13), (2, 3, 4, 5, 6)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_inference(shape, opset):
    inputs = [floats(*shape), *parameters(shape[1])]
    check("BatchNormalization", inputs, opset=opset, oracle=inference(), kernel=True)
    check(
        "BatchNormalization",
        inputs,
        {"epsilon": 1e-2},
        opset=opset,
        constants=(1, 2, 3, 4),
        oracle=inference(1e-2),
        kernel=True,
    )


TRAINING_SHAPES = [*SHAPES, (300, 5, 3), (4, 90, 2, 7), (3, 2, 100, 101)]


@pytest.mark.parametrize("shape", TRAINING_SHAPES)
def test_training(shape):
    inputs = [3 + 2 * floats(*shape), *parameters(shape[1])]
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    attrs = {"training_mode": 1, "momentum": 0.7}
    for opset in (14, 15):
        for outputs in (1, 3):
            oracle = lambda *a, n=outputs: training(0.7)(*a)[:n]  # noqa: E731
            forms = {"opset": opset, "outputs": outputs, "oracle": oracle, "kernel": True}
            check("BatchNormalization", inputs, attrs, **forms, **tolerance)
    for opset in (7, 9):
        oracle = training(0.9, saved=True)
        check("BatchNormalization", inputs, opset=opset, outputs=5, oracle=oracle, kernel=True, **tolerance)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (3, 6)])
def test_one_statistic_for_each_feature(shape):
    inputs = [floats(*shape), *parameters(shape[1:])]
    oracle = inference(spatial=False)
    check("BatchNormalization", inputs, {"spatial": 0}, opset=7, oracle=oracle, kernel=True)


def test_one_axis_is_one_channel():
    inputs = [floats(6), *parameters(1)]
    check("BatchNormalization", inputs, oracle=inference(), kernel=True)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float64, 1e-12), (np.float16, 4e-3), (ml_dtypes.bfloat16, 3e-2)]
)
def test_dtypes(dtype, rtol):
    inputs = [floats(2, 3, 8, dtype=dtype), *parameters(3, dtype)]
    check("BatchNormalization", inputs, oracle=inference(), rtol=rtol, atol=rtol, kernel=False)
    attrs = {"training_mode": 1}
    check("BatchNormalization", inputs, attrs, outputs=3, oracle=training(), rtol=rtol, atol=rtol)


def test_mixed_dtypes():
    x, (scale, bias, mean, var) = floats(2, 3, 8, dtype=np.float16), parameters(3)
    inputs = [x, scale.astype(np.float16), bias.astype(np.float16), mean, var]
    check("BatchNormalization", inputs, oracle=inference(), rtol=4e-3, atol=4e-3)
    check(
        "BatchNormalization", inputs, {"training_mode": 1}, outputs=3, oracle=training(), rtol=4e-3, atol=4e-3
    )


def test_large_mean():
    x = 1000 + 0.1 * floats(4, 3, 50)
    inputs = [x, *parameters(3)]
    inputs[3][:], inputs[4][:] = 1000, 0.01
    check("BatchNormalization", inputs, oracle=inference(), rtol=1e-5, atol=1e-4, kernel=True)
    attrs = {"training_mode": 1}
    check(
        "BatchNormalization", inputs, attrs, outputs=3, oracle=training(), rtol=2e-4, atol=2e-3, kernel=True
    )


def test_nan_stays_in_its_element():
    x = floats(1, 2, 4)
    x[0, 1, 2] = np.nan
    check("BatchNormalization", [x, *parameters(2)], oracle=inference(), kernel=True)


def test_as_onnxruntime():
    inputs = [floats(2, 3, 4, 5), *parameters(3)]
    for opset in (7, 9, 15):
        check("BatchNormalization", inputs, opset=opset, oracle=ort("BatchNormalization", opset=opset))


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    ("name", "alpha", "beta", "function"),
    [
        ("Relu", 0.0, 0.0, lambda y: np.maximum(y, 0)),
        ("Clip", 0.0, 0.5, lambda y: np.clip(y, 0, 0.5)),
        ("LeakyRelu", 0.1, 0.0, lambda y: np.where(y < 0, 0.1 * y, y)),
    ],
)
def test_fused_activation(native, name, alpha, beta, function):
    attrs = {"epsilon": 1e-5, "activation": name, "activation_alpha": alpha, "activation_beta": beta}
    for shape in ((2, 3, 70, 70), (2, 3)):
        values = [floats(*shape), *parameters(3)]
        names = list("xsbmv")
        node = Node("FusedBatchNormalization", names, ["y"], attrs, domain="tilewise", version=15)
        facts = {n: Fact(a.dtype, a.shape) for n, a in zip(names, values, strict=True)}
        model = Model(Graph(inputs=names, outputs=["y"], nodes=[node], facts=facts), native=native)
        want = function(inference()(*values).astype(np.float64))
        got = model.run(dict(zip(names, values, strict=True)))["y"]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size", "attrs", "outputs", "opset", "told"),
    [
        ((2, 3, 4), 4, {}, 1, 15, r"expected scale of shape \[3\]"),
        ((2, 3, 4), 3, {}, 3, 15, "expected one output outside training mode, got 3"),
        ((2, 3, 4), 3, {"spatial": 0}, 1, 7, r"expected scale of shape \[3, 4\]"),
    ],
)
def test_errors(shape, size, attrs, outputs, opset, told):
    inputs = [floats(*shape), *parameters(size)]
    proto = one_node("BatchNormalization", inputs, attrs, opset=opset, outputs=outputs)
    with pytest.raises(TilewiseError, match=told):
        load(proto.SerializeToString()).run({f"x{i}": a for i, a in enumerate(inputs)})


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 22])
def test_dropout_in_inference(opset):
    x = floats(3, 4)
    mask = np.ones((3, 4), np.bool_ if opset >= 10 else np.float32)
    attrs = {"ratio": 0.3} if opset < 12 else {}
    check("Dropout", [x], attrs, opset=opset, oracle=lambda *_: x, kernel=None)
    check("Dropout", [x], attrs, opset=opset, outputs=2, oracle=lambda *_: [x, mask])
    if opset >= 12:
        for training_mode in (None, np.array(False)):
            inputs = [x, np.array(0.4, np.float32), training_mode]
            check("Dropout", inputs, opset=opset, outputs=2, oracle=lambda *_: [x, mask])
            if training_mode is not None:
                check("Dropout", inputs, opset=opset, outputs=2, constants=(2,), oracle=lambda *_: [x, mask])


@pytest.mark.parametrize("opset", [12, 13, 22])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.75, None])
def test_dropout_in_training(opset, ratio):
    x = floats(30, 40)
    given = None if ratio is None else np.array(ratio, np.float32)
    inputs = [x, given, np.array(True)]
    for constants in ((), (2,)):
        mask = check(
            "Dropout", inputs, {"seed": 7}, opset=opset, outputs=2, constants=constants, oracle=dropped(ratio)
        )[1]
    assert abs(1 - mask.mean() - (0.5 if ratio is None else ratio)) < 0.05


def dropped(ratio):
    """An oracle: the numbers of NumPy's legacy generator with seed 7 decide."""
    rate = 0.5 if ratio is None else ratio

    def run(x, *_):
        mask = np.random.RandomState(7).uniform(0, 1, x.shape) >= rate
        return [(x * mask / (1 - rate)).astype(x.dtype), mask]

    return run


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_dropout_dtypes(dtype):
    x = floats(5, 6, dtype=dtype)
    inputs = [x, np.array(0.5, np.float32), np.array(True)]
    check("Dropout", inputs, {"seed": 7}, outputs=2, oracle=dropped(0.5))
    check("Dropout", [x], outputs=2, oracle=lambda *_: [x, np.ones(x.shape, bool)])


def test_dropout_without_a_seed_differs_between_runs():
    x = np.ones((20, 20), np.float32)
    inputs = [x, np.array(0.5, np.float32), np.array(True)]
    model = load(one_node("Dropout", inputs, constants=(0, 1, 2)).SerializeToString())
    assert (model.run({})["y0"] != model.run({})["y0"]).any()


def test_dropout_of_everything_is_refused():
    inputs = [floats(3), np.array(1.0, np.float32), np.array(True)]
    model = load(one_node("Dropout", inputs, {"seed": 1}).SerializeToString())
    with pytest.raises(TilewiseError, match=r"expected a ratio in \[0, 1\), got 1.0"):
        model.run({"x0": inputs[0], "x1": inputs[1], "x2": inputs[2]})
