"""Small graphs planned in channel-blocked layout, run at several numbers of threads and held against an oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

import tilewise_kernels
from tilewise.ops.layout import VECTOR
from tilewise.runtime.model import Model, load

needs_kernels = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")
COMPANION = "companion = Conv (companion_x, companion_w)"
"""A second convolution, away from what is tested: with one alone a graph stays in plain layout."""
MOVES = {"to_blocked", "from_blocked", "blocked_pad", "pad_phases"}
"""Kernels that bring a convolution's input and output into place."""


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    """Weights that keep the variance of what they are multiplied with."""
    return rand(*shape, seed=seed) / np.float32(np.sqrt(np.prod(shape[1:])))


def identity(channels: int, spatial: int = 2) -> np.ndarray:
    """Weights of a 1x1 convolution that copies its input, into blocked layout."""
    return np.eye(channels, dtype=np.float32).reshape(channels, channels, *[1] * spatial)


def fills_lanes(channels: int) -> bool:
    """True where filling up to whole vectors makes at most half as many channels again."""
    return 2 * (-(-channels // VECTOR) * VECTOR) <= 3 * channels


def graph(
    nodes: str,
    feeds: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    *,
    companion: bool = True,
    opset: int = 20,
) -> onnx.ModelProto:
    """`nodes` in ONNX's text syntax, between `feeds` and `outputs`; with a `COMPANION` where it is asked for."""
    results = [*outputs, *["companion"] * companion]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    if companion:
        nodes = f"{nodes} {COMPANION}"
        constants = {**constants, "companion_w": np.ones((1, 1, 1, 1), np.float32)}
        inputs.append(helper.make_tensor_value_info("companion_x", onnx.TensorProto.FLOAT, (1, 1, 1, 1)))
    declared = ", ".join(f"float[] {name}" for name in results)
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g () => ({declared}) {{ {nodes} }}'
    proto = parser.parse_model(text)
    for info in proto.graph.output:
        info.ClearField("type")
    proto.graph.input.extend(inputs)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    return proto


def kernels_of(model: Model) -> list[str]:
    """The plan's kernels in order, without the companion's."""
    return [step.kernel for step in model.plan().steps if not step.node.endswith("->companion")]


def check_graph(
    nodes: str,
    feeds: Mapping[str, np.ndarray],
    constants: Mapping[str, np.ndarray],
    want: Mapping[str, np.ndarray],
    *,
    companion: bool = True,
    opset: int = 20,
    rtol: float = 1e-4,
    atol: float = 2e-5,
    by_largest: bool = False,
) -> list[str]:
    """Assert that all outputs are as wanted, and the same bits for any number of threads; returns the kernels.

    by_largest: `atol` counts in the largest magnitude of an output. The NumPy evaluation of the same graph is held
    against `want` too, and the inputs against what they were.
    """
    proto = graph(nodes, feeds, constants, list(want), companion=companion, opset=opset)
    fed = {**feeds, "companion_x": rand(1, 1, 1, 1)} if companion else dict(feeds)
    before = {name: a.copy() for name, a in fed.items()}
    model = load(proto.SerializeToString(), threads=2)
    first = model.run(fed)
    hosted = Model(model.graph, native=False).run(fed)
    for name, expected in want.items():
        assert first[name].shape == expected.shape, name
        near = atol * float(np.abs(expected).max()) if by_largest else atol
        for got in (first, hosted):
            np.testing.assert_allclose(got[name], expected, rtol, near, err_msg=f"{name} {got is hosted=}")
    single, many = (load(proto.SerializeToString(), threads=n) for n in (1, 3))
    for again in (model.run(fed), single.run(fed), many.run(fed)):
        for name in want:
            np.testing.assert_array_equal(again[name], first[name], err_msg=name)
    for name, a in before.items():
        np.testing.assert_array_equal(fed[name], a, err_msg=f"input {name} was written to")
    return kernels_of(model)
