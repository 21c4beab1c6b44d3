"""ONNX Runtime as an oracle for one node."""

from __future__ import annotations

from collections.abc import Callable

import onnxruntime

from tests.ops.harness import LATEST, one_node


def ort(
    op_type: str,
    attrs: dict | None = None,
    *,
    opset: int = 21,
    outputs: int = 1,
    domain: str = "",
    version: int = 1,
) -> Callable[..., list]:
    """An oracle for `harness.check`: the node's outputs by ONNX Runtime at an opset that it knows."""

    def run(*inputs):
        form: dict = {"opset": min(opset, LATEST), "outputs": outputs, "domain": domain, "version": version}
        proto = one_node(op_type, inputs, attrs, **form)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {f"x{i}": a for i, a in enumerate(inputs) if a is not None})

    return run
