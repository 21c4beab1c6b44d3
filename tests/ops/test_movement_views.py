"""Graphs of views, copies, in-place steps and host operators: values must not be written over while they are needed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import tilewise
import tilewise_kernels
from tilewise.runtime.model import Model


def build(nodes, inputs, outputs, constants=()) -> onnx.ModelProto:
    """A model of `nodes`, tuples (operator, inputs, outputs, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attrs) for op, ins, outs, attrs in nodes],
        "views",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in dict(constants).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def check(nodes, inputs, outputs, constants=(), host: bool | None = None) -> None:
    """Three runs agree with onnx.reference, exactly, and leave inputs and earlier results as they are.

    host: whether the plan must have host steps; None where it does not matter.
    """
    proto = build(nodes, inputs, outputs, constants)
    expected = dict(zip(outputs, ReferenceEvaluator(proto).run(None, inputs), strict=True))
    fed = {name: a.copy() for name, a in inputs.items()}
    model = tilewise.load(proto)
    if host is not None and tilewise_kernels.has("strided_copy"):
        steps = model.plan().steps
        assert any(s.kernel == "host" for s in steps) is host, steps
    for m in (model, Model(model.graph, threads=1), Model(model.graph, native=False)):
        first = m.run(inputs)
        m.run({name: a + 1 if a.dtype == np.float32 else a for name, a in inputs.items()})
        again = m.run(inputs)
        last = m.run(inputs, outputs=outputs[-1:])
        for results in (first, again, last):
            for name, got in results.items():
                assert got.dtype == expected[name].dtype
                np.testing.assert_array_equal(got, expected[name], err_msg=name)
                assert got.flags.owndata or got.base.base is None
                assert not any(np.may_share_memory(got, a) for a in inputs.values())
    for name, a in inputs.items():
        np.testing.assert_array_equal(a, fed[name])


X = (np.arange(24, dtype=np.float32).reshape(4, 6) % 7) - 3
HALVES = {"num_outputs": 2}
DYNAMIC = {"start": np.array([1], np.int64), "end": np.array([3], np.int64)}
"""Bounds that are fed, so that Slice runs on the host and answers with a view."""

CASES = {
    "split along the outer axis, each part changed": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Split", ["n"], ["a", "b"], {"axis": 0, **HALVES}),
            ("Relu", ["a"], ["ra"], {}),
            ("Relu", ["b"], ["rb"], {}),
            ("Concat", ["rb", "ra", "a"], ["y"], {"axis": 0}),
        ],
        ["y"],
    ),
    "split along the inner axis, whole read later": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Split", ["n"], ["a", "b"], {"axis": 1, **HALVES}),
            ("Relu", ["a"], ["ra"], {}),
            ("Concat", ["ra", "b"], ["c"], {"axis": 1}),
            ("Add", ["c", "n"], ["y"], {}),
        ],
        ["y", "b"],
    ),
    "reshape changed while the original is read later": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Reshape", ["n", "flat"], ["r"], {}),
            ("Relu", ["r"], ["q"], {}),
            ("Add", ["n", "n"], ["y"], {}),
        ],
        ["q", "y"],
    ),
    "original changed while the reshape is read later": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Reshape", ["n", "flat"], ["r"], {}),
            ("Relu", ["n"], ["q"], {}),
            ("Neg", ["r"], ["y"], {}),
        ],
        ["q", "y"],
    ),
    "an output that is a reshape of another": (
        [("Relu", ["x"], ["y"], {}), ("Reshape", ["y", "flat"], ["z"], {})],
        ["y", "z"],
    ),
    "an output that is a part of another": (
        [("Relu", ["x"], ["y"], {}), ("Split", ["y"], ["a", "b"], {"axis": 0, **HALVES})],
        ["b", "y"],
    ),
    "an output that is read and reshaped further": (
        [
            ("Relu", ["x"], ["y"], {}),
            ("Reshape", ["y", "flat"], ["z"], {}),
            ("Neg", ["z"], ["w"], {}),
        ],
        ["w", "z", "y"],
    ),
    "outputs that are views of an input": (
        [
            ("Reshape", ["x", "flat"], ["y"], {}),
            ("Identity", ["x"], ["z"], {}),
            ("Split", ["x"], ["a", "b"], {"axis": 0, **HALVES}),
        ],
        ["y", "z", "b"],
    ),
    "an output that is a view of a constant": (
        [("Reshape", ["weight", "flat"], ["y"], {}), ("Relu", ["x"], ["z"], {})],
        ["y", "z"],
    ),
    "in place over a value of which a part is an operand": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Slice", ["n", "one", "two"], ["row"], {}),
            ("Add", ["n", "row"], ["y"], {}),
            ("Neg", ["y"], ["z"], {}),
        ],
        ["z"],
    ),
    "host reads an input that a kernel reads later": (
        [("NonZero", ["x"], ["i"], {}), ("Relu", ["x"], ["y"], {})],
        ["i", "y"],
    ),
    "host view of a value that is written over in place": (
        [
            ("Neg", ["x"], ["n"], {}),
            ("Slice", ["n", "start", "end"], ["p"], {}),
            ("Relu", ["n"], ["r"], {}),
            ("Neg", ["r"], ["y"], {}),
            ("Slice", ["p", "zero", "start"], ["q"], {}),
        ],
        ["p", "y", "q"],
    ),
    "host value with a native view that kernels and host read": (
        [
            ("NonZero", ["x"], ["i"], {}),
            ("GatherElements", ["x", "columns"], ["g"], {"axis": 1}),
            ("Reshape", ["g", "flat"], ["r"], {}),
            ("Relu", ["r"], ["y"], {}),
            ("NonZero", ["r"], ["j"], {}),
        ],
        ["i", "j", "y", "r"],
    ),
    "one value twice in a join": (
        [("Neg", ["x"], ["n"], {}), ("Concat", ["n", "n", "x"], ["y"], {"axis": 1})],
        ["y"],
    ),
}
CONSTANTS = {
    "flat": np.array([-1], np.int64),
    "zero": np.array([0], np.int64),
    "one": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
}
FED = {**DYNAMIC, "columns": np.array([[0, 5, 1]] * 4, np.int64)}


