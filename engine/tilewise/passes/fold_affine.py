"""Fold scales and shifts of channels into the convolution or batch normalization before them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.rewrite import Rewriter

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
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if node.domain or node.op_type not in _KINDS:
            continue
        affine = _batch_norm(rewriter, node) or _arithmetic(rewriter, node)
        producer = None if affine is None else rewriter.producer(affine.x)
        if affine is None or producer is None or not rewriter.only_read_by(affine.x, node):
            continue
        folded = _fold_into(rewriter, producer, affine)
        if folded is not None:
            folded.outputs = list(node.outputs)
            rewriter.replace([producer, node], folded)
    rewriter.finish()


def _batch_norm(rewriter: Rewriter, node: Node) -> Affine | None:
    if node.op_type != "BatchNormalization" or any(node.outputs[1:]):
        return None
    parameters = rewriter.constants(node.inputs[1:5])
    if node.attrs.get("training_mode", 0) or parameters is None or any(p.ndim != 1 for p in parameters):
        return None
    scale, bias, mean, var = (p.astype(np.float64) for p in parameters)
    factor = scale / np.sqrt(var + node.attrs.get("epsilon", 1e-5))
    return Affine(node.inputs[0], factor, bias - mean * factor)


def _arithmetic(rewriter: Rewriter, node: Node) -> Affine | None:
    """One operation with a constant that has one value for each channel, or one for all."""
    if node.op_type == "BatchNormalization":
        return None
    constants = [rewriter.constant(name) for name in node.inputs]
    i = 0 if constants[0] is not None else 1
    constant = constants[i]
    if constant is None or constants[1 - i] is not None or (i == 0 and node.op_type in ("Sub", "Div")):
        return None
    value = _per_channel(constant, rewriter.fact(node.inputs[1 - i]).rank)
    if value is None:
        return None
    one, zero = np.ones_like(value), np.zeros_like(value)
    factor, shift = {
        "Mul": (value, zero),
        "Div": (1 / value if value.all() else None, zero),
        "Add": (one, value),
        "Sub": (one, -value),
    }[node.op_type]
    return None if factor is None else Affine(node.inputs[1 - i], factor, shift)


def _per_channel(value: np.ndarray, rank: int | None) -> np.ndarray | None:
    """(C,) from a constant that spreads along axis 1 of a tensor of `rank` alone, (1,) from a scalar."""
    if rank is None or value.dtype.kind != "f" or value.ndim > rank:
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if value.size == 1:
        return value.reshape(1).astype(np.float64)
    if rank < 2 or value.size != shape[1]:
        return None
    return value.reshape(-1).astype(np.float64)


def _fold_into(rewriter: Rewriter, producer: Node, affine: Affine) -> Node | None:
    """`producer` with new parameters, or None where it cannot take the affine in."""
    if producer.domain:
        return None
    if producer.op_type in ("Conv", "ConvTranspose"):
        return _fold_into_convolution(rewriter, producer, affine)
    return _fold_into_norm(rewriter, producer, affine) if producer.op_type == "BatchNormalization" else None


def _fold_into_convolution(rewriter: Rewriter, conv: Node, affine: Affine) -> Node | None:
    weights = rewriter.constants(name for name in conv.inputs[1:] if name)
    if weights is None:
        return None
    w, groups = weights[0], conv.attrs.get("group", 1)
    channels = w.shape[0] if conv.op_type == "Conv" else w.shape[1] * groups
    if affine.factor.size not in (1, channels):
        return None
    factor = np.broadcast_to(affine.factor, (channels,))
    scale = factor.astype(np.promote_types(w.dtype, np.float32))
    start = weights[1].astype(np.float64) if len(weights) > 1 else np.zeros(channels)
    if conv.op_type == "Conv":
        scaled = w * scale.reshape(-1, *[1] * (w.ndim - 1))
    else:
        by_group = w.reshape(groups, -1, *w.shape[1:])
        scaled = (by_group * scale.reshape(groups, 1, -1, *[1] * (w.ndim - 2))).reshape(w.shape)
    bias = (start * factor + affine.shift).astype(w.dtype)
    name = conv.inputs[1]
    new_w = rewriter.add_constant(f"{name}.folded", scaled.astype(w.dtype, copy=False))
    return replace(conv, inputs=[conv.inputs[0], new_w, rewriter.add_constant(f"{name}.bias", bias)])


def _fold_into_norm(rewriter: Rewriter, norm: Node, affine: Affine) -> Node | None:
    own = _batch_norm(rewriter, norm)
    if own is None or affine.factor.size not in (1, own.factor.size):
        return None
    scale, bias = (rewriter.graph.initializers[name] for name in norm.inputs[1:3])
    new_scale = (scale * affine.factor).astype(scale.dtype)
    new_bias = (bias * affine.factor + affine.shift).astype(bias.dtype)
    names = [
        rewriter.add_constant(f"{name}.folded", array)
        for name, array in zip(norm.inputs[1:3], (new_scale, new_bias), strict=True)
    ]
    return replace(norm, inputs=[norm.inputs[0], *names, *norm.inputs[3:]])
