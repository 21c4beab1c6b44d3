"""ONNX protobuf to `Graph`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tilewise.errors import ModelError, TilewiseError
from tilewise.graph import Fact, Graph, Node
from tilewise.onnx.attributes import attribute_value
from tilewise.onnx.external import ExternalFiles
from tilewise.onnx.fields import domain, element_type, text, type_fact
from tilewise.onnx.functions import Frame, Functions, Key, opset_versions
from tilewise.onnx.legacy import upgrade
from tilewise.onnx.messages import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    ValueInfoProto,
)
from tilewise.onnx.schema import fill_defaults, max_opset
from tilewise.onnx.source import Source, read
from tilewise.onnx.tensors import sparse_array, tensor_array
from tilewise.onnx.topology import arrange, captured, check_complete

MAX_INLINED = 1 << 32
"""Bytes that inlined functions may add, so that a small file cannot unfold without bound."""
NODE_BYTES = 1 << 14
"""What one inlined node counts for."""

_MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    MemoryError,
    OSError,
)
"""What damage that no check foresaw may end in."""


def load_graph(source: Source, *, base_dir: str | os.PathLike | None = None) -> Graph:
    """The graph of a model: a path, the file's bytes or an `onnx.ModelProto`.

    base_dir: where external data is looked up; by default the directory of the path.
    Constant nodes become initializers, calls of model-local functions the functions' nodes; sparse
    initializers are made dense, attributes completed by the defaults of their opset, nodes sorted, forms
    older than opset 7 rewritten where that is possible.
    Large initializers may be views of the mapped file or of the bytes (`tilewise.onnx.source.own` ends that).
    `Graph.inputs` are those that must be fed; graph inputs with an initializer are in `Graph.overridable`.
    Whether operators are supported is not looked at. `ModelError` for anything malformed, `InputError` for a
    source of another type.
    """
    model, where, files = read(source, base_dir)
    with _guard(where):
        return _graph_of(model, files)


@contextmanager
def _guard(where: str) -> Iterator[None]:
    """Prefix errors with the file, and make one of ours of every surprise."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{where}: {error}") from error.__cause__
    except TilewiseError:
        raise
    except _MALFORMED as error:
        raise ModelError(f"{where}: malformed model: {type(error).__name__}: {error}") from error


def _graph_of(model: ModelProto, files: ExternalFiles) -> Graph:
    if not model.HasField("graph"):
        raise ModelError("expected an ONNX model, got one without a graph (truncated, or of another format)")
    if model.ir_version < 1:
        raise ModelError(f"expected an ir_version >= 1, got {model.ir_version}")
    opsets = opset_versions(model.opset_import, "header")
    if not opsets:
        if model.ir_version >= 3:
            raise ModelError("expected opset_import in a model of IR version 3 or later, got none")
        opsets = {"": 1}
    graph = Importer(model, files).graph(model.graph, Frame(opsets), model.ir_version)
    check_complete(graph)
    if not graph.outputs:
        raise ModelError(f"graph {graph.name!r}: expected at least one output, got none")
    graph.opsets = opsets
    for entry in model.metadata_props:
        key = text(entry.key, "metadata_props")
        graph.metadata[key] = text(entry.value, f"metadata_props: {key!r}")
    graph.info = {"ir_version": int(model.ir_version), "model_version": int(model.model_version)}
    for name in ("producer_name", "producer_version", "domain", "doc_string"):
        graph.info[name] = text(getattr(model, name), name)
    graph.info["graph_doc_string"] = text(model.graph.doc_string, "graph: doc_string")
    return upgrade(graph)


