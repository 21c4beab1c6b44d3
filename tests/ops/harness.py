"""One-node models, run natively and in NumPy, against an independent oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import tilewise_kernels
from tilewise.graph import Fact
from tilewise.ops.inference import infer
from tilewise.runtime.model import Model, load

LATEST = onnx.defs.onnx_opset_version()


def ints(*values: int) -> np.ndarray:
    """An int64 vector, as axes, indices and shapes are given."""
    return np.array(values, np.int64)


def strings(*shape: int) -> np.ndarray:
    """An array of strings, all different."""
    return np.array([f"s{i}" for i in range(int(np.prod(shape)))], object).reshape(shape)


def one_node(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    attrs: dict | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    constants: Sequence[int] = (),
    domain: str = "",
    version: int = 1,
) -> onnx.ModelProto:
    """A model of one node with inputs x0, x1, ... and outputs y0, ...; those in `constants` are initializers.

    version: of `domain`, for an operator that is not of ONNX's own.
    """
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(inputs)]
    node = helper.make_node(op_type, names, [f"y{i}" for i in range(outputs)], domain=domain, **(attrs or {}))
    feeds = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for i, (n, a) in enumerate(zip(names, inputs, strict=True))
        if a is not None and i not in constants
    ]
    graph = helper.make_graph(
        [node],
        "case",
        feeds,
        [helper.make_tensor_value_info(f"y{i}", TensorProto.UNDEFINED, None) for i in range(outputs)],
        [onnx.numpy_helper.from_array(inputs[i], names[i]) for i in constants],
    )
    for info in graph.output:
        info.ClearField("type")
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, version)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=min(onnx.IR_VERSION, 10))


def check(
    op_type: str,
    inputs: Sequence[np.ndarray | None],
    attrs: dict | None = None,
    *,
    opset: int = LATEST,
    outputs: int = 1,
    constants: Sequence[int] = (),
    oracle: Callable[..., object] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    kernel: bool | None = None,
    domain: str = "",
    version: int = 1,
) -> list[np.ndarray]:
    """Assert that the node agrees with the oracle (`onnx.reference` by default), natively and in NumPy.

    oracle: takes the inputs, returns one array or a list. kernel: True asserts that the plan has kernels only,
    False that the node runs on the host. Facts inferred from concrete and from symbolic shapes are held against
    the results too. Returns the expected arrays.
    """
    form: dict = {"opset": opset, "outputs": outputs, "domain": domain, "version": version}
    proto = one_node(op_type, inputs, attrs, constants=constants, **form)
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None and i not in constants}
    expected = _expected(proto, inputs, feeds, oracle)
    model = load(proto.SerializeToString())
    for m in (model, Model(model.graph, native=False)):
        got = m.run(feeds)
        for name, want in zip(got, expected, strict=True):
            assert_same(got[name], want, rtol, atol, f"{op_type} {name} {attrs} native={m is model}")
    _check_inference(model, feeds, expected)
    if kernel is not None and tilewise_kernels.NATIVE:
        steps = model.plan().steps
        on_host = any(s.kernel == "host" for s in steps)
        assert on_host is not kernel, f"{op_type} {attrs}: steps {steps}"
    return expected


def assert_same(got: np.ndarray, want: np.ndarray, rtol: float, atol: float, what: str) -> None:
    """Same dtype, shape and values; strings and bools exactly."""
    want = np.asarray(want)
    assert isinstance(got, np.ndarray), what
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if want.dtype.kind in "OUS":
        assert got.dtype == object
        assert got.tolist() == want.tolist(), what
        return
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(got.astype(wide), want.astype(wide), rtol=rtol, atol=atol, err_msg=what)


def _expected(proto, inputs, feeds, oracle) -> list[np.ndarray]:
    if oracle is None:
        return list(ReferenceEvaluator(proto).run(None, feeds))
    result = oracle(*inputs)
    return list(result) if isinstance(result, list | tuple) else [result]


def _check_inference(model: Model, feeds: dict[str, np.ndarray], expected: list[np.ndarray]) -> None:
    concrete = {n: Fact(a.dtype, a.shape) for n, a in feeds.items()}
    symbolic = {n: Fact(a.dtype, tuple(f"{n}_{i}" for i in range(a.ndim))) for n, a in feeds.items()}
    unknown = {n: Fact(a.dtype) for n, a in feeds.items()}
    for inputs in (concrete, symbolic, unknown):
        facts = infer(model.graph, inputs)
        for name, want in zip(model.graph.outputs, expected, strict=True):
            fact = facts[name]
            if fact.dtype is not None and want.dtype.kind not in "OUS":
                assert fact.dtype == want.dtype, f"inferred {fact}, got {want.dtype}"
            if fact.shape is not None:
                assert len(fact.shape) == want.ndim, f"inferred {fact}, got {want.shape}"
                for dim, size in zip(fact.shape, want.shape, strict=True):
                    assert not isinstance(dim, int) or dim == size, f"inferred {fact}, got {want.shape}"
