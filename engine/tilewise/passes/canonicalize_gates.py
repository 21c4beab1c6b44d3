"""One form for means of whole planes and for what gates channels by them (squeeze and excitation)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.fuse_activation import ACTIVATIONS
from tilewise.passes.rewrite import Rewriter

_PRODUCTS = {("", "Gemm"), ("", "MatMul"), ("tilewise", "FusedMatMul")}
_FLOATS = ("float16", "float32", "float64")


def canonicalize_gates(graph: Graph) -> None:
    """Means of whole planes become GlobalAveragePool, linear layers on what it gives 1x1 convolutions.

    The means: AveragePool, and ReduceMean over two axes or more. The layers: only where they lead from (N, C, 1, ...)
    to (N, C', 1, ...), with no reshaping left: GlobalAveragePool, 1x1 Conv, activation, 1x1 Conv, activation.
    """
    if not any(n.op_type in ("ReduceMean", "AveragePool", "GlobalAveragePool") for n in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if not node.domain and node.op_type in ("ReduceMean", "AveragePool"):
            _mean(rewriter, node)
    for node in rewriter.nodes():
        if not node.domain and node.op_type == "GlobalAveragePool":
            _gate(rewriter, node)
    rewriter.finish()


def _mean(r: Rewriter, node: Node) -> None:
    x = r.fact(node.inputs[0])
    if x.shape is None or x.rank < 4 or x.dtype is None or x.dtype.name not in _FLOATS:
        return
    if node.op_type == "AveragePool":
        if _covers_plane(node, x.shape[2:]):
            r.replace([node], Node("GlobalAveragePool", node.inputs[:1], node.outputs, {}, node.name, "", 22))
        return
    axes = r.integers(node, 1, "axes")
    if not axes or sorted(a % x.rank for a in axes) != list(range(2, x.rank)):
        return
    pool = Node("GlobalAveragePool", node.inputs[:1], list(node.outputs), {}, node.name, "", 22)
    if node.attrs.get("keepdims", 1):
        r.replace([node], pool)
        return
    pool.outputs = [r.fresh(f"{node.outputs[0]}.mean")]
    r.replace([node], pool, Node("Flatten", pool.outputs, node.outputs, {"axis": 1}, node.name, "", 13))


def _covers_plane(node: Node, size: tuple) -> bool:
    """True for the one window of a kernel as large as the plane."""
    attrs = node.attrs
    padded = any(attrs.get("pads") or []) or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "")
    dilated = any(d != 1 for d in attrs.get("dilations") or [])
    return not padded and not dilated and tuple(attrs["kernel_shape"]) == tuple(size)


def _gate(r: Rewriter, pool: Node) -> None:
    """From the node that drops the plane's axes to the one that adds them again."""
    rank = r.fact(pool.inputs[0]).rank
    channels = None if rank is None else r.fact(pool.inputs[0]).shape[1]
    flat = r.sole_reader(pool.outputs[0], "Flatten", "Reshape", "Squeeze")
    if rank is None or not isinstance(channels, int) or flat is None or flat.inputs[0] != pool.outputs[0]:
        return
    old, new = [flat], []
    source, value = pool.outputs[0], flat.outputs[0]
    while True:
        reader = r.sole_reader(value)
        if reader is None or reader.inputs[0] != value or not _is_row(r, value, channels):
            return
        old.append(reader)
        if not reader.domain and reader.op_type in ("Reshape", "Unsqueeze"):
            break
        made = r.fresh(f"{reader.outputs[0]}.plane")
        layer = _on_planes(r, reader, source, made, rank)
        if layer is None:
            return
        if layer.op_type == "Conv":
            channels = r.graph.initializers[layer.inputs[1]].shape[0]
        new.append(layer)
        source, value = made, reader.outputs[0]
    if new and _is_column(r, old[-1].outputs[0], channels, rank):
        new[-1].outputs = list(old[-1].outputs)
        r.replace(old, *new)


def _on_planes(r: Rewriter, node: Node, x: str, y: str, rank: int) -> Node | None:
    """What `node` does with (N, C), done with x (N, C, 1, ...); None where it is no layer of a gate."""
    if not node.domain and node.op_type in ACTIVATIONS:
        return replace(node, inputs=[x, *node.inputs[1:]], outputs=[y])
    conv = _as_convolution(r, node, x, rank)
    return None if conv is None else replace(conv, outputs=[y])


def _is_row(r: Rewriter, name: str, channels: int) -> bool:
    """True for (N, C)."""
    shape = r.fact(name).shape
    return shape is not None and len(shape) == 2 and shape[1] == channels


def _is_column(r: Rewriter, name: str, channels: int, rank: int) -> bool:
    """True for (N, C, 1, ...)."""
    shape = r.fact(name).shape
    return shape is not None and len(shape) == rank and shape[1:] == (channels, *[1] * (rank - 2))


def _as_convolution(r: Rewriter, node: Node, x: str, rank: int) -> Node | None:
    """A 1x1 convolution of x (N, C, 1, ...) that does what Gemm or MatMul does with its first input (N, C)."""
    w = r.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if (node.domain, node.op_type) not in _PRODUCTS or w is None or w.ndim != 2:
        return None
    attrs = node.attrs
    if (
        attrs.get("activation")
        or attrs.get("transA", 0)
        or attrs.get("alpha", 1.0) != 1.0
        or attrs.get("beta", 1.0) != 1.0
    ):
        return None
    w = w if attrs.get("transB", 0) else w.T
    inputs = [x, ""]
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = r.constant(node.inputs[2])
        if bias is None or bias.size != w.shape[0] or bias.shape[-1:] != (w.shape[0],):
            return None
        inputs.append(r.add_constant(f"{node.inputs[2]}.row", bias.reshape(-1)))
    kernel = np.ascontiguousarray(w).reshape(*w.shape, *[1] * (rank - 2))
    inputs[1] = r.add_constant(f"{node.inputs[1]}.kernel", kernel)
    conv = {"kernel_shape": [1] * (rank - 2), "group": 1, "auto_pad": "NOTSET"}
    return Node("Conv", inputs, list(node.outputs), conv, node.name, "", 22)
