"""ONNX files to graphs: reading, checking, and older forms brought up to date."""
