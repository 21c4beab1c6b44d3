"""Operator forms older than opset 7 rewritten as those of opset 7.

Operators that are the same in both need no more than the version. Of the rest, those of opset 6 are
rewritten: opset 7 replaced the `broadcast` and `axis` attributes of binary operators by NumPy's rules, and
`is_test` by forms without it. A node that cannot be rewritten keeps its version, which the check reports.
"""

from __future__ import annotations

from collections.abc import Callable

from tilewise.graph import Graph, Node
from tilewise.onnx.schema import MIN_OPSET, fill_defaults, find_schema
from tilewise.onnx.survey import Facts, begin, learn

Rewrite = Callable[[Node, Facts], list[Node] | None]


def upgrade(graph: Graph) -> Graph:
    """`graph` itself, its nodes of older opsets in the form of opset 7 where there is one."""
    if graph.opsets.get("", MIN_OPSET) >= MIN_OPSET:
        return graph
    facts = begin(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        for new in _upgraded(node, facts):
            learn(new, facts, graph.facts)
            nodes.append(new)
    graph.nodes = nodes
    return graph


def _upgraded(node: Node, facts: Facts) -> list[Node]:
    if node.domain or node.version >= MIN_OPSET:
        return [node]
    form, last, new = (_since(node.op_type, v) for v in (node.version, MIN_OPSET - 1, MIN_OPSET))
    rewrite: Rewrite | None = None
    if form is not None and form == new:
        rewrite = _keep
    elif form is not None and form == last:
        rewrite = _REWRITES.get(node.op_type)
    nodes = rewrite(node, facts) if rewrite is not None else None
    if nodes is None:
        return [node]
    for made in nodes:
        made.version = MIN_OPSET
        fill_defaults(made)
    return nodes


def _since(op_type: str, version: int) -> int | None:
    """The opset that introduced the form in force at `version`."""
    schema = find_schema(op_type, version)
    return None if schema is None else schema.since_version


def _keep(node: Node, facts: Facts) -> list[Node]:
    return [node]


def _inference_only(node: Node, facts: Facts) -> list[Node] | None:
    """Dropout and BatchNormalization: opset 7 knows the form for inference."""
    if node.attrs.get("is_test") != 1:
        return None
    del node.attrs["is_test"]
    return [node]


def _gemm(node: Node, facts: Facts) -> list[Node]:
    node.attrs.pop("broadcast", None)
    return [node]


def _binary(node: Node, facts: Facts) -> list[Node] | None:
    """Input 1 lies along the axes of input 0 from `axis` on, or along its last ones."""
    axis = node.attrs.get("axis")
    trailing = 0
    if isinstance(axis, int) and node.attrs.get("broadcast"):
        ranks = [_rank(name, facts) for name in node.inputs]
        if len(ranks) != 2 or ranks[0] is None or ranks[1] is None:
            return None
        trailing = ranks[0] - (axis % ranks[0] if ranks[0] else 0) - ranks[1]
        if trailing < 0:
            return None
    node.attrs.pop("axis", None)
    node.attrs.pop("broadcast", None)
    return _with_trailing_axes(node, trailing, facts)


def _prelu(node: Node, facts: Facts) -> list[Node] | None:
    """A slope of rank 1 lies along axis 1, the channels."""
    if len(node.inputs) != 2:
        return None
    rank, slope = _rank(node.inputs[0], facts), facts[node.inputs[1]]
    if slope.rank == 0 or slope.shape == (1,):
        return [node]
    if rank is None or slope.rank != 1:
        return None
    return _with_trailing_axes(node, max(rank - 2, 0), facts)


def _with_trailing_axes(node: Node, count: int, facts: Facts) -> list[Node]:
    """The node with `count` axes of one element appended to its second input."""
    if not count:
        return [node]
    name = node.inputs[1]
    rank = _rank(name, facts)
    assert rank is not None
    new = f"{name}/unsqueezed/{node.outputs[0]}"
    axes = list(range(rank, rank + count))
    unsqueeze = Node("Unsqueeze", [name], [new], {"axes": axes}, f"{node.label}/unsqueeze")
    node.inputs[1] = new
    return [unsqueeze, node]


def _rank(name: str, facts: Facts) -> int | None:
    fact = facts.get(name)
    return fact.rank if fact is not None and fact.kind == "tensor" else None


_REWRITES: dict[str, Rewrite] = {
    **dict.fromkeys(
        ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"), _binary
    ),
    "AveragePool": _keep,
    "BatchNormalization": _inference_only,
    "Dropout": _inference_only,
    "Gemm": _gemm,
    "PRelu": _prelu,
}
