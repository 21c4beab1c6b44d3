"""`OrtValue`: a tensor or a sequence of tensors in the memory of the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilewise import dtypes
from tilewise.ort.exceptions import OrtRuntimeError, OrtValueError


def check_device(device_type: str) -> None:
    if device_type.lower() != "cpu":
        raise OrtRuntimeError(
            f"Can't allocate memory on the device {device_type!r} using this package: expected 'cpu'"
        )


def element_dtype(element_type: Any) -> np.dtype:
    """The dtype for a NumPy type or a `TensorProto.DataType` value."""
    try:
        return dtypes.from_onnx(element_type) if isinstance(element_type, int) else np.dtype(element_type)
    except (KeyError, TypeError, AttributeError):
        raise OrtRuntimeError(f"expected an element type that ONNX has, got {element_type!r}") from None


class OrtValue:
    """A tensor that shares the memory of the array it is made from, a list of tensors, or nothing (None)."""

    def __init__(self, value: np.ndarray | list | None) -> None:
        if not isinstance(value, np.ndarray | list | None):
            raise OrtValueError(
                f"OrtValue: expected an array, a list of arrays or None, got {type(value).__name__}"
            )
        self._value = value

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: np.ndarray, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A tensor over the memory of a C-contiguous array; a copy of any other array."""
        check_device(device_type)
        if not isinstance(numpy_obj, np.ndarray) or numpy_obj.dtype.kind in "OUS":
            raise OrtRuntimeError(
                "Creation of OrtValues is currently only supported from non-string numpy arrays"
            )
        return cls(np.ascontiguousarray(numpy_obj).reshape(numpy_obj.shape))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: np.ndarray, /, onnx_element_type: int) -> OrtValue:
        """A tensor over the memory of `data`, its elements seen as another type of the same size."""
        dtype = element_dtype(onnx_element_type)
        if dtype.itemsize != data.dtype.itemsize:
            raise OrtRuntimeError(
                f"expected elements of {dtype.itemsize} bytes for {dtype}, got {data.dtype}"
            )
        return cls(np.ascontiguousarray(data).reshape(data.shape).view(dtype))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A tensor with arbitrary content."""
        check_device(device_type)
        return cls(np.empty(tuple(shape), element_dtype(element_type)))

    def numpy(self) -> Any:
        """The content, in the tensor's own memory; a list of arrays for a sequence."""
        return self._value

    def shape(self) -> list[int]:
        return list(self._tensor().shape)

    def data_type(self) -> str:
        """As in "tensor(float)" and "seq(tensor(int64))"."""
        if isinstance(self._value, list):
            return f"seq({OrtValue(self._value[0]).data_type()})" if self._value else "seq(tensor(float))"
        return f"tensor({dtypes.onnx_name(self._tensor().dtype)})"

    def element_type(self) -> int:
        """The number of the element type, as in `TensorProto.DataType`."""
        return dtypes.to_onnx(self._tensor().dtype)

    def data_ptr(self) -> int:
        return self._tensor().ctypes.data

    def tensor_size_in_bytes(self) -> int:
        return self._tensor().nbytes

    def device_name(self) -> str:
        return "cpu"

    def has_value(self) -> bool:
        return self._value is not None

    def is_tensor(self) -> bool:
        return isinstance(self._value, np.ndarray)

    def is_tensor_sequence(self) -> bool:
        return isinstance(self._value, list)

    def is_sparse_tensor(self) -> bool:
        return False

    def update_inplace(self, data: np.ndarray) -> None:
        """Write `data`, of the same number of elements and dtype, into the tensor's memory."""
        tensor = self._tensor()
        if data.size != tensor.size or data.dtype != tensor.dtype:
            raise OrtRuntimeError(
                "The input size of numpy arrays does not match the size of the OrtValue: "
                f"expected {tensor.dtype}{list(tensor.shape)}, got {data.dtype}{list(data.shape)}"
            )
        tensor[...] = data.reshape(tensor.shape)

    def _tensor(self) -> np.ndarray:
        if not isinstance(self._value, np.ndarray):
            raise OrtRuntimeError(f"OrtValue: expected a tensor, got {type(self._value).__name__}")
        return self._value
