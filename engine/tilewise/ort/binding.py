"""`IOBinding`: inputs and outputs bound to memory of the CPU before a run."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tilewise.errors import TilewiseError
from tilewise.ort.exceptions import OrtRuntimeError, OrtValueError
from tilewise.ort.values import OrtValue, check_device, element_dtype

if TYPE_CHECKING:
    from tilewise.ort.options import RunOptions
    from tilewise.ort.session import InferenceSession


class IOBinding:
    """What one session reads and where its results go. Made by `InferenceSession.io_binding`."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session
        self._inputs: dict[str, OrtValue] = {}
        self._outputs: dict[str, OrtValue | None] = {}
        self._results: list[OrtValue] = []

    def bind_cpu_input(self, name: str, arr_on_cpu: np.ndarray) -> None:
        self.bind_ortvalue_input(name, OrtValue(arr_on_cpu))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        args = (*self._session.get_inputs(), *self._session.get_overridable_initializers())
        if name not in [arg.name for arg in args]:
            raise OrtRuntimeError(f"Failed to find NodeArg with name: {name} in the def list")
        self._inputs[name] = ortvalue

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Bind a C-contiguous tensor at an address, which the caller keeps alive."""
        check_device(device_type)
        self.bind_ortvalue_input(name, OrtValue(_at(buffer_ptr, shape, element_type)))

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Ask for an output, in new memory or in a C-contiguous tensor at an address, kept alive by the caller."""
        check_device(device_type)
        if buffer_ptr is None:
            self._outputs[name] = None
        elif element_type is None or shape is None:
            raise OrtValueError(
                "`element_type` and `shape` are to be provided if pre-allocated memory is provided"
            )
        else:
            self._outputs[name] = OrtValue(_at(buffer_ptr, shape, element_type))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        self._outputs[name] = ortvalue

    def synchronize_inputs(self) -> None:
        """Nothing to wait for: the CPU's memory is always up to date."""

    def synchronize_outputs(self) -> None:
        """Nothing to wait for: the CPU's memory is always up to date."""

    def get_outputs(self) -> list[OrtValue]:
        """The results of the latest run, in the order in which outputs were bound."""
        return list(self._results)

    def copy_outputs_to_cpu(self) -> list[Any]:
        return [value.numpy() for value in self._results]

    def clear_binding_inputs(self) -> None:
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        self._outputs.clear()
        self._results = []

    def run(self, run_options: RunOptions | None) -> None:
        """What `InferenceSession.run_with_iobinding` does."""
        if not self._outputs:
            raise OrtRuntimeError("Error in execution: At least one output should be requested.")
        try:
            values = self._session.run(list(self._outputs), self._inputs, run_options)
        except TilewiseError as error:
            raise OrtRuntimeError(f"Error in execution: {error}") from error
        self._results = [
            OrtValue(value) if bound is None else _fill(name, bound, value)
            for (name, bound), value in zip(self._outputs.items(), values, strict=True)
        ]


def _at(address: int, shape: Sequence[int], element_type: Any) -> np.ndarray:
    dtype = element_dtype(element_type)
    size = math.prod(shape) * dtype.itemsize
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype).reshape(shape)


def _fill(name: str, bound: OrtValue, value: Any) -> OrtValue:
    target = bound.numpy()
    if not isinstance(target, np.ndarray) or (target.dtype, target.shape) != (value.dtype, value.shape):
        raise OrtRuntimeError(
            f"Error in execution: Got invalid dimensions or type for output: {name} Got: {bound.data_type()} "
            f"{bound.shape()} Expected: {value.dtype}{list(value.shape)}"
        )
    target[...] = value
    return bound