class Importer:
    """Converts the graphs of one model."""

    def __init__(self, model: ModelProto, files: ExternalFiles) -> None:
        self._files = files
        self._functions = Functions(model)
        self._inlined = 0

    def graph(self, proto: GraphProto, frame: Frame, ir_version: int | None = None) -> Graph:
        """A graph in order, its captures known; `ir_version` is given for the model's own graph only."""
        graph = Graph(text(proto.name, "graph name"))
        self._initializers(proto, frame, graph, borrow=ir_version is not None)
        for value in proto.value_info:
            self._declare(value, "value_info", frame, graph)
        graph.outputs = [self._declare(value, "output", frame, graph) for value in proto.output]
        for value in proto.input:
            name = self._declare(value, "input", frame, graph)
            if name not in graph.initializers:
                graph.inputs.append(name)
            elif ir_version is None:
                # A subgraph's inputs are always fed, by position.
                del graph.initializers[name]
                graph.inputs.append(name)
            else:
                _check_default(name, graph)
                if ir_version >= 4:
                    graph.overridable.append(name)
        if ir_version is not None:
            _check_input_types(graph)
        for node in proto.node:
            self._add(node, frame, graph)
        arrange(graph)
        return graph

    def _declare(self, value: ValueInfoProto, role: str, frame: Frame, graph: Graph) -> str:
        """Note what the file says of a value's type; its name in the graph."""
        name = text(value.name, f"graph {graph.name!r}: {role}")
        if not name:
            raise ModelError(f"graph {graph.name!r}: expected a name for every {role}, got one without")
        fact = type_fact(value.type, f"{role} {name!r}")
        name = frame.name(name)
        if value.HasField("type"):
            graph.facts[name] = fact
        return name

    def _initializers(self, proto: GraphProto, frame: Frame, graph: Graph, *, borrow: bool) -> None:
        for tensor in proto.initializer:
            name = text(tensor.name, "initializer")
            array = tensor_array(tensor, self._files, f"initializer {name!r}", borrow=borrow)
            _add_constant(frame.name(name), array, graph)
        for sparse in proto.sparse_initializer:
            name = text(sparse.values.name, "sparse initializer")
            array = sparse_array(sparse, self._files, f"sparse initializer {name!r}")
            _add_constant(frame.name(name), array, graph)

    def _add(self, proto: NodeProto, frame: Frame, graph: Graph) -> None:
        """Add a node, or what stands for it, to `graph`."""
        node = self._node(proto, frame)
        key = (node.domain, node.op_type, text(proto.overload, f"node {node.label!r}"))
        if self._functions.find(key) is not None:
            self._inline(key, node, frame, graph)
            return
        if node.domain not in frame.opsets:
            raise ModelError(
                f"node {node.label!r} ({node.op_type}): expected a version of domain {node.domain!r} in "
                f"opset_import, got only {sorted(frame.opsets)}"
            )
        node.version = frame.opsets[node.domain]
        if (node.domain, node.op_type) == ("", "Constant"):
            array = _constant(node)
            self._spend(array.nbytes, node, frame)
            _add_constant(node.outputs[0], array, graph)
            return
        self._spend(NODE_BYTES, node, frame)
        fill_defaults(node)
        graph.nodes.append(node)

    def _node(self, proto: NodeProto, frame: Frame) -> Node:
        op_type = text(proto.op_type, "node: op_type")
        name = text(proto.name, f"node of type {op_type}: name")
        inputs = [frame.name(text(n, f"node {name!r} ({op_type}): input")) for n in proto.input]
        outputs = [frame.name(text(n, f"node {name!r} ({op_type}): output")) for n in proto.output]
        node = Node(op_type, inputs, outputs, {}, frame.node_name(name))
        if not op_type:
            raise ModelError(f"node {node.label!r}: expected an op_type, got none")
        what = f"node {node.label!r} ({op_type})"
        node.domain = domain(proto.domain, what)
        node.attrs = self._attributes(proto, frame, what)
        node.captures = captured(node)
        return node

    def _attributes(self, proto: NodeProto, frame: Frame, what: str) -> dict[str, object]:
        attrs: dict[str, object] = {}
        for attribute in proto.attribute:
            name = text(attribute.name, f"{what}: attribute")
            if name in attrs:
                raise ModelError(f"{what}: expected one attribute {name!r}, got two")
            reference = text(attribute.ref_attr_name, f"{what}: attribute {name!r}")
            if not reference:
                attrs[name] = self._attribute(attribute, frame, what)
            elif not frame.stack:
                raise ModelError(
                    f"{what}: expected a value of attribute {name!r}, got a reference to {reference!r} "
                    "outside a function"
                )
            elif reference in frame.attrs:
                attrs[name] = frame.attrs[reference]
        return attrs

    def _attribute(self, proto: AttributeProto, frame: Frame, what: str) -> object:
        what = f"{what}: attribute {text(proto.name, what)!r}"
        return attribute_value(proto, what, partial(self._message, frame))

    def _message(self, frame: Frame, message: Any, what: str) -> object:
        match type(message).__name__:
            case "TensorProto":
                return tensor_array(message, self._files, what)
            case "SparseTensorProto":
                return sparse_array(message, self._files, what)
            case "GraphProto":
                return self.graph(message, frame)
            case _:
                return type_fact(message, what)

    def _inline(self, key: Key, call: Node, outer: Frame, graph: Graph) -> None:
        function = self._functions.find(key)
        assert function is not None
        what = f"function of node {call.label!r} ({call.op_type})"
        defaults = {text(a.name, what): self._attribute(a, outer, what) for a in function.attribute_proto}
        frame, left = self._functions.enter(key, call, defaults, outer)
        for node in function.node:
            self._add(node, frame, graph)
        version = frame.opsets.get("", outer.opsets.get("", max_opset()))
        for inner, name in left:
            graph.nodes.append(Node("Identity", [frame.name(inner)], [name], version=version))

    def _spend(self, nbytes: int, node: Node, frame: Frame) -> None:
        if frame.stack:
            self._inlined += nbytes
            if self._inlined > MAX_INLINED:
                raise ModelError(
                    f"node {node.label!r} ({node.op_type}): expected functions that unfold to at most "
                    f"{MAX_INLINED} bytes, got more"
                )


