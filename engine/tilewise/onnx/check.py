"""What of a model cannot be run, all of it in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np

from tilewise.errors import ShapeError, TilewiseError, Unsupported, UnsupportedError
from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.onnx.load import load_graph
from tilewise.onnx.schema import (
    MIN_OPSET,
    SINGLE,
    Schema,
    find_schema,
    is_default,
    max_ir_version,
    max_opset,
)
from tilewise.onnx.source import Source
from tilewise.onnx.survey import Facts, begin, learn, look_up
from tilewise.onnx.topology import subgraphs
from tilewise.onnx.types import conflict, parameters, wrong_types
from tilewise.ops.base import Op
from tilewise.ops.inference import infer
from tilewise.ops.table import lookup

_GRADIENT = ("ai.onnx.preview.training", "Gradient")
_KINDS = ("tensor", "sequence", "optional", "map")

_PYTHON_TYPES: dict[str, tuple[type, type | None]] = {
    "FLOAT": (float, None),
    "INT": (int, None),
    "STRING": (str, None),
    "TENSOR": (np.ndarray, None),
    "GRAPH": (Graph, None),
    "SPARSE_TENSOR": (np.ndarray, None),
    "TYPE_PROTO": (Fact, None),
    "FLOATS": (list, float),
    "INTS": (list, int),
    "STRINGS": (list, str),
    "TENSORS": (list, np.ndarray),
    "GRAPHS": (list, Graph),
    "SPARSE_TENSORS": (list, np.ndarray),
    "TYPE_PROTOS": (list, Fact),
}
"""How the importer holds each attribute type: the class, and that of elements."""


def check_graph(graph: Graph) -> list[Unsupported]:
    """Every operator, attribute, type, opset and form in `graph` and its subgraphs that cannot be run.

    Also listed are nodes that ONNX's schema does not allow: unknown or missing attributes or ones of another
    type, numbers of inputs and outputs, deprecated operators. Empty for a model that can be run.
    """
    return Check(graph).findings


def load_checked(source: Source, *, base_dir: str | os.PathLike | None = None) -> Graph:
    """`load_graph`, then `UnsupportedError` with the list of `check_graph` if it has any entry.

    Gradient nodes are replaced by those that compute the gradients; what has no gradient rule is listed likewise.
    `ShapeError` where types or shapes contradict each other, inferred from the declared inputs.
    """
    graph = load_graph(source, base_dir=base_dir)
    check = Check(graph)
    if check.findings:
        raise UnsupportedError(check.findings)
    if check.conflicts:
        raise check.conflicts[0]
    if _GRADIENT in check.operators:
        from tilewise.passes.expand_gradient import expand_gradient

        expand_gradient(graph)
    infer(graph, {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
    return graph


class Check:
    """One walk over a graph: `findings` that are not supported, `conflicts` of types, in graph order.

    operators: domain and type of all nodes, in subgraphs too.
    """

    def __init__(self, graph: Graph) -> None:
        self.findings: list[Unsupported] = []
        self.conflicts: list[ShapeError] = []
        self.operators: set[tuple[str, str]] = set()
        self._model(graph)
        self._graph(graph, {})

    def _model(self, graph: Graph) -> None:
        opset, ir_version = graph.opsets.get(""), int(graph.info.get("ir_version", 0))
        if opset is not None and opset > max_opset():
            what = f"opset {opset} is not supported, expected at most {max_opset()}"
            self.findings.append(Unsupported(graph.name, "model", what))
        if ir_version > max_ir_version():
            what = f"IR version {ir_version} is not supported, expected at most {max_ir_version()}"
            self.findings.append(Unsupported(graph.name, "model", what))
        for name in (*graph.inputs, *graph.outputs):
            kind = graph.facts.get(name, UNKNOWN).kind
            if kind not in _KINDS:
                what = f"value {name!r} of kind {kind} is not supported, expected {', '.join(_KINDS)}"
                self.findings.append(Unsupported(graph.name, "model", what))

    def _graph(self, graph: Graph, outer: Mapping[str, Fact]) -> None:
        facts = begin(graph, outer)
        for node in graph.nodes:
            self._node(node, facts, graph)

    def _node(self, node: Node, facts: Facts, graph: Graph) -> None:
        known = len(self.findings)
        self.operators.add((node.domain, node.op_type))
        for _, inner in subgraphs(node):
            self._graph(inner, facts)
        schema = find_schema(node.op_type, node.version, node.domain)
        cls = lookup(node)
        found = list(_form(node, cls, schema))
        if schema is not None:
            ins = look_up(node.inputs, facts)
            found += wrong_types(schema.inputs, node.inputs, ins)
            what = conflict(schema.inputs, node.inputs, ins)
            if what is not None:
                self.conflicts.append(ShapeError(f"node {node.label!r} ({node.op_type}): {what}"))
        self.findings += [Unsupported(node.label, node.op_type, what) for what in found]
        if len(self.findings) > known:
            facts.update({name: graph.facts.get(name, UNKNOWN) for name in node.outputs if name})
            return
        error = learn(node, facts, graph.facts)
        if isinstance(error, UnsupportedError):
            self.findings += [f for f in error.findings if f not in self.findings]


def _form(node: Node, cls: type[Op] | None, schema: Schema | None) -> Iterator[str]:
    """What is wrong with the node apart from the types of its inputs, in words."""
    where = f"domain {node.domain!r}, opset {node.version}" if node.domain else f"opset {node.version}"
    if not node.domain and node.version < MIN_OPSET:
        yield f"the operator's form of {where} is not supported, expected {MIN_OPSET} or later"
    elif cls is None:
        yield f"operator not supported ({where})"
    elif schema is None and not node.domain:
        yield f"{where} has no such operator"
    elif schema is not None and schema.deprecated and not cls.runs_deprecated:
        yield f"deprecated in {where}"
    else:
        wrong = [*_attributes(node, cls, schema, where), *(_arity(node, schema) if schema else ())]
        yield from wrong or _unsupported(node, cls)


def _attributes(node: Node, cls: type[Op], schema: Schema | None, where: str) -> Iterator[str]:
    known = schema.attributes if schema is not None else {}
    for name, value in node.attrs.items():
        if schema is not None and name not in known:
            yield f"attribute {name!r} = {_show(value)} is not known in {where}"
        elif name in known and not _has_type(value, known[name].type):
            yield f"attribute {name!r} = {_show(value)}: expected {known[name].type}"
        elif name not in cls.attributes and not is_default(node, name):
            yield f"attribute {name!r} = {_show(value)} is not supported"
    for name, attribute in known.items():
        if attribute.required and name not in node.attrs:
            yield f"attribute {name!r} is required and missing"


def _has_type(value: object, wanted: str) -> bool:
    kind, element = _PYTHON_TYPES[wanted]
    if type(value) is not kind and not (kind is np.ndarray and isinstance(value, kind)):
        return False
    return element is None or all(isinstance(v, element) for v in value)  # type: ignore[attr-defined]


def _arity(node: Node, schema: Schema) -> Iterator[str]:
    for what, count, least, most in (
        ("inputs", len(node.inputs), schema.min_input, schema.max_input),
        ("outputs", len(node.outputs), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            yield f"{count} {what}, expected {least}" + (f" to {most}" if most > least else "")
    for i, formal in enumerate(parameters(schema.inputs, len(node.inputs))):
        if formal.option == SINGLE and not node.inputs[i]:
            yield f"input {i} ({formal.name}) is required and left out"


def _unsupported(node: Node, cls: type[Op]) -> Iterator[str]:
    try:
        what = cls(node).unsupported()
    except UnsupportedError as error:
        yield from (finding.what for finding in error.findings)
    except (TilewiseError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        yield f"attributes that do not fit: {error}"
    else:
        if what is not None:
            yield what


def _show(value: object) -> str:
    if isinstance(value, Graph):
        return f"graph {value.name!r}"
    shown = f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
