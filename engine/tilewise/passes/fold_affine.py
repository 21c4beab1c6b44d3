"""Fold scales and shifts of channels into the convolution or batch normalization before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.ops.inference import infer
from tilewise.passes.rewrite import Uses, new_initializer


_KINDS = ("BatchNormalization", "Mul", "Add", "Sub", "Div")


@dataclass(frozen=True, slots=True)
class Affine:
    """y = factor * x + shift for every channel; float64, (C,) or (1,) for one value of all."""

    x: str
    factor: np.ndarray
    shift: np.ndarray


def fold_affine(graph: Graph) -> None:
    """BatchNormalization, and Mul, Add, Sub and Div by constants of a channel, disappear into what they follow.

    Conv and ConvTranspose get w * factor and b * factor + shift, a batch normalization new scale and bias.
    """
    facts = infer(graph, {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
    for node in list(graph.nodes):
        if node.domain or node.op_type not in _KINDS:
            continue
        uses = Uses(graph)
        affine = _batch_norm(uses, node) or _arithmetic(uses, node, facts)
        producer = None if affine is None else uses.producer(affine.x)
        if affine is None or producer is None or not uses.only_read_by(affine.x, node):
            continue
        if _fold_into(graph, uses, producer, affine):
            producer.outputs = list(node.outputs)
            graph.nodes = [other for other in graph.nodes if other is not node]


def _batch_norm(uses: Uses, node: Node) -> Affine | None:
    if node.op_type != "BatchNormalization" or any(node.outputs[1:]):
        return None
    parameters = uses.constants(node.inputs[1:5])
    if node.attrs.get("training_mode", 0) or parameters is None or any(p.ndim != 1 for p in parameters):
        return None
    scale, bias, mean, var = (p.astype(np.float64) for p in parameters)
    factor = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
    return Affine(node.inputs[0], factor, bias - mean * factor)


def _arithmetic(uses: Uses, node: Node, facts: dict[str, Fact]) -> Affine | None:
    """One operation with a constant that has one value for each channel, or one for all."""
    if node.op_type == "BatchNormalization":
        return None
    constants = [uses.constant(name) for name in node.inputs]
    i = 0 if constants[0] is not None else 1
    value = _per_channel(constants[i], facts[node.inputs[1 - i]].rank)
    if value is None or constants[1 - i] is not None or (i == 0 and node.op_type in ("Sub", "Div")):
        return None
    one, zero = np.ones_like(value), np.zeros_like(value)
    factor, shift = {
        "Mul": (value, zero),
        "Div": (1 / value if value.all() else None, zero),
        "Add": (one, value),
        "Sub": (one, -value),
    }[node.op_type]
    return None if factor is None else Affine(node.inputs[1 - i], factor, shift)


def _per_channel(value: np.ndarray | None, rank: int | None) -> np.ndarray | None:
    """(C,) from a constant that spreads along axis 1 of a tensor of `rank` alone, (1,) from a scalar."""
    if value is None or rank is None or value.dtype.kind != "f" or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if value.size == 1:
        return value.reshape(1).astype(np.float64)
    if rank < 2 or value.size != shape[1]:
        return None
    return value.reshape(-1).astype(np.float64)


def _fold_into(graph: Graph, uses: Uses, producer: Node, affine: Affine) -> bool:
    if producer.domain:
        return False
    if producer.op_type in ("Conv", "ConvTranspose"):
        return _fold_into_convolution(graph, uses, producer, affine)
    return producer.op_type == "BatchNormalization" and _fold_into_norm(graph, uses, producer, affine)


def _fold_into_convolution(graph: Graph, uses: Uses, conv: Node, affine: Affine) -> bool:
    weights = uses.constants(name for name in conv.inputs[1:] if name)
    if weights is None:
        return False
    w, groups = weights[0], conv.attrs.get("group", 1)
    channels = w.shape[0] if conv.op_type == "Conv" else w.shape[1] * groups
    if affine.factor.size not in (1, channels):
        return False
    factor = np.broadcast_to(affine.factor, (channels,))
    start = weights[1].astype(np.float64) if len(weights) > 1 else np.zeros(channels)
    if conv.op_type == "Conv":
        scaled = w * factor.reshape(-1, *[1] * (w.ndim - 1))
    else:
        by_group = w.reshape(groups, -1, *w.shape[1:])
        scaled = (by_group * factor.reshape(groups, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)
    name = conv.inputs[1]
    conv.inputs = [
        conv.inputs[0],
        new_initializer(graph, f"{name}.folded", scaled.astype(w.dtype)),
        new_initializer(graph, f"{name}.bias", (start * factor + affine.shift).astype(w.dtype)),
    ]
    return True


def _fold_into_norm(graph: Graph, uses: Uses, norm: Node, affine: Affine) -> bool:
    own = _batch_norm(uses, norm)
    if own is None or affine.factor.size not in (1, own.factor.size):
        return False
    scale, bias = uses.constants(norm.inputs[1:3])
    new_bias = bias.astype(np.float64) * affine.factor + affine.shift
    norm.inputs[1] = new_initializer(
        graph, f"{norm.inputs[1]}.folded", (scale * affine.factor).astype(scale.dtype)
    )
    norm.inputs[2] = new_initializer(graph, f"{norm.inputs[2]}.folded", new_bias.astype(bias.dtype))
    return True
