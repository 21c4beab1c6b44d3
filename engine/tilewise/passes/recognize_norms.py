"""One node for a normalization that is written as several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewise.graph import Graph, Node
from tilewise.passes.algebra import product, total
from tilewise.passes.recognize_activations import closed
from tilewise.passes.rewrite import Rewriter, same_dims


@dataclass(slots=True)
class Root:
    """1 / sqrt(mean(power of d) + epsilon) of some d: its axes, and the nodes that make it."""

    d: str
    axes: list[int]
    epsilon: float
    nodes: list[Node]


def recognize_norms(graph: Graph) -> None:
    """LayerNormalization, RMSNormalization, InstanceNormalization and GroupNormalization from what they are written as.

    The first two over the last axes, the third over all but two: (x - mean) / sqrt(mean((x - mean)^2) + epsilon),
    or x / sqrt(mean(x^2) + epsilon), then a constant scale and bias. The last one from Reshape, InstanceNormalization,
    Reshape, then scale and bias by channel.
    """
    kinds = {node.op_type for node in graph.nodes if not node.domain}
    if not kinds & {"ReduceMean", "InstanceNormalization"}:
        return
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if node.domain or not rewriter.holds(node):
            continue
        if node.op_type in ("Div", "Mul"):
            _moments(rewriter, node)
        elif node.op_type == "InstanceNormalization":
            _groups(rewriter, node)
    rewriter.finish()


# From moments.


def _moments(r: Rewriter, node: Node) -> None:
    found = _quotient(r, node)
    if found is None:
        return
    d, root = found
    x, centre = _centre(r, d, root)
    axes = _axes(r, x, root.axes)
    if axes is None or not same_dims(r.fact(x), r.fact(node.outputs[0])):
        return
    trailing = axes == list(range(axes[0], r.fact(x).rank))
    old = list({id(n): n for n in (*centre, *root.nodes, node)}.values())
    if not trailing or not closed(r, old, node):
        return
    rank = r.fact(x).rank
    planes = r.fact(x).shape[1] if centre and axes[0] == 2 and rank > 3 else None
    new, after = (
        _instance_norm(r, node, x, planes, root.epsilon)
        if isinstance(planes, int)
        else _layer_norm(r, node, x, axes[0] - rank, root.epsilon, centered=bool(centre))
    )
    r.replace([*old, *after], new)


def _instance_norm(r: Rewriter, node: Node, x: str, channels: int, epsilon: float) -> tuple[Node, list[Node]]:
    """The node in place of `node`, and the nodes after it that it stands for too."""
    ones, zeros = np.ones(channels), np.zeros(channels)
    after, scale, bias = _by_channel(r, node.outputs[0], x, ones, zeros)
    names = _vectors(r, node.outputs[0], scale, bias, r.fact(x).dtype)
    outputs = list([node, *after][-1].outputs)
    new = Node("InstanceNormalization", [x, *names], outputs, {"epsilon": epsilon}, node.name, "", 22)
    return new, after


def _layer_norm(
    r: Rewriter, node: Node, x: str, axis: int, epsilon: float, *, centered: bool
) -> tuple[Node, list[Node]]:
    """The node in place of `node`, and the nodes after it that it stands for too."""
    scale, bias, after = _affine(r, node.outputs[0], x, r.fact(x).rank + axis, with_bias=centered)
    if not scale:
        scale = r.add_constant(f"{node.outputs[0]}.scale", np.ones((), r.fact(x).dtype))
    op_type, version = ("LayerNormalization", 17) if centered else ("RMSNormalization", 23)
    attrs = {"axis": axis, "epsilon": epsilon, "stash_type": 1}
    outputs = list([node, *after][-1].outputs)
    inputs = [x, scale, *([bias] if bias else [])]
    return Node(op_type, inputs, outputs, attrs, node.name, "", version), after


def _quotient(r: Rewriter, node: Node) -> tuple[str, Root] | None:
    """(d, 1 / sqrt(...)) of the division d / sqrt(...), or of a product with the reciprocal."""
    if node.op_type == "Div":
        root = _root(r, node.inputs[1])
        return None if root is None else (node.inputs[0], root)
    for d, other in (node.inputs, node.inputs[::-1]):
        reciprocal = r.producer(other, "Reciprocal", "Div", "Pow")
        if reciprocal is None:
            continue
        if reciprocal.op_type == "Pow":
            exponent = r.scalar(reciprocal.inputs[1], reciprocal.inputs[0])
            root = _mean_power(r, reciprocal.inputs[0]) if exponent == -0.5 else None
        elif reciprocal.op_type == "Div":
            one = r.scalar(reciprocal.inputs[0], reciprocal.inputs[1])
            root = _root(r, reciprocal.inputs[1]) if one == 1 else None
        else:
            root = _root(r, reciprocal.inputs[0])
        if root is not None:
            root.nodes.append(reciprocal)
            return d, root
    return None


def _root(r: Rewriter, name: str) -> Root | None:
    """sqrt(mean(d^2) + epsilon)."""
    sqrt = r.producer(name, "Sqrt", "Pow")
    if sqrt is None or (sqrt.op_type == "Pow" and r.scalar(sqrt.inputs[1], sqrt.inputs[0]) != 0.5):
        return None
    root = _mean_power(r, sqrt.inputs[0])
    if root is not None:
        root.nodes.append(sqrt)
    return root


def _mean_power(r: Rewriter, name: str) -> Root | None:
    """mean(d^2) + epsilon."""
    added = total(r, name)
    if len(added.leaves) != 1 or not added.nodes or added.constant <= 0:
        return None
    mean = r.producer(added.leaves[0], "ReduceMean")
    axes = None if mean is None else r.integers(mean, 1, "axes")
    if mean is None or not axes or not mean.attrs.get("keepdims", 1):
        return None
    square = product(r, mean.inputs[0])
    if square.constant != 1 or len(square.leaves) != 2 or len(set(square.leaves)) != 1:
        return None
    return Root(square.leaves[0], axes, added.constant, [*square.nodes, mean, *added.nodes])


def _centre(r: Rewriter, d: str, root: Root) -> tuple[str, list[Node]]:
    """(x, the nodes of x - mean(x)) where d is that, over the same axes; else (d, none), or "" for another's root."""
    subs = [r.producer(name, "Sub") for name in dict.fromkeys((d, root.d))]
    pairs = [(sub, None if sub is None else r.producer(sub.inputs[1], "ReduceMean")) for sub in subs]
    found = [(sub, mean) for sub, mean in pairs if sub is not None and mean is not None]
    names = {name for sub, mean in found for name in (sub.inputs[0], mean.inputs[0])}
    if len(found) < len(subs) or len(names) != 1:
        return (d if d == root.d else ""), []
    x = names.pop()
    axes = _axes(r, x, root.axes)
    for _, mean in found:
        given = r.integers(mean, 1, "axes")
        if not given or _axes(r, x, given) != axes or not mean.attrs.get("keepdims", 1):
            return "", []
    return x, [node for pair in found for node in pair]


