"""The other path of `onnxruntime_pybind11_state`."""

from tilewise.ort.capi.onnxruntime_pybind11_state import *  # noqa: F403
