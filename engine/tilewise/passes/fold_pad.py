"""Let a convolution or pooling do the padding that is before it."""

from __future__ import annotations

from dataclasses import replace

from tilewise.graph import Graph, Node
from tilewise.passes.recognize_clips import clip_bounds
from tilewise.passes.rewrite import Rewriter


def fold_pad(graph: Graph) -> None:
    """Pad of spatial axes by a constant joins the pads of Conv, AveragePool and MaxPool.

    Conv and AveragePool take zeros, AveragePool where all padding counts. MaxPool, which pads by what is below all,
    takes what is not above any element of x; not with a second output.
    """
    if not any(node.op_type == "Pad" and not node.domain for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if node.domain or node.op_type not in ("Conv", "AveragePool", "MaxPool"):
            continue
        pad = rewriter.producer(node.inputs[0], "Pad")
        folded = None if pad is None else _fold(rewriter, pad, node)
        if folded is not None:
            rewriter.replace([node], folded)
    rewriter.finish()


def _fold(r: Rewriter, pad: Node, node: Node) -> Node | None:
    added = _pads(r, pad)
    if added is None or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        return None
    own = node.attrs.get("pads") if node.attrs.get("auto_pad") != "VALID" else None
    own = list(own or [0] * len(added))
    if len(own) != len(added) or not _fits(r, pad, node, own):
        return None
    pads = [a + b for a, b in zip(own, added, strict=True)]
    attrs = dict(node.attrs, pads=pads, auto_pad="NOTSET")
    if node.op_type == "AveragePool":
        attrs["count_include_pad"] = 1
    return replace(node, inputs=[pad.inputs[0], *node.inputs[1:]], attrs=attrs)


def _pads(r: Rewriter, pad: Node) -> list[int] | None:
    """Begins, then ends, of the spatial axes; None where others are padded, or axes are cropped."""
    if pad.attrs.get("mode", "constant") != "constant":
        return None
    pads = r.integers(pad, 1, "pads")
    rank = r.fact(pad.outputs[0]).rank
    if pads is None or rank is None:
        return None
    begins, ends = [0] * rank, [0] * rank
    axes: list[int] | None = list(range(rank))
    if len(pad.inputs) > 3 and pad.inputs[3]:
        axes = r.integers(pad, 3, "axes")
    if axes is None or len(pads) != 2 * len(axes):
        return None
    for i, axis in enumerate(axes):
        begins[axis], ends[axis] = pads[i], pads[len(axes) + i]
    if any(begins[:2]) or any(ends[:2]) or min(pads, default=0) < 0:
        return None
    return [*begins[2:], *ends[2:]]


def _value(r: Rewriter, pad: Node) -> float | None:
    """What is padded with, None where that is not constant."""
    if len(pad.inputs) > 2 and pad.inputs[2]:
        value = r.constant(pad.inputs[2])
        return None if value is None or value.size != 1 else float(value.reshape(()).astype("float64"))
    return float(pad.attrs.get("value", 0.0))


def _fits(r: Rewriter, pad: Node, node: Node, own: list[int]) -> bool:
    value = _value(r, pad)
    if node.op_type == "Conv":
        return value == 0
    if node.attrs.get("ceil_mode", 0):
        return False
    if node.op_type == "AveragePool":
        return value == 0 and (not any(own) or bool(node.attrs.get("count_include_pad", 0)))
    if value is None or any(node.outputs[1:]) or not _overlaps(r, pad, node, own):
        return False
    return value <= _least(r, pad.inputs[0])


def _overlaps(r: Rewriter, pad: Node, node: Node, own: list[int]) -> bool:
    """True where no window lies in padding alone."""
    kernel = node.attrs["kernel_shape"]
    dilations = node.attrs.get("dilations") or [1] * len(kernel)
    added = _pads(r, pad) or own
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    return all(a + b < span for a, b, span in zip(own, added, spans * 2, strict=True))


def _least(r: Rewriter, x: str) -> float:
    """A bound that no element of x is below."""
    maker = r.producer(x, "Relu", "Sigmoid", "HardSigmoid", "Clip")
    if maker is None:
        return float("-inf")
    bounds = clip_bounds(r, maker) if maker.op_type == "Clip" else (0.0, 1.0)
    return float("-inf") if bounds is None else bounds[0]
