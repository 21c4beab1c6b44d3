"""Random graphs: values with several readers, as outputs and in views, through passes and plan."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.ops.random_forms import array, forms
from tests.passes.harness import check_order
from tilewise.onnx.load import load_graph
from tilewise.passes import PASSES, optimize
from tilewise.runtime.model import Model, load

SHAPE = (2, 3, 4, 5)
UNARY = ["Relu", "Neg", "Identity", "Sigmoid", "LeakyRelu", "Abs", "HardSwish", "Softmax"]
BINARY = ["Add", "Mul", "Sub", "Max"]


class Builder:
    """A graph over values of shape (2, C, 4, 5), all of which later nodes may read."""

    def __init__(self, draw) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.channels = {"x": 3, "z": 3}

    def any(self) -> str:
        """A value, rather a late one."""
        names = list(self.channels)
        return names[-1] if self.draw(st.booleans()) else self.draw(st.sampled_from(names))

    def like(self, name: str) -> str:
        """A value of as many channels."""
        same = [n for n, c in self.channels.items() if c == self.channels[name]]
        return self.draw(st.sampled_from(same))

    def constant(self, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def node(self, op_type: str, inputs: list[str], channels: int, **attrs) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attrs))
        self.channels[name] = channels
        return name

    def inner(self, op_type: str, inputs: list[str], channels: int, **attrs) -> str:
        """A node whose result no later step reads."""
        name = self.node(op_type, inputs, channels, **attrs)
        del self.channels[name]
        return name

    def unary(self) -> None:
        x = self.any()
        self.node(self.draw(st.sampled_from(UNARY)), [x], self.channels[x])

    def binary(self) -> None:
        x = self.any()
        y = self.like(x)
        if self.draw(st.integers(0, 3)) == 0:
            shapes = [(), (self.channels[x], 1, 1), (1, 5), (2, 1, 4, 1)]
            y = self.constant(array(self.draw(st.sampled_from(shapes)), seed=len(self.nodes)))
        pair = [x, y] if self.draw(st.booleans()) else [y, x]
        self.node(self.draw(st.sampled_from(BINARY)), pair, self.channels[x])

    def conv(self) -> None:
        x, outs = self.any(), self.draw(st.sampled_from([1, 3, 17]))
        c, k = self.channels[x], self.draw(st.sampled_from([1, 3]))
        group = c if outs % c == 0 and self.draw(st.booleans()) else 1
        scale = np.float32(0.3)
        inputs = [x, self.constant(scale * array((outs, c // group, k, k), seed=len(self.nodes)))]
        if self.draw(st.booleans()):
            inputs.append(self.constant(array((outs,), seed=len(self.nodes))))
        self.node("Conv", inputs, outs, pads=[k // 2] * 4, group=group)

    def batch_norm(self) -> None:
        x = self.any()
        c = self.channels[x]
        numbers = [array((c,), seed=len(self.nodes) + i) for i in range(4)]
        numbers[3] = np.abs(numbers[3]) + np.float32(0.5)
        self.node("BatchNormalization", [x, *map(self.constant, numbers)], c)

    def concat(self) -> None:
        x, y = self.any(), self.any()
        if self.channels[x] + self.channels[y] <= 40:
            self.node("Concat", [x, y], self.channels[x] + self.channels[y], axis=1)

    def slice(self) -> None:
        x = self.any()
        start = self.draw(st.integers(0, self.channels[x] - 1))
        bounds = [self.constant(np.int64([v])) for v in (start, self.channels[x], 1)]
        self.node("Slice", [x, *bounds], self.channels[x] - start)

    def turned(self) -> None:
        """Two transpositions, one after the other, with a node between them that the plan may do in place."""
        x = self.any()
        c = self.channels[x]
        there = self.node("Transpose", [x], c, perm=[0, 2, 3, 1])
        inner = self.node("Relu", [there], c)
        del self.channels[there], self.channels[inner]
        self.node("Transpose", [inner], c, perm=[0, 3, 1, 2])

    def flat(self) -> None:
        """A view and one back."""
        x = self.any()
        c = self.channels[x]
        flat = self.node("Reshape", [x, self.constant(np.int64([2, -1]))], c)
        del self.channels[flat]
        self.node("Reshape", [flat, self.constant(np.int64([2, c, 4, 5]))], c)

    def pooled(self) -> None:
        x = self.any()
        c = self.channels[x]
        op_type = self.draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool"]))
        mean = self.node(op_type, [x], c)
        del self.channels[mean]
        self.node("Mul", [x, mean], c)

    def activation(self) -> None:
        """One of the ways in which exporters write an activation."""
        x = self.any()
        c = self.channels[x]

        def scalar(value: float) -> str:
            return self.constant(np.float32(value))

        def hidden(op_type: str, *inputs: str) -> str:
            seen = self.draw(st.integers(0, 9)) == 0
            return self.node(op_type, [*inputs], c) if seen else self.inner(op_type, [*inputs], c)

        kind = self.draw(st.sampled_from(["silu", "hardswish", "gelu", "clip", "leaky"]))
        if kind == "silu":
            self.node("Mul", [x, hidden("Sigmoid", x)], c)
        elif kind == "hardswish":
            clipped = hidden("Clip", hidden("Add", x, scalar(3)), scalar(0), scalar(6))
            self.node("Mul", [x, hidden("Div", clipped, scalar(6))], c)
        elif kind == "gelu":
            gate = hidden("Add", hidden("Erf", hidden("Div", x, scalar(2**0.5))), scalar(1))
            self.node("Mul", [hidden("Mul", x, gate), scalar(0.5)], c)
        elif kind == "clip":
            self.node(
                "Min", [hidden("Max", x, scalar(-0.5)), scalar(self.draw(st.sampled_from([0.5, 1.0])))], c
            )
        else:
            self.node("Max", [x, hidden("Mul", x, scalar(0.1))], c)

    def normalized(self) -> None:
        """A normalization from moments, over the last axis or over planes."""
        x = self.any()
        c = self.channels[x]
        axes = self.constant(np.int64(self.draw(st.sampled_from([[-1], [3], [2, 3], [1]]))))
        centred = self.inner("Sub", [x, self.inner("ReduceMean", [x, axes], c)], c)
        square = self.inner("Mul", [centred, centred], c)
        mean = self.inner("ReduceMean", [square, axes], c)
        root = self.inner("Sqrt", [self.inner("Add", [mean, self.constant(np.float32(0.1))], c)], c)
        result = self.node("Div", [centred, root], c)
        if self.draw(st.booleans()):
            scale = self.constant(array(self.draw(st.sampled_from([(5,), (c, 1, 1)])), seed=len(self.nodes)))
            self.node("Mul", [result, scale], c)

    def shuffled(self) -> None:
        x = self.any()
        c = self.channels[x]
        groups = self.draw(st.sampled_from([d for d in (1, 2, 3, 17) if c % d == 0]))
        parts = self.inner("Reshape", [x, self.constant(np.int64([2, groups, c // groups, 4, 5]))], c)
        turned = self.inner("Transpose", [parts], c, perm=[0, 2, 1, 3, 4])
        target = self.constant(np.int64([2, c, 4, 5]))
        if self.draw(st.booleans()):
            target = self.inner("Shape", [x], 0)
        self.node("Reshape", [turned, target], c)

    def gated(self) -> None:
        """Squeeze and excitation by linear layers."""
        x = self.any()
        c = self.channels[x]
        mean = self.inner("ReduceMean", [x, self.constant(np.int64([2, 3]))], c, keepdims=0)
        w = self.constant(np.float32(0.3) * array((c, c), seed=len(self.nodes)))
        linear = self.inner("MatMul", [mean, w], c)
        biased = self.inner("Add", [linear, self.constant(array((c,), seed=len(self.nodes)))], c)
        gate = self.inner("Sigmoid", [biased], c)
        back = self.inner("Unsqueeze", [gate, self.constant(np.int64([2, 3]))], c)
        self.node("Mul", [back, x], c)

    def padded(self) -> None:
        x = self.any()
        c = self.channels[x]
        pad = self.inner("Pad", [x, self.constant(np.int64([0, 0, 1, 1, 0, 0, 1, 1]))], c)
        if self.draw(st.booleans()):
            w = self.constant(np.float32(0.3) * array((5, c, 3, 3), seed=len(self.nodes)))
            self.node("Conv", [pad, w], 5)
        else:
            op_type = self.draw(st.sampled_from(["AveragePool", "MaxPool"]))
            self.node(op_type, [pad], c, kernel_shape=[3, 3])

    def product(self) -> None:
        """A matrix product along the last axis, its operands turned or not."""
        x = self.any()
        c = self.channels[x]
        w = self.constant(np.float32(0.3) * array((5, 5), seed=len(self.nodes)))
        result = self.node("MatMul", [x, w], c)
        if self.draw(st.booleans()):
            self.node("Add", [result, self.constant(array((5,), seed=len(self.nodes)))], c)
        if self.draw(st.booleans()):
            other = self.like(x)
            turned = self.inner("Transpose", [other], c, perm=[0, 1, 3, 2])
            self.node("MatMul", [self.inner("MatMul", [x, turned], c), other], c)

    def channels_last(self) -> None:
        """What is done between a Transpose and one back."""
        x = self.any()
        c = self.channels[x]
        turned = self.inner("Transpose", [x], c, perm=[0, 2, 3, 1])
        for _ in range(self.draw(st.integers(1, 3))):
            kind = self.draw(st.sampled_from(["LayerNormalization", "MatMul", "Relu", "Mul"]))
            shape = (c, c) if kind == "MatMul" else (c,)
            given = (
                []
                if kind == "Relu"
                else [self.constant(np.float32(0.5) * array(shape, seed=len(self.nodes)))]
            )
            turned = self.inner(kind, [turned, *given], c)
            if self.draw(st.integers(0, 3)) == 0:
                self.node("Transpose", [turned], c, perm=[0, 3, 1, 2])
        self.node("Transpose", [turned], c, perm=[0, 3, 1, 2])

    def nothing(self) -> None:
        """A node that gives back its input, or one that is there already."""
        x = self.any()
        c = self.channels[x]
        kind = self.draw(st.sampled_from(["cast", "slice", "again"]))
        if kind == "cast":
            self.node("Cast", [x], c, to=TensorProto.FLOAT)
        elif kind == "slice":
            bounds = [self.constant(np.int64([v])) for v in (0, 2**40, 1)]
            self.node("Slice", [x, *bounds], c)
        else:
            self.node("Add", [self.inner("Tanh", [x], c), self.inner("Tanh", [x], c)], c)


STEPS = [
    Builder.unary,
    Builder.unary,
    Builder.binary,
    Builder.binary,
    Builder.conv,
    Builder.batch_norm,
    Builder.concat,
    Builder.slice,
    Builder.turned,
    Builder.flat,
    Builder.pooled,
    Builder.activation,
    Builder.activation,
    Builder.normalized,
    Builder.shuffled,
    Builder.gated,
    Builder.padded,
    Builder.product,
    Builder.channels_last,
    Builder.nothing,
]


@st.composite
def models(draw):
    b = Builder(draw)
    for _ in range(draw(st.integers(1, 14))):
        draw(st.sampled_from(STEPS))(b)
    names = [n for n in b.channels if n.startswith("v")] or [b.node("Relu", ["x"], 3)]
    outputs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    outputs = [*outputs, names[-1]] if names[-1] not in outputs else outputs
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        b.nodes,
        "random",
        [info(n, TensorProto.FLOAT, SHAPE) for n in ("x", "z")],
        [info(n, TensorProto.FLOAT, (2, b.channels[n], 4, 5)) for n in outputs],
        b.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@forms(200)
@given(models(), st.lists(st.sampled_from(sorted(PASSES)), max_size=3))
def test_random_graphs_without_some_passes(proto, disable):
    graph = load_graph(proto.SerializeToString())
    feeds = {"x": array(SHAPE), "z": array(SHAPE, seed=1)}
    expected = ReferenceEvaluator(proto).run(None, feeds)
    before = dict(graph.initializers)
    optimized = optimize(graph, disable)
    check_order(optimized)
    got = Model(optimized).run(feeds)
    for info, want in zip(proto.graph.output, expected, strict=True):
        limit = 1e-4 * max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(got[info.name], want, rtol=1e-3, atol=limit, err_msg=info.name)
    assert graph.initializers.keys() == before.keys()


@forms(150)
@given(models())
def test_random_graphs(proto):
    onnx.checker.check_model(proto, full_check=True)
    feeds = {"x": array(SHAPE), "z": array(SHAPE, seed=1)}
    given = {name: a.copy() for name, a in feeds.items()}
    expected = ReferenceEvaluator(proto).run(None, feeds)
    model = load(proto.SerializeToString())
    runs = [model.run(feeds), model.run(feeds), Model(model.graph, native=False).run(feeds)]
    for got in runs:
        for info, want in zip(proto.graph.output, expected, strict=True):
            limit = 1e-4 * max(1.0, float(np.abs(want).max()))
            np.testing.assert_allclose(got[info.name], want, rtol=1e-3, atol=limit, err_msg=info.name)
    for name, a in given.items():
        np.testing.assert_array_equal(feeds[name], a, err_msg="an input was written to")
    for first, second in zip(runs[0].values(), runs[1].values(), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.shares_memory(first, second)
