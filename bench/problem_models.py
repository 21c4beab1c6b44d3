"""A problem as a model of one node, with seeded weights and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.problems import Problem

OPSET = 20


class Maker:
    """Gathers the one node's inputs and constants."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.names: list[str] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.constants: dict[str, np.ndarray] = {}

    def input(self, shape: Sequence[int], scale: float = 1.0) -> None:
        self._add(self.feeds, self.normal(shape, scale))

    def weight(self, shape: Sequence[int], fan_in: int) -> None:
        self.constant(self.normal(shape, float(np.sqrt(2 / fan_in))))

    def constant(self, value: np.ndarray) -> None:
        self._add(self.constants, value)

    def nothing(self) -> None:
        self.names.append("")

    def normal(self, shape: Sequence[int], scale: float) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32) * np.float32(scale)

    def _add(self, where: dict[str, np.ndarray], value: np.ndarray) -> None:
        name = f"x{len(self.names)}"
        self.names.append(name)
        where[name] = value

    def model(self, op_type: str, attributes: dict) -> onnx.ModelProto:
        node = helper.make_node(op_type, self.names, ["y"], **attributes)
        graph = helper.make_graph(
            [node],
            "problem",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in self.feeds.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def make_model(p: Problem, seed: int = 0) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model and arrays for its inputs; ValueError where the problem is not one of KINDS."""
    if p.kind not in KINDS:
        raise ValueError(f"{p.text!r}: no kind {p.kind!r}, expected one of {', '.join(KINDS)}")
    make, flags = KINDS[p.kind]
    if unknown := p.flags - flags:
        raise ValueError(f"{p.text!r}: {p.kind} has no flag {', '.join(sorted(unknown))}")
    maker = Maker(seed)
    op_type, attributes = make(p, maker)
    return maker.model(op_type, attributes), maker.feeds


Made = tuple[str, dict]
"""Operator and attributes."""


def _image(p: Problem) -> list[int]:
    return [p.size("n"), p.size("c"), *(a.i for a in p.axes)]


def _windows(p: Problem) -> dict:
    return {
        "kernel_shape": [a.k for a in p.axes],
        "strides": [a.s for a in p.axes],
        "dilations": [a.d for a in p.axes],
    }


def _padded(p: Problem) -> dict:
    return {**_windows(p), "pads": [a.p for a in p.axes] + [a.end for a in p.axes]}


def _conv(p: Problem, m: Maker) -> Made:
    c, o, g = p.size("c"), p.size("o"), p.size("g", 1)
    m.input(_image(p))
    m.weight([o, c // g, *(a.k for a in p.axes)], c // g * p.taps)
    m.constant(m.normal([o], 0.1))
    return "Conv", {"group": g, **_padded(p)}


def _convt(p: Problem, m: Maker) -> Made:
    c, o, g = p.size("c"), p.size("o"), p.size("g", 1)
    m.input(_image(p))
    m.weight([c, o // g, *(a.k for a in p.axes)], c // g)
    m.constant(m.normal([o], 0.1))
    ends = [a.transposed_end for a in p.axes]
    pads = [a.p for a in p.axes] + [end for end, _ in ends]
    return "ConvTranspose", {
        "group": g,
        **_windows(p),
        "pads": pads,
        "output_padding": [more for _, more in ends],
    }


def _deform(p: Problem, m: Maker) -> Made:
    c, o, g, f = p.size("c"), p.size("o"), p.size("g", 1), p.size("f", 1)
    out = [a.o for a in p.axes]
    m.input(_image(p))
    m.weight([o, c // g, *(a.k for a in p.axes)], c // g * p.taps)
    m.input([p.size("n"), 2 * f * p.taps, *out])
    m.constant(m.normal([o], 0.1))
    if "mask" in p.flags:
        m.input([p.size("n"), f * p.taps, *out])
    return "DeformConv", {"group": g, "offset_group": f, **_padded(p)}


def _pool(p: Problem, m: Maker) -> Made:
    m.input(_image(p))
    if p.kind == "maxpool":
        return "MaxPool", _padded(p)
    return "AveragePool", {**_padded(p), "count_include_pad": int("padded" in p.flags)}


def _global_pool(p: Problem, m: Maker) -> Made:
    m.input(_image(p))
    return "GlobalAveragePool", {}


def _batch_norm(p: Problem, m: Maker) -> Made:
    c = p.size("c")
    m.input(_image(p))
    for value in (m.normal([c], 1), m.normal([c], 1), m.normal([c], 1), m.normal([c], 1) ** 2 + 1):
        m.constant(value)
    return "BatchNormalization", {}


def _instance_norm(p: Problem, m: Maker) -> Made:
    m.input(_image(p))
    m.constant(m.normal([p.size("c")], 1))
    m.constant(m.normal([p.size("c")], 1))
    return "InstanceNormalization", {}


def _layer_norm(p: Problem, m: Maker) -> Made:
    m.input([p.size("n", 1), p.size("m"), p.size("c")])
    m.constant(m.normal([p.size("c")], 1))
    m.constant(m.normal([p.size("c")], 1))
    return "LayerNormalization", {"axis": -1}


def _lrn(p: Problem, m: Maker) -> Made:
    m.input(_image(p))
    return "LRN", {"size": p.size("k"), "alpha": 1e-4, "beta": 0.75, "bias": 1.0}


def _softmax(p: Problem, m: Maker) -> Made:
    m.input([p.size("n", 1), p.size("m"), p.size("c")])
    return "Softmax", {"axis": -1}


def _resize(p: Problem, m: Maker) -> Made:
    m.input(_image(p))
    m.nothing()
    m.nothing()
    m.constant(np.array([p.size("n"), p.size("c"), *(a.o for a in p.axes)], np.int64))
    if "nearest" in p.flags:
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return "Resize", {"mode": "nearest", **how}
    mode = "cubic" if "cubic" in p.flags else "linear"
    where = "align_corners" if "corners" in p.flags else "half_pixel"
    return "Resize", {"mode": mode, "coordinate_transformation_mode": where, "cubic_coeff_a": -0.75}


def _matmul(p: Problem, m: Maker) -> Made:
    """x (n, m, k) @ w (k, o), or with the flag "batched" two inputs, the second (n, k, o)."""
    n, k, o = p.size("n", 1), p.size("k"), p.size("o")
    m.input([n, p.size("m"), k])
    if "batched" in p.flags:
        m.input([n, k, o], float(np.sqrt(2 / k)))
    else:
        m.weight([k, o], k)
    return "MatMul", {}


def _gemm(p: Problem, m: Maker) -> Made:
    k, o = p.size("k"), p.size("o")
    m.input([p.size("m"), k])
    m.weight([o, k], k)
    m.constant(m.normal([o], 0.1))
    return "Gemm", {"transB": 1}


_NONE: frozenset[str] = frozenset()
KINDS: dict[str, tuple[Callable[[Problem, Maker], Made], frozenset[str]]] = {
    "conv": (_conv, _NONE),
    "convt": (_convt, _NONE),
    "deform": (_deform, frozenset({"mask"})),
    "maxpool": (_pool, _NONE),
    "avgpool": (_pool, frozenset({"padded"})),
    "gavgpool": (_global_pool, _NONE),
    "batchnorm": (_batch_norm, _NONE),
    "instancenorm": (_instance_norm, _NONE),
    "layernorm": (_layer_norm, _NONE),
    "lrn": (_lrn, _NONE),
    "softmax": (_softmax, _NONE),
    "resize": (_resize, frozenset({"nearest", "linear", "cubic", "corners"})),
    "matmul": (_matmul, frozenset({"batched"})),
    "gemm": (_gemm, _NONE),
}
"""What makes the node of each kind, and the flags that it knows."""
