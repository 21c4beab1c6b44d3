"""OrtValue and IOBinding."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.ort.models import add

ONE = np.ones((1, 2), np.float32)


@pytest.fixture
def session(ort):
    return ort.InferenceSession(add().SerializeToString())


def test_value_from_numpy(ort) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = ort.OrtValue.ortvalue_from_numpy(array)
    assert (value.shape(), value.data_type(), value.element_type()) == (
        [2, 3],
        "tensor(float)",
        TensorProto.FLOAT,
    )
    assert (value.device_name(), value.tensor_size_in_bytes()) == ("cpu", 24)
    assert (value.has_value(), value.is_tensor()) == (True, True)
    assert not value.is_tensor_sequence()
    assert not value.is_sparse_tensor()
    assert value.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(value.numpy(), array)
    value.update_inplace(array[::-1].copy() + 1)
    assert array[0, 0] == 4


def test_value_from_scalar(ort) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.array(3, np.int64))
    assert (value.shape(), value.numpy().item()) == ([], 3)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(np.int64, "tensor(int64)"), (np.float16, "tensor(float16)"), (TensorProto.DOUBLE, "tensor(double)")],
)
def test_value_from_shape_and_type(ort, kind, name: str) -> None:
    value = ort.OrtValue.ortvalue_from_shape_and_type([2, 3], kind)
    assert (value.shape(), value.data_type()) == ([2, 3], name)


def test_value_seen_as_another_type(ort) -> None:
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.zeros(3, np.uint16), TensorProto.BFLOAT16)
    assert (value.shape(), value.data_type()) == ([3], "tensor(bfloat16)")


def test_values_that_cannot_be(ort) -> None:
    make = ort.OrtValue.ortvalue_from_numpy
    for call in (lambda: make([1, 2]), lambda: make(np.array(["a"])), lambda: make(ONE, "cuda", 0)):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError, match="does not match the size of the OrtValue"):
        make(ONE.copy()).update_inplace(np.ones(3, np.float32))


def test_run_with_values(ort, session) -> None:
    value = ort.OrtValue.ortvalue_from_numpy(ONE)
    (result,) = session.run_with_ort_values(["y"], {"x": value})
    assert isinstance(result, ort.OrtValue)
    np.testing.assert_array_equal(result.numpy(), [[6, 6]])
    np.testing.assert_array_equal(session.run(None, {"x": value})[0], [[6, 6]])


def test_binding_allocates_outputs(ort, session) -> None:
    binding = session.io_binding()
    binding.bind_cpu_input("x", ONE)
    binding.bind_output("y")
    binding.synchronize_inputs()
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    (value,) = binding.get_outputs()
    np.testing.assert_array_equal(value.numpy(), [[6, 6]])
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], [[6, 6]])


def test_binding_to_addresses(session) -> None:
    out = np.zeros((1, 2), np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, (1, 2), ONE.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, (1, 2), out.ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(out, [[6, 6]])


def test_binding_to_values(ort, session) -> None:
    out = np.zeros((1, 2), np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(ONE))
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(out))
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(out, [[6, 6]])
    assert binding.get_outputs()[0].data_ptr() == out.ctypes.data


def test_binding_errors(ort, session) -> None:
    binding = session.io_binding()
    with pytest.raises(RuntimeError, match="Failed to find NodeArg with name: q"):
        binding.bind_cpu_input("q", ONE)
    with pytest.raises(RuntimeError, match="At least one output should be requested"):
        session.run_with_iobinding(binding)
    with pytest.raises(ValueError, match="`element_type` and `shape` are to be provided"):
        binding.bind_output("y", buffer_ptr=ONE.ctypes.data)
    binding.bind_output("y")
    binding.bind_cpu_input("x", ONE.astype(np.float64))
    with pytest.raises(RuntimeError, match="Unexpected input data type"):
        session.run_with_iobinding(binding)
    binding.bind_cpu_input("x", ONE)
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 3), np.float32)))
    with pytest.raises(RuntimeError, match=r"Got invalid dimensions.* for output: y"):
        session.run_with_iobinding(binding)
    binding.clear_binding_outputs()
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], [[6, 6]])
    binding.clear_binding_inputs()
    with pytest.raises((RuntimeError, ValueError), match="x"):
        session.run_with_iobinding(binding)
