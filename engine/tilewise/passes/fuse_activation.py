"""Let a convolution, matrix product or batch normalization apply the activation that follows it."""

from __future__ import annotations

from tilewise.graph import Graph, Node
from tilewise.passes.recognize_clips import clip_bounds
from tilewise.passes.rewrite import Rewriter

Activation = tuple[str, float, float]
FUSED = {
    ("", "Conv"): "FusedConv",
    ("tilewise", "FusedConv"): "FusedConv",
    ("", "BatchNormalization"): "FusedBatchNormalization",
    ("", "Gemm"): "FusedGemm",
    ("", "MatMul"): "FusedMatMul",
    ("tilewise", "FusedMatMul"): "FusedMatMul",
}
"""Operators that can apply an activation, and the internal one that does."""


def fuse_activation(graph: Graph) -> None:
    """Activation(Conv(x)) becomes FusedConv; so for matrix products and batch normalization."""
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        fused = FUSED.get((node.domain, node.op_type))
        if fused is None or node.attrs.get("activation") or any(node.outputs[1:]):
            continue
        reader = rewriter.sole_reader(node.outputs[0])
        activation = None if reader is None else _activation(rewriter, reader, node.outputs[0])
        if reader is not None and activation is not None:
            _fuse(rewriter, node, reader, fused, activation)
    rewriter.finish()


def _fuse(rewriter: Rewriter, node: Node, reader: Node, fused: str, activation: Activation) -> None:
    name, alpha, beta = activation
    attrs = dict(node.attrs, activation=name, activation_alpha=alpha, activation_beta=beta)
    outputs = list(reader.outputs)
    new = Node(fused, node.inputs, outputs, attrs, node.name, "tilewise", node.version)
    rewriter.replace([node, reader], new)


def _activation(rewriter: Rewriter, node: Node, x: str) -> Activation | None:
    """Name, alpha and beta of an activation of x; None where the node is none, or none that is known."""
    if node.domain or node.inputs[0] != x:
        return None
    if node.op_type == "Clip":
        bounds = clip_bounds(rewriter, node)
        return None if bounds is None else ("Clip", *bounds)
    if node.op_type == "Gelu":
        approximate = node.attrs.get("approximate", "none")
        return "GeluTanh" if approximate in ("tanh", b"tanh") else "Gelu", 0.0, 0.0
    if node.op_type not in _DEFAULTS:
        return None
    alpha, beta = _DEFAULTS[node.op_type]
    return node.op_type, float(node.attrs.get("alpha", alpha)), float(node.attrs.get("beta", beta))


_DEFAULTS = {
    "Elu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "HardSwish": (0.0, 0.0),
    "LeakyRelu": (0.01, 0.0),
    "Mish": (0.0, 0.0),
    "Relu": (0.0, 0.0),
    "Sigmoid": (0.0, 0.0),
    "Softplus": (0.0, 0.0),
    "Swish": (1.0, 0.0),
    "Tanh": (0.0, 0.0),
}
"""ONNX's alpha and beta."""
ACTIVATIONS = frozenset({"Clip", "Gelu", *_DEFAULTS})
"""Operators of ONNX that can be fused."""
