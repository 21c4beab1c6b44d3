"""Reverse mode: from the gradients of some values to those of others, along the graph's nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tilewise.autodiff.emitter import Emitter
from tilewise.autodiff.rules import Step, depends, rule_of
from tilewise.errors import ModelError, Unsupported, UnsupportedError
from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.ops.elementwise import FLOATS
from tilewise.ops.inference import infer


def backward(
    graph: Graph,
    gradients: Mapping[str, str | None],
    wrt: Sequence[str],
    *,
    fixed: Collection[str] = (),
    emit: Emitter | None = None,
) -> dict[str, str]:
    """Append to `graph` the nodes that make the gradients of `wrt`; the names of these, by value name.

    gradients: by the name of an output or inner value, the name of its gradient, which has its shape and type
        and is made by the graph; None stands for ones.
    wrt: graph inputs, initializers or inner values; one that has no influence gets zeros.
    fixed: values that are taken for independent: no gradient goes on to what they were made from.
    emit: appends to `graph`; by default under names that start with "gradient".
    Gradients of a value with several readers are summed in the reverse order of the readers, so sums do not
    depend on anything but the graph. `UnsupportedError` lists the nodes in the way that have no rule.
    """
    emit = emit or Emitter(graph, "gradient")
    facts = infer(graph, {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
    for name in (*gradients, *wrt):
        _expect_float(name, facts)
    path, active = _path(graph.nodes, gradients, wrt, fixed, facts)
    _check(path, active)
    grads = {name: dy or emit.full(1.0, facts[name].dtype, name) for name, dy in gradients.items()}
    for node in reversed(path):
        _step(node, active, grads, emit, facts)
    return {name: grads.get(name) or emit.full(0.0, facts[name].dtype, name) for name in wrt}


def _path(
    nodes: Sequence[Node],
    gradients: Collection[str],
    wrt: Sequence[str],
    fixed: Collection[str],
    facts: Mapping[str, Fact],
) -> tuple[list[Node], set[str]]:
    """The nodes between `wrt` and the values with `gradients`, in order, and all values that depend on `wrt`."""
    active = set(wrt)
    for node in nodes:
        if any(name in active for name in _sources(node)):
            active.update(o for o in node.outputs if o and o not in fixed and _differentiable(facts[o]))
    needed, path = set(gradients), []
    for node in reversed(nodes):
        sources = [name for name in _sources(node) if name in active]
        if sources and any(o in needed and o in active and o not in fixed for o in node.outputs):
            path.append(node)
            needed.update(sources)
    return path[::-1], active


def _sources(node: Node) -> list[str]:
    """What the node reads whose content has an influence on its results."""
    return [name for i, name in enumerate(node.inputs) if name and depends(node, i)] + list(node.captures)


def _differentiable(fact: Fact) -> bool:
    """False for integers, bools and strings."""
    return fact.kind != "tensor" or fact.dtype is None or fact.dtype.name in FLOATS


def _expect_float(name: str, facts: Mapping[str, Fact]) -> None:
    fact = facts.get(name)
    if fact is None:
        raise ModelError(f"a gradient of {name!r}: expected the name of a value of the graph")
    if fact.kind != "tensor" or fact.dtype is None or not _differentiable(fact):
        raise ModelError(f"a gradient of {name!r}: expected a floating-point tensor, got {fact}")


def _check(path: Sequence[Node], active: Collection[str]) -> None:
    findings = []
    for node in path:
        missing = [i for i in _active_inputs(node, active) if rule_of(node, i) is None]
        if missing or node.captures:
            named = f"input {missing[0]} of " if missing and rule_of(node, 0) else ""
            findings.append(
                Unsupported(node.label, node.op_type, f"no gradient rule for {named}the operator")
            )
    if findings:
        raise UnsupportedError(findings)


def _active_inputs(node: Node, active: Collection[str]) -> list[int]:
    return [i for i, name in enumerate(node.inputs) if name in active and depends(node, i)]


def _step(
    node: Node, active: Collection[str], grads: dict[str, str], emit: Emitter, facts: Mapping[str, Fact]
) -> None:
    """Add what the node passes back to the gradients of its inputs."""
    for i in _active_inputs(node, active):
        rule = rule_of(node, i)
        assert rule is not None
        name, dx = node.inputs[i], rule(Step(node, i, grads[node.outputs[0]], emit, facts))
        grads[name] = emit("Add", grads[name], dx) if name in grads else dx