def _axes(r: Rewriter, x: str, axes: list[int]) -> list[int] | None:
    fact = r.fact(x) if x else None
    if fact is None or fact.rank is None or fact.dtype is None or fact.dtype.kind != "f":
        return None
    return sorted(a % fact.rank for a in axes)


def _affine(r: Rewriter, y: str, x: str, axis: int, *, with_bias: bool) -> tuple[str, str, list[Node]]:
    """Names of a constant scale and bias that follow y, "" for none, and the nodes that apply them."""
    nodes: list[Node] = []
    found = {"Mul": "", "Add": ""}
    for op_type in ("Mul", "Add") if with_bias else ("Mul",):
        node = r.sole_reader(y, op_type)
        if node is None:
            continue
        other = node.inputs[1 - node.inputs.index(y)]
        value, fact = r.constant(other), r.fact(x)
        if value is None or value.dtype != fact.dtype or not _spreads(value.shape, fact.shape, axis):
            break
        found[op_type] = other
        nodes.append(node)
        y = node.outputs[0]
    return found["Mul"], found["Add"], nodes


def _spreads(shape: tuple, x: tuple, axis: int) -> bool:
    """True for a constant that varies along axes from `axis` on alone, and broadcasts to x as it is."""
    if len(shape) > len(x):
        return False
    padded = (1,) * (len(x) - len(shape)) + tuple(shape)
    return all(n == 1 or (i >= axis and n == d) for i, (n, d) in enumerate(zip(padded, x, strict=True)))


