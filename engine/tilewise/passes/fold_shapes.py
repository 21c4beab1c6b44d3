"""Arithmetic on shapes, as far as they are known before a run, becomes constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.graph.facts import Dim, Shape
from tilewise.ops.inference import evaluate, infer_in
from tilewise.ops.table import make

Dims = np.ndarray
"""The content of a tensor of integers, as objects: an int, a free dim's name, or None for what is not known."""


def fold_shapes(graph: Graph) -> None:
    """What Shape nodes and arithmetic on their results say is known becomes an initializer.

    The target of a Reshape becomes one where -1 and 0 can stand for what is not known. What sizes say of the
    results of Resize and ConstantOfShape is added to the graph's facts.
    """
    if not any(node.op_type == "Shape" and not node.domain for node in graph.nodes):
        return
    facts = {name: Fact.of(array) for name, array in graph.initializers.items()}
    facts.update({name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
    contents: dict[str, Dims] = {}
    derived: set[str] = set()
    kept = []
    for node in graph.nodes:
        if not node.domain and node.op_type in _SIZED:
            _state_shape(graph, node, contents)
        if not node.domain and node.op_type == "Reshape":
            _write_target(graph, node, facts, contents)
        infer_in(graph, node, facts)
        found = _content(node, facts, contents)
        if found is not None and _whole(found):
            name = node.outputs[0]
            facts[name] = Fact.of(found.astype(facts[name].dtype or np.int64))
        elif found is not None:
            contents[node.outputs[0]] = found
        names = [name for name in node.outputs if name]
        if node.op_type == "Shape" or not derived.isdisjoint(node.inputs):
            derived.update(names)
        if not derived.isdisjoint(names) and all(isinstance(facts[name].value, np.ndarray) for name in names):
            graph.initializers.update({name: facts[name].value for name in names})
        else:
            kept.append(node)
    graph.nodes = kept


def _content(node: Node, facts: dict[str, Fact], contents: dict[str, Dims]) -> Dims | None:
    """What is known of a node's one result, None where it is nothing."""
    if node.domain or len(node.outputs) != 1:
        return None
    if node.op_type == "Shape":
        return _shape(node, facts.get(node.inputs[0], UNKNOWN))
    if node.op_type not in _RULES:
        return None
    ins = [_known(name, facts, contents) if name else None for name in node.inputs]
    if any(a is None for a, name in zip(ins, node.inputs, strict=True) if name):
        return None
    if not any(name in contents for name in node.inputs):
        return None
    return _RULES[node.op_type](node, ins)


def _known(name: str, facts: dict[str, Fact], contents: dict[str, Dims]) -> Dims | None:
    if name in contents:
        return contents[name]
    value = facts.get(name, UNKNOWN).value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        return None
    return value.astype(object)


def _shape(node: Node, x: Fact) -> Dims | None:
    if x.shape is None:
        return None
    end = node.attrs.get("end")
    dims = x.shape[slice(node.attrs.get("start", 0), len(x.shape) if end is None else end)]
    out = np.empty(len(dims), object)
    out[:] = dims
    return out


def _moved(node: Node, ins: list) -> Dims | None:
    """Operators that only select and arrange: NumPy does it with objects as with numbers."""
    parameters = ins[1:]
    if node.op_type != "Concat":
        if not all(a is None or _whole(a) for a in parameters):
            return None
        parameters = [None if a is None else a.astype(np.int64) for a in parameters]
    (result,) = evaluate(make(node), [ins[0], *parameters])
    return np.asarray(result, object)


def _whole(a: Dims) -> bool:
    return all(isinstance(d, int) for d in a.flat)


def _cast(node: Node, ins: list) -> Dims | None:
    return ins[0] if node.attrs["to"] in (6, 7) else None  # int32, int64


def _arithmetic(node: Node, ins: list) -> Dims | None:
    compute = np.frompyfunc(_SCALAR[node.op_type], 2, 1)
    return np.asarray(compute(*ins), object)


def _add(a: Any, b: Any) -> Any:
    return a + b if _ints(a, b) else a if b == 0 else b if a == 0 else None


def _sub(a: Any, b: Any) -> Any:
    return a - b if _ints(a, b) else a if b == 0 else None


def _mul(a: Any, b: Any) -> Any:
    return a * b if _ints(a, b) else a if b == 1 else b if a == 1 else None


def _div(a: Any, b: Any) -> Any:
    if not _ints(a, b):
        return a if b == 1 else None
    return a // b if a >= 0 and b > 0 else None


def _ints(*values: Any) -> bool:
    return all(isinstance(v, int) for v in values)


_SCALAR: dict[str, Callable[[Any, Any], Any]] = {"Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div}
_MOVING = ("Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze")
_RULES: dict[str, Callable[[Node, list], Dims | None]] = {
    **dict.fromkeys(_MOVING, _moved),
    **dict.fromkeys(_SCALAR, _arithmetic),
    "Cast": _cast,
}
_SIZED = {"Resize": 3, "ConstantOfShape": 0}
"""The input that holds the result's shape."""


def _state_shape(graph: Graph, node: Node, contents: dict[str, Dims]) -> None:
    i, out = _SIZED[node.op_type], node.outputs[0]
    sizes = contents.get(node.inputs[i]) if len(node.inputs) > i else None
    cropped = node.attrs.get("axes") or node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    if sizes is None or sizes.ndim != 1 or (node.op_type == "Resize" and cropped):
        return
    declared = graph.facts.get(out, UNKNOWN)
    if declared.shape is None or len(declared.shape) == len(sizes):
        graph.facts[out] = replace(declared, shape=tuple(sizes.tolist()))


def _write_target(graph: Graph, node: Node, facts: dict[str, Fact], contents: dict[str, Dims]) -> None:
    """A constant in place of a computed target, where -1 and 0 (the input's dim) can say what is not known."""
    target = contents.get(node.inputs[1])
    if target is None or target.ndim != 1 or _whole(target):
        return
    dims = _as_target(target.tolist(), facts.get(node.inputs[0], UNKNOWN).shape or ())
    if dims is None:
        return
    name = f"{node.outputs[0]}.shape"
    while name in facts or name in graph.initializers:
        name += "_"
    graph.initializers[name] = np.array(dims, np.int64)
    facts[name] = Fact.of(graph.initializers[name])
    node.inputs = [node.inputs[0], name]
    node.attrs["allowzero"] = 0


def _as_target(dims: list[Dim], shape: Shape) -> list[int] | None:
    """The dims as Reshape takes them, None where that does not say it all."""
    if 0 in dims:
        return None
    free = [i for i, d in enumerate(dims) if not isinstance(d, int)]
    out = [d if isinstance(d, int) else -1 for d in dims]
    if out.count(-1) > 1:
        for i in free:
            if dims[i] is not None and i < len(shape) and shape[i] == dims[i]:
                out[i] = 0
    return out if out.count(-1) <= 1 else None
