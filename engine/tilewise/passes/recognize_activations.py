"""One node for an activation that is written as several."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from tilewise.graph import Graph, Node
from tilewise.passes.algebra import close, product, total
from tilewise.passes.recognize_clips import clip_bounds
from tilewise.passes.rewrite import Rewriter

Match = tuple[str, str, dict[str, Any], list[Node]]
"""Operator, its input, its attributes, and the nodes that it stands for beside the product that ends them."""

_VERSIONS = {"Swish": 24, "HardSwish": 22, "HardSigmoid": 22, "Gelu": 20, "Mish": 22, "Softplus": 22}


def recognize_activations(graph: Graph) -> None:
    """Swish, HardSwish, HardSigmoid, Gelu by erf and by tanh, Mish and Softplus as PyTorch and TensorFlow write them.

    Where constants are compared, they may differ from the exact ones by rounding to the type of x.
    """
    rewriter = Rewriter(graph)
    for node in rewriter.nodes():
        if node.op_type == "Where" and not node.domain:
            _replace_softplus(rewriter, node)
    for node in reversed(rewriter.nodes()):
        if node.op_type in ("Mul", "Div") and not node.domain and rewriter.holds(node):
            _replace_product(rewriter, node)
    rewriter.finish()


def _replace_product(r: Rewriter, root: Node) -> None:
    terms = product(r, root.outputs[0])
    if not terms.nodes or len(terms.leaves) not in (1, 2):
        return
    for x, gate in _splits(terms.leaves):
        node = r.producer(gate)
        match = None
        if node is not None and not node.domain:
            for rule in _RULES.get((node.op_type, bool(x)), ()):
                match = match or rule(r, x, node, terms.constant)
        if match is not None and closed(r, [*match[3], *terms.nodes], root):
            op_type, source, attrs, nodes = match
            new = Node(op_type, [source], root.outputs, attrs, root.name, "", _VERSIONS[op_type])
            r.replace([*nodes, *terms.nodes], new)
            return


def _splits(leaves: list[str]) -> list[tuple[str, str]]:
    """(x, gate): one factor and the other, in both orders; "" and the gate where there is one factor alone."""
    return [("", leaves[0])] if len(leaves) == 1 else [(leaves[0], leaves[1]), (leaves[1], leaves[0])]


def closed(r: Rewriter, nodes: list[Node], root: Node) -> bool:
    """True where nothing but `nodes` reads what they make, `root` apart."""
    inside = {id(node) for node in nodes}
    if len(inside) != len(nodes):
        return False
    return all(
        r.only_read_by(name, *(n for n in r.readers(name) if id(n) in inside))
        for node in nodes
        if node is not root
        for name in node.outputs
        if name
    )


def _swish(r: Rewriter, x: str, gate: Node, constant: float) -> Match | None:
    """x sigmoid(alpha x)."""
    scaled = product(r, gate.inputs[0])
    if constant != 1:
        return None
    if gate.inputs[0] == x:
        return "Swish", x, {"alpha": 1.0}, [gate]
    if scaled.leaves == [x]:
        return "Swish", x, {"alpha": scaled.constant}, [*scaled.nodes, gate]
    return None


def _hard_swish(r: Rewriter, x: str, gate: Node, constant: float) -> Match | None:
    """x hard_sigmoid(x), with the slope that ONNX HardSwish has."""
    alpha, beta = gate.attrs.get("alpha", 0.2), gate.attrs.get("beta", 0.5)
    same = close(alpha, 1 / 6, r.fact(x).dtype) and beta == 0.5
    return ("HardSwish", x, {}, [gate]) if constant == 1 and gate.inputs[0] == x and same else None


def _clipped(r: Rewriter, x: str, gate: Node, constant: float) -> Match | None:
    """constant * clip(slope * s + shift, 0, high), by x where there is one: HardSigmoid or HardSwish."""
    bounds = clip_bounds(r, gate)
    line = _line(r, gate.inputs[0])
    if bounds is None or bounds[0] != 0 or line is None:
        return None
    source, slope, shift, nodes = line
    dtype = r.fact(source).dtype
    if not close(bounds[1] * constant, 1.0, dtype) or slope <= 0:
        return None
    alpha, beta = slope * constant, shift * constant
    if not x:
        return "HardSigmoid", source, {"alpha": alpha, "beta": beta}, [*nodes, gate]
    if x == source and close(alpha, 1 / 6, dtype) and close(beta, 0.5, dtype):
        return "HardSwish", x, {}, [*nodes, gate]
    return None


def _line(r: Rewriter, name: str) -> tuple[str, float, float, list[Node]] | None:
    """(s, slope, shift, nodes) of slope * s + shift."""
    added = total(r, name)
    if len(added.leaves) != 1 or not added.nodes:
        return None
    scaled = product(r, added.leaves[0])
    if len(scaled.leaves) == 1 and scaled.nodes and r.only_read_by(added.leaves[0], added.nodes[-1]):
        return scaled.leaves[0], scaled.constant, added.constant, [*scaled.nodes, *added.nodes]
    return added.leaves[0], 1.0, added.constant, added.nodes


def _gelu(r: Rewriter, x: str, gate: Node, constant: float) -> Match | None:
    """x (1 + erf(x / sqrt(2))) / 2, or with tanh(sqrt(2 / pi) (x + 0.044715 x^3))."""
    dtype = r.fact(x).dtype
    added = total(r, gate.outputs[0])
    if constant != 0.5 or added.constant != 1 or len(added.leaves) != 1:
        return None
    function = r.producer(added.leaves[0], "Erf", "Tanh")
    if function is None:
        return None
    inner = product(r, function.inputs[0])
    nodes = [*inner.nodes, function, *added.nodes]
    if function.op_type == "Erf":
        found = inner.leaves == [x] and close(inner.constant, math.sqrt(0.5), dtype)
        return ("Gelu", x, {"approximate": "none"}, nodes) if found else None
    cubic = _cubic(r, x, inner.leaves)
    if cubic is None or not close(inner.constant, math.sqrt(2 / math.pi), dtype):
        return None
    return "Gelu", x, {"approximate": "tanh"}, [*cubic, *nodes]


def _cubic(r: Rewriter, x: str, factors: list[str]) -> list[Node] | None:
    """The nodes of x + 0.044715 x^3, or of x and 1 + 0.044715 x^2 as two factors."""
    if len(factors) == 1:
        added, power = total(r, factors[0]), 3
        if added.constant != 0 or x not in added.leaves or len(added.leaves) != 2:
            return None
        rest = added.leaves[1 - added.leaves.index(x)]
    elif len(factors) == 2 and x in factors:
        added, power = total(r, factors[1 - factors.index(x)]), 2
        if added.constant != 1 or len(added.leaves) != 1:
            return None
        rest = added.leaves[0]
    else:
        return None
    high = product(r, rest)
    found = Counter(high.leaves) == {x: power} and close(high.constant, 0.044715, r.fact(x).dtype)
    return [*high.nodes, *added.nodes] if found else None


def _mish(r: Rewriter, x: str, gate: Node, constant: float) -> Match | None:
    """x tanh(softplus(x))."""
    inner = r.producer(gate.inputs[0], "Softplus")
    if constant != 1 or inner is None or inner.inputs[0] != x:
        return None
    return "Mish", x, {}, [inner, gate]


_RULES: dict[tuple[str, bool], list[Callable[[Rewriter, str, Node, float], Match | None]]] = {
    ("Sigmoid", True): [_swish],
    ("HardSigmoid", True): [_hard_swish],
    ("Clip", True): [_clipped],
    ("Clip", False): [_clipped],
    ("Add", True): [_gelu],
    ("Tanh", True): [_mish],
}
"""By the operator of the gate, and whether something is multiplied by it."""


def _replace_softplus(r: Rewriter, root: Node) -> None:
    """Where(x > threshold, x, Softplus(x)), for a threshold above which float32 has no room for the difference."""
    condition, x, other = root.inputs
    greater, softplus = r.producer(condition, "Greater"), r.producer(other, "Softplus")
    if greater is None or softplus is None or softplus.inputs[0] != x or greater.inputs[0] != x:
        return
    threshold, dtype = r.scalar(greater.inputs[1], x), r.fact(x).dtype
    if threshold is None or threshold < 17 or dtype is None or dtype.itemsize > 4:
        return
    if closed(r, [greater, softplus, root], root):
        r.replace([greater, softplus, root], Node("Softplus", [x], root.outputs, {}, root.name, "", 22))