# From groups.


def _groups(r: Rewriter, norm: Node) -> None:
    """Reshape to (N, groups, ...), InstanceNormalization, Reshape back, then scale and bias by channel."""
    split = r.producer(norm.inputs[0], "Reshape")
    joined = r.sole_reader(norm.outputs[0], "Reshape")
    vectors = r.constants(norm.inputs[1:3])
    if split is None or joined is None or vectors is None or not r.only_read_by(norm.inputs[0], norm):
        return
    x, parts = r.fact(split.inputs[0]), r.fact(split.outputs[0])
    if x.shape is None or parts.shape is None or len(x.shape) < 3 or len(parts.shape) < 3:
        return
    channels, groups = x.shape[1], parts.shape[1]
    if not isinstance(channels, int) or not isinstance(groups, int) or groups < 1 or channels % groups:
        return
    if not _keeps_batch(r, split) or not _restores(r, split.inputs[0], joined):
        return
    scale, bias = (np.repeat(v.astype(np.float64), channels // groups) for v in vectors)
    nodes, scale, bias = _by_channel(r, joined.outputs[0], split.inputs[0], scale, bias)
    names = _vectors(r, norm.outputs[0], scale, bias, vectors[0].dtype)
    attrs = {"num_groups": groups, "epsilon": norm.attrs.get("epsilon", 1e-5), "stash_type": 1}
    old = [split, norm, joined, *nodes]
    outputs = list(old[-1].outputs)
    r.replace(old, Node("GroupNormalization", [split.inputs[0], *names], outputs, attrs, norm.name, "", 21))


def _keeps_batch(r: Rewriter, split: Node) -> bool:
    """True where the first dim of a Reshape stays as it is."""
    target = r.constant(split.inputs[1])
    if target is not None and target.size and target[0] == 0 and not split.attrs.get("allowzero", 0):
        return True
    before, after = (r.fact(name).shape[0] for name in (split.inputs[0], split.outputs[0]))
    return before is not None and before == after


def _restores(r: Rewriter, x: str, joined: Node) -> bool:
    """True where the result has the shape of x."""
    shape = r.producer(joined.inputs[1], "Shape")
    if shape is not None and shape.inputs[0] == x:
        return not shape.attrs.get("start", 0) and shape.attrs.get("end") is None
    return same_dims(r.fact(x), r.fact(joined.outputs[0]), unknown=1)


def _by_channel(
    r: Rewriter, y: str, x: str, scale: np.ndarray, bias: np.ndarray
) -> tuple[list[Node], np.ndarray, np.ndarray]:
    """Mul and Add by constants of a channel after y, and what scale and bias become with them."""
    nodes: list[Node] = []
    for op_type in ("Mul", "Add"):
        node = r.sole_reader(y, op_type)
        if node is None:
            continue
        value = r.constant(node.inputs[1 - node.inputs.index(y)])
        shape = r.fact(x).shape
        if value is None or value.dtype.kind != "f" or value.ndim > len(shape):
            break
        padded = (1,) * (len(shape) - value.ndim) + value.shape
        if any(n != 1 for i, n in enumerate(padded) if i != 1) or padded[1] not in (1, shape[1]):
            break
        row = np.broadcast_to(value.reshape(-1).astype(np.float64), scale.shape)
        scale, bias = (scale * row, bias * row) if op_type == "Mul" else (scale, bias + row)
        nodes.append(node)
        y = node.outputs[0]
    return nodes, scale, bias


def _vectors(r: Rewriter, like: str, scale: np.ndarray, bias: np.ndarray, dtype: np.dtype) -> list[str]:
    """Names of new constants."""
    return [
        r.add_constant(f"{like}.{what}", value.astype(dtype))
        for what, value in (("scale", scale), ("bias", bias))
    ]
