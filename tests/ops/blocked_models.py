"""Small models whose values lie channel-blocked, and their kernels and results on one thread and on several."""

from __future__ import annotations

import numpy as np
from onnx import parser
from onnx.numpy_helper import from_array

import tilewise as tw

RNG = np.random.default_rng(29)


def rand(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def build(nodes, feeds, weights, outputs=("y",)):
    """A model of `nodes`, in ONNX's text form, with inputs like `feeds`."""
    inputs = ", ".join(f"float[{','.join(map(str, f.shape))}] {name}" for name, f in feeds.items())
    proto = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g ({inputs}) => ({", ".join(f"float {name}" for name in outputs)}) {{ {nodes} }}"""
    )
    for name, array in weights.items():
        proto.graph.initializer.append(from_array(array, name))
    return proto


def run(proto, feeds, kernel):
    """Outputs by name on two threads, after it is seen that `kernel` is used and that one thread gives the same."""
    model = tw.load(proto, threads=2)
    kernels = {step.kernel for step in model.plan().steps}
    assert kernel in kernels
    got, single = model.run(feeds), tw.load(proto, threads=1).run(feeds)
    for name, array in got.items():
        np.testing.assert_array_equal(array, single[name])
    return got