@pytest.mark.parametrize("name", CASES)
def test_views(name):
    nodes, outputs = CASES[name]
    read = {i for _, ins, _, _ in nodes for i in ins}
    inputs = {"x": X, **{k: v for k, v in FED.items() if k in read}}
    constants = {k: v for k, v in CONSTANTS.items() if k in read}
    check(nodes, inputs, outputs, constants, host=None if len(inputs) > 1 else "NonZero" in str(nodes))


def test_a_convolution_added_to_its_own_input():
    """The sum may be written over one operand of the addition, but not where the convolution still reads it."""
    x = (np.arange(64 * 36, dtype=np.float32).reshape(1, 64, 6, 6) % 7) - 3
    weight = (np.arange(64 * 64, dtype=np.float32).reshape(64, 64, 1, 1) % 5) - 2
    nodes = [
        ("Neg", ["x"], ["n"], {}),
        ("Conv", ["n", "w"], ["c"], {}),
        ("Add", ["c", "n"], ["s"], {}),
        ("Relu", ["s"], ["y"], {}),
    ]
    check(nodes, {"x": x}, ["y"], {"w": weight})


class Maker:
    """A random graph of operators that are exact on small integers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[tuple] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": (4, 6), "w": (4, 6)}
        self.constants: dict[str, np.ndarray] = {}

    def pick(self, shape=None) -> str:
        names = [n for n, s in self.shapes.items() if shape is None or s == shape]
        return names[self.rng.integers(len(names))]

    def constant(self, values) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(values, np.int64)
        return name

    def add(self, op: str, ins: list[str], shapes: list[tuple[int, ...]], **attrs) -> None:
        outs = [f"v{len(self.shapes) + i}" for i in range(len(shapes))]
        self.nodes.append((op, ins, outs, attrs))
        self.shapes.update(zip(outs, shapes, strict=True))

    def step(self) -> None:
        a = self.pick()
        n, m = shape = self.shapes[a]
        kind = self.rng.integers(9)
        if kind == 0:
            self.add("Relu", [a], [shape])
        elif kind == 1:
            self.add("Neg", [a], [shape])
        elif kind == 2:
            self.add(str(self.rng.choice(["Max", "Min"])), [a, self.pick(shape)], [shape])
        elif kind == 3:
            self.add("Reshape", [a, self.constant([m, n])], [(m, n)])
        elif kind == 4:
            self.add("Transpose", [a], [(m, n)], perm=[1, 0])
        elif kind == 5 and n % 2 == 0:
            self.add("Split", [a], [(n // 2, m)] * 2, axis=0, num_outputs=2)
        elif kind == 6 and n * m <= 48:
            self.add("Concat", [a, self.pick(shape)], [(2 * n, m)], axis=0)
        elif kind == 7 and n > 1:
            fed = bool(self.rng.integers(2))
            starts, ends = (
                ("start", "end") if fed and n == 4 else (self.constant([0]), self.constant([n - 1]))
            )
            self.add("Slice", [a, starts, ends], [(2 if starts == "start" else n - 1, m)])
        else:
            row = f"v{len(self.shapes)}"
            self.add("Slice", [a, self.constant([0]), self.constant([1])], [(1, m)])
            self.add("Max", [a, row], [shape])


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_of_views(seed):
    maker = Maker(seed)
    for _ in range(14):
        maker.step()
    made = [name for name in maker.shapes if name not in ("x", "w")]
    outputs = sorted(set(maker.rng.choice(made, 3).tolist()) | {made[-1]})
    read = {i for _, ins, _, _ in maker.nodes for i in ins}
    inputs = {"x": X, "w": X[::-1] * 2, **{k: v for k, v in DYNAMIC.items() if k in read}}
    inputs = {k: v for k, v in inputs.items() if k in read}
    check(maker.nodes, inputs, outputs, maker.constants)
