"""Let a convolution or batch normalization apply the activation that follows it."""

from __future__ import annotations

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter

Activation = tuple[str, float, float]
FUSED = {
    ("", "Conv"): "FusedConv",
    ("tilewise", "FusedConv"): "FusedConv",
    ("", "BatchNormalization"): "FusedBatchNormalization",
}
"""Operators that can apply an activation, and the internal one that does."""
_INFINITY = float("inf")


def fuse_activation(graph: Graph) -> None:
    """Activation(Conv(x)) becomes FusedConv, for single nodes and for x * Sigmoid(x) and x * HardSigmoid(x)."""
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if (
            (node.domain, node.op_type) in FUSED
            and not node.attrs.get("activation")
            and not any(node.outputs[1:])
        ):
            match = _single(rewriter, node) or _gated(rewriter, node)
            if match is not None:
                _fuse(rewriter, node, *match)
    rewriter.finish()


def _fuse(rewriter: Rewriter, node: Node, activation: Activation, nodes: list[Node]) -> None:
    name, alpha, beta = activation
    attrs = dict(node.attrs, activation=name, activation_alpha=alpha, activation_beta=beta)
    fused = Node(
        FUSED[node.domain, node.op_type],
        node.inputs,
        list(nodes[-1].outputs),
        attrs,
        node.name,
        "tilewise",
        node.version,
    )
    rewriter.replace([node, *nodes], fused)


def _single(rewriter: Rewriter, node: Node) -> tuple[Activation, list[Node]] | None:
    """One node that is all that reads the result."""
    readers = rewriter.readers(node.outputs[0])
    if len(readers) != 1 or not rewriter.only_read_by(node.outputs[0], readers[0]):
        return None
    activation = _activation(rewriter, readers[0], node.outputs[0])
    return None if activation is None else (activation, [readers[0]])


def _gated(rewriter: Rewriter, node: Node) -> tuple[Activation, list[Node]] | None:
    """x * gate(x), where the gate and the product are all that reads x."""
    readers = rewriter.readers(node.outputs[0])
    gate = next((n for n in readers if n.op_type in ("Sigmoid", "HardSigmoid") and not n.domain), None)
    product = next((n for n in readers if n.op_type == "Mul" and not n.domain), None)
    if gate is None or product is None or not rewriter.only_read_by(node.outputs[0], gate, product):
        return None
    if sorted(product.inputs) != sorted([node.outputs[0], gate.outputs[0]]):
        return None
    if not rewriter.only_read_by(gate.outputs[0], product):
        return None
    if gate.op_type == "Sigmoid":
        return ("Swish", 1.0, 0.0), [gate, product]
    alpha, beta = gate.attrs.get("alpha", 0.2), gate.attrs.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return ("HardSwish", 0.0, 0.0), [gate, product]
    return None


def _activation(rewriter: Rewriter, node: Node, x: str) -> Activation | None:
    if node.domain or node.inputs[0] != x or x in node.inputs[1:]:
        return None
    attrs = node.attrs
    if node.op_type in ("Relu", "Sigmoid", "Tanh", "HardSwish"):
        return node.op_type, 0.0, 0.0
    if node.op_type == "LeakyRelu":
        return "LeakyRelu", attrs.get("alpha", 0.01), 0.0
    if node.op_type == "HardSigmoid":
        return "HardSigmoid", attrs.get("alpha", 0.2), attrs.get("beta", 0.5)
    if node.op_type == "Swish":
        return "Swish", attrs.get("alpha", 1.0), 0.0
    return _clip(rewriter, node) if node.op_type == "Clip" else None


def _clip(rewriter: Rewriter, node: Node) -> Activation | None:
    """Bounds from attributes (before opset 11) or from constant inputs."""
    bounds = [node.attrs.get("min", -_INFINITY), node.attrs.get("max", _INFINITY)]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            value = rewriter.constant(name)
            if value is None or value.size != 1:
                return None
            bounds[i] = float(value.reshape(-1)[0])
    return ("Clip", bounds[0], bounds[1]) if bounds[0] <= bounds[1] else None
