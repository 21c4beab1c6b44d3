"""Operators of ONNX's domain ai.onnx.ml, in NumPy."""
