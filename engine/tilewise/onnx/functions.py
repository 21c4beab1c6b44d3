"""Model-local functions: each call is replaced by the function's nodes under names of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tilewise.errors import ModelError
from tilewise.graph import Node
from tilewise.onnx.fields import domain, text
from tilewise.onnx.messages import FunctionProto, GraphProto, ModelProto, OperatorSetIdProto

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


class Names:
    """Value names in use in a model, and new ones."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._calls: dict[str, int] = {}

    def fresh(self, name: str) -> str:
        """`name`, or a variation of it that nothing else has."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def call(self, label: str) -> str:
        """A prefix for the values of one call."""
        count = self._calls[label] = self._calls.get(label, 0) + 1
        return label if count == 1 else f"{label}_{count}"


@dataclass(slots=True)
class Frame:
    """What names and attribute references mean where a node stands.

    opsets: imported versions by domain. names: values of the function by their name in the result, filled as
    names are met. attrs: what the call gives for the function's attributes. stack: the calls around.
    prefix: of new names. made: source of new names; None for the model's own graph, whose names are kept.
    """

    opsets: dict[str, int]
    names: dict[str, str] = field(default_factory=dict)
    attrs: dict[str, object] = field(default_factory=dict)
    stack: tuple[Key, ...] = ()
    prefix: str = ""
    made: Names | None = None

    def name(self, name: str) -> str:
        """The value's name in the result; "" stays."""
        if self.made is None or not name:
            return name
        if name not in self.names:
            self.names[name] = self.made.fresh(f"{self.prefix}/{name}")
        return self.names[name]

    def node_name(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix and name else name


class Functions:
    """The functions of one model, by key."""

    def __init__(self, model: ModelProto) -> None:
        self._table: dict[Key, FunctionProto] = {}
        for proto in model.functions:
            name = text(proto.name, "function name")
            what = f"function {name!r}"
            key = (domain(proto.domain, what), name, text(proto.overload, what))
            if key in self._table:
                raise ModelError(f"expected one definition of function {label(key)}, got two")
            self._table[key] = proto
        self._names = Names(value_names(model.graph) if self._table else ())

    def find(self, key: Key) -> FunctionProto | None:
        return self._table.get(key)

    def enter(
        self, key: Key, call: Node, defaults: dict[str, object], outer: Frame
    ) -> tuple[Frame, list[tuple[str, str]]]:
        """The frame of one call, and pairs (function's value, caller's name) that need an Identity.

        call: the calling node in the caller's names. defaults: values of the function's attributes by name.
        `ModelError` where they do not fit the function, or where functions call each other in a circle.
        """
        proto = self._table[key]
        what = f"node {call.label!r} ({call.op_type})"
        if key in outer.stack:
            path = " -> ".join(label(k) for k in (*outer.stack[outer.stack.index(key) :], key))
            raise ModelError(f"{what}: expected functions that do not call themselves, got the cycle {path}")
        if len(call.inputs) > len(proto.input) or len(call.outputs) > len(proto.output):
            raise ModelError(
                f"{what}: expected at most {len(proto.input)} input(s) and {len(proto.output)} output(s) for "
                f"function {label(key)}, got {len(call.inputs)} and {len(call.outputs)}"
            )
        unknown = sorted(set(call.attrs) - set(defaults) - {text(a, what) for a in proto.attribute})
        if unknown:
            raise ModelError(f"{what}: expected attributes of function {label(key)}, got {unknown}")
        formals = [text(name, f"function {label(key)}: input") for name in proto.input]
        frame = Frame(
            opset_versions(proto.opset_import, f"function {label(key)}"),
            dict.fromkeys(formals, "") | dict(zip(formals, call.inputs, strict=False)),
            defaults | call.attrs,
            (*outer.stack, key),
            self._names.call(call.label),
            self._names,
        )
        return frame, _bind_outputs(proto, frame, call.outputs, what)


def _bind_outputs(proto: FunctionProto, frame: Frame, outputs: list[str], what: str) -> list[tuple[str, str]]:
    """Give the function's outputs the caller's names; those that are inputs or come twice are left over."""
    left = []
    for formal, actual in zip(proto.output, outputs, strict=False):
        name = text(formal, f"{what}: output of function")
        if not actual:
            continue
        if name in frame.names:
            left.append((name, actual))
        else:
            frame.names[name] = actual
    return left


def opset_versions(imports: Iterable[OperatorSetIdProto], what: str) -> dict[str, int]:
    """Versions by domain; `ModelError` for one below 1 or two versions of one domain."""
    versions: dict[str, int] = {}
    for entry in imports:
        name, version = domain(entry.domain, f"{what}: opset_import"), int(entry.version)
        if version < 1 or versions.get(name, version) != version:
            raise ModelError(
                f"{what}: expected one version >= 1 of domain {name!r} in opset_import, got "
                + (f"{versions[name]} and {version}" if name in versions else str(version))
            )
        versions[name] = version
    return versions


def label(key: Key) -> str:
    """How messages call a function."""
    scope, name, overload = key
    return repr(f"{scope}.{name}" + (f":{overload}" if overload else ""))


def value_names(graph: GraphProto) -> Iterator[str]:
    """Every value name in a graph and its subgraphs."""
    for value in (*graph.input, *graph.initializer):
        yield value.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from node.input
        yield from node.output
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from value_names(inner)
