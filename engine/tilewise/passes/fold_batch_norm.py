"""Fold a batch normalization into the weights of the convolution before it."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Uses, new_initializer


def fold_batch_norm(graph: Graph) -> None:
    """BatchNormalization(Conv(x)) becomes Conv with w * s and (b - mean) * s + bias, s = scale / sqrt(var + eps)."""
    for norm in list(graph.nodes):
        if norm.domain or norm.op_type != "BatchNormalization" or any(norm.outputs[1:]):
            continue
        uses = Uses(graph)
        conv = uses.producer(norm.inputs[0])
        if conv is None or conv.domain or conv.op_type not in ("Conv", "ConvTranspose"):
            continue
        if norm.attrs.get("training_mode", 0) or not uses.only_read_by(norm.inputs[0], norm):
            continue
        weights = uses.constants(name for name in conv.inputs[1:] if name)
        parameters = uses.constants(norm.inputs[1:5])
        if weights is None or parameters is None or any(p.ndim != 1 for p in parameters):
            continue
        _fold(graph, conv, norm, weights, parameters)


def _fold(
    graph: Graph, conv: Node, norm: Node, weights: list[np.ndarray], parameters: list[np.ndarray]
) -> None:
    scale, bias, mean, var = (p.astype(np.float64) for p in parameters)
    factor = scale / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
    w = weights[0]
    start = weights[1].astype(np.float64) if len(weights) > 1 else 0.0
    if conv.op_type == "Conv":
        scaled = w * factor.reshape(-1, *[1] * (w.ndim - 1))
    else:
        groups = conv.attrs.get("group", 1)
        by_group = w.reshape(groups, -1, *w.shape[1:])
        scaled = (by_group * factor.reshape(groups, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)
    name = conv.inputs[1]
    conv.inputs = [
        conv.inputs[0],
        new_initializer(graph, f"{name}.folded", scaled.astype(w.dtype)),
        new_initializer(graph, f"{name}.bias", ((start - mean) * factor + bias).astype(w.dtype)),
    ]
    conv.outputs = list(norm.outputs)
    graph.nodes = [node for node in graph.nodes if node is not norm]
