"""`tilewise.backend` as programs use it, beyond what the suite calls."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.base import Backend, BackendRep
from onnx.backend.test.loader import load_model_tests

import tilewise.backend as backend
from tests.backend.suite import known_failures
from tilewise import InputError, TilewiseError, UnsupportedError

X = np.array([[-1, 2, 3]], np.float32)


def model(op_type: str = "Relu", opset: int = 17, **attrs) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x"], ["0"], **attrs)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("x", "0")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("inputs", [[X], (X,), X, {"x": X}], ids=["list", "tuple", "array", "dict"])
def test_forms_of_inputs(inputs) -> None:
    rep = backend.prepare(model())
    assert isinstance(rep, BackendRep)
    outputs = rep.run(inputs)
    np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))
    np.testing.assert_array_equal(outputs["0"], np.maximum(X, 0))
    np.testing.assert_array_equal(backend.run_model(model(), inputs)[0], np.maximum(X, 0))


@pytest.mark.parametrize("inputs", [[], [X, X]])
def test_wrong_number_of_inputs(inputs) -> None:
    with pytest.raises(InputError, match=rf"expected 1 input\(s\) \['x'\], got {len(inputs)}"):
        backend.prepare(model()).run(inputs)


def test_threads() -> None:
    assert backend.prepare(model(), threads=1).model.threads == 1
    with pytest.raises(InputError, match="threads"):
        backend.prepare(model(), threads=0)


@pytest.mark.parametrize(
    ("device", "supported"), [("CPU", True), ("CPU:0", True), ("CUDA", False), ("CPU:x", False), ("", False)]
)
def test_devices(device: str, supported: bool) -> None:
    assert backend.supports_device(device) is supported
    assert backend.is_compatible(model(), device) is supported
    if not supported:
        with pytest.raises(InputError, match="device"):
            backend.prepare(model(), device)


def test_what_is_compatible() -> None:
    assert backend.is_compatible(model())
    for unsupported in (model("Foo"), model(foo=1), model(opset=99), onnx.ModelProto()):
        assert not backend.is_compatible(unsupported)
        with pytest.raises(TilewiseError):
            backend.prepare(unsupported)


def test_run_node() -> None:
    a, b = np.ones((2, 3), np.float32), np.full(3, 2, np.float32)
    add = helper.make_node("Add", ["a", "b"], ["y"])
    np.testing.assert_array_equal(backend.run_node(add, [a, b])[0], a + b)
    np.testing.assert_array_equal(backend.run_node(add, {"a": a, "b": b})["y"], a + b)
    twice = helper.make_node("Add", ["a", "a"], ["y"])
    np.testing.assert_array_equal(backend.run_node(twice, [a, a])[0], a + a)


def test_run_node_without_optional_inputs_and_outputs() -> None:
    clip = helper.make_node("Clip", ["x", "", "max"], ["y"])
    np.testing.assert_array_equal(backend.run_node(clip, [X, None, np.float32(2)])[0], np.minimum(X, 2))
    split = helper.make_node("Split", ["x"], ["", "b", ""], num_outputs=3, axis=1)
    (middle,) = backend.run_node(split, [X])
    np.testing.assert_array_equal(middle, [[2]])


def test_run_node_of_an_older_opset() -> None:
    squeeze = helper.make_node("Squeeze", ["x"], ["y"], axes=[0])
    assert backend.run_node(squeeze, [X], opset_version=11)[0].shape == (3,)
    with pytest.raises(UnsupportedError, match="axes"):
        backend.run_node(squeeze, [X])


def test_run_node_on_a_sequence() -> None:
    at = helper.make_node("SequenceAt", ["s", "i"], ["y"])
    np.testing.assert_array_equal(backend.run_node(at, [[X, X + 1], np.array(1)])[0], X + 1)


def test_run_node_on_what_is_not_a_tensor() -> None:
    with pytest.raises(InputError, match="input 'x'"):
        backend.run_node(helper.make_node("Relu", ["x"], ["y"]), ["text"])


def test_it_is_a_backend() -> None:
    assert issubclass(backend.TilewiseBackend, Backend)
    for name in ("is_compatible", "prepare", "run_model", "run_node", "supports_device"):
        assert getattr(backend, name) == getattr(backend.TilewiseBackend, name)


def test_scalars_in_a_sequence() -> None:
    """The suite's own comparison takes the length of each element, which scalars do not have."""
    name = "test_loop16_seq_none"
    assert name in known_failures()
    (case,) = [case for case in load_model_tests(kind="node") if case.name == name]
    ((inputs, (expected,)),) = case.data_sets
    (got,) = backend.prepare(case.model).run(inputs)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