def _check_default(name: str, graph: Graph) -> None:
    """The declaration of an input must fit its initializer."""
    fact, array = graph.facts.get(name, Fact()), graph.initializers[name]
    dims = array.shape if fact.shape is None else fact.shape
    fits = len(dims) == array.ndim and all(
        not isinstance(d, int) or d == n for d, n in zip(dims, array.shape, strict=True)
    )
    if fact.kind != "tensor" or fact.dtype not in (None, array.dtype) or not fits:
        raise ModelError(
            f"initializer {name!r}: expected {fact}, as the graph input of that name declares, "
            f"got {Fact.of(array)}"
        )


def _check_input_types(graph: Graph) -> None:
    for name in graph.inputs:
        fact = graph.facts.get(name)
        if fact is None or (fact.kind == "tensor" and fact.dtype is None):
            element_type(0, f"input {name!r}")


def _add_constant(name: str, array: np.ndarray, graph: Graph) -> None:
    if not name:
        raise ModelError(
            f"graph {graph.name!r}: expected a name for every initializer and Constant, got one without"
        )
    if name in graph.initializers:
        raise ModelError(f"expected value {name!r} to be made once, got two initializers or Constants")
    graph.initializers[name] = array


_CONSTANT_TYPES: dict[str, tuple[type, str]] = {
    "value": (np.ndarray, ""),
    "sparse_value": (np.ndarray, ""),
    "value_float": (float, "float32"),
    "value_floats": (list, "float32"),
    "value_int": (int, "int64"),
    "value_ints": (list, "int64"),
    "value_string": (str, "object"),
    "value_strings": (list, "object"),
}


def _constant(node: Node) -> np.ndarray:
    """The value of a Constant node (ONNX Constant, opsets 1 to 13 and later)."""
    what = f"node {node.label!r} (Constant)"
    if len(node.attrs) != 1 or len(node.outputs) != 1 or node.inputs:
        raise ModelError(
            f"{what}: expected no input, one output and one attribute, got {len(node.inputs)} input(s), "
            f"{len(node.outputs)} output(s) and attributes {sorted(node.attrs)}"
        )
    ((name, value),) = node.attrs.items()
    kind, dtype = _CONSTANT_TYPES.get(name, (None, ""))
    if kind is None or not isinstance(value, kind):
        raise ModelError(
            f"{what}: expected one of {', '.join(_CONSTANT_TYPES)} with a value of its type, got {name!r} "
            f"holding {type(value).__name__}"
        )
    return value if isinstance(value, np.ndarray) else np.array(value, dtype)
