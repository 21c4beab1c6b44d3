"""Where clients of ONNX Runtime look for its exceptions and inner classes."""

from tilewise.ort.capi import _pybind_state, onnxruntime_inference_collection, onnxruntime_pybind11_state

__all__ = ["_pybind_state", "onnxruntime_inference_collection", "onnxruntime_pybind11_state"]
