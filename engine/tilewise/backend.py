"""The ONNX backend protocol (`onnx.backend.base`): this module itself is the backend.

import tilewise.backend as backend
outputs = backend.prepare(model).run([x])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
from onnx import helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from tilewise.errors import InputError, ModelError
from tilewise.onnx.check import check_graph
from tilewise.onnx.load import load_graph
from tilewise.runtime.model import Model, load


class TilewiseRep(BackendRep):
    """A model ready to run."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._outputs: Callable[..., tuple[Any, ...]] = namedtupledict("Outputs", list(model.graph.outputs))

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs as a named tuple, also to be indexed by name.

        inputs: a sequence in graph order, a mapping by name, or one array for a model with one input.
        """
        feeds = by_name(inputs, self.model.graph.inputs)
        return self._outputs(*self.model.run(feeds).values())


class TilewiseBackend(Backend):
    """`onnx.backend.base.Backend` for Tilewise. Errors are `TilewiseError`s."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """True for "CPU", with or without an index."""
        kind, _, index = device.partition(":")
        return kind == "CPU" and (not index or index.isdecimal())

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether `model` is well-formed and uses nothing that cannot be run."""
        try:
            return cls.supports_device(device) and not check_graph(load_graph(model))
        except ModelError:
            return False

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", *, threads: int | None = None, **kwargs: Any
    ) -> TilewiseRep:
        """A model ready to run on `threads` threads; other keywords, which the protocol allows, are not read."""
        if not cls.supports_device(device):
            raise InputError(f"device: expected 'CPU', got {device!r}")
        return TilewiseRep(load(model, threads))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node.

        inputs: as for `TilewiseRep.run`, with None in a sequence for an input that the node leaves out.
        outputs_info: not needed, types and shapes are inferred. opset_version: the version of the node's
        domain, by default the newest that has the operator.
        """
        feeds = {name: value for name, value in by_name(inputs, node.input).items() if name}
        version = kwargs.pop("opset_version", None) or _newest(node)
        graph = helper.make_graph(
            [node],
            "node",
            [helper.make_value_info(name, _type(name, value)) for name, value in feeds.items()],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        imports = [helper.make_opsetid(node.domain, version)]
        if node.domain:
            imports.append(helper.make_opsetid("", onnx.defs.onnx_opset_version()))
        rep = cls.prepare(helper.make_model(graph, opset_imports=imports), device, **kwargs)
        return rep.run(feeds)


def by_name(inputs: Any, names: Sequence[str]) -> dict[str, Any]:
    """Inputs by name, from any form that users of the protocol pass; `InputError` for a wrong number."""
    if isinstance(inputs, Mapping):
        return dict(inputs)
    if isinstance(inputs, np.ndarray) and len(names) == 1:
        inputs = [inputs]
    if len(inputs) != len(names):
        raise InputError(f"expected {len(names)} input(s) {list(names)}, got {len(inputs)}")
    return dict(zip(names, inputs, strict=True))


def _newest(node: onnx.NodeProto) -> int:
    if not node.domain:
        return onnx.defs.onnx_opset_version()
    if onnx.defs.has(node.op_type, node.domain):
        return onnx.defs.get_schema(node.op_type, node.domain).since_version
    return 1


def _type(name: str, value: Any) -> onnx.TypeProto:
    if isinstance(value, list | tuple) and value:
        return helper.make_sequence_type_proto(_type(name, value[0]))
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(f"input {name!r}: expected an array or a list of arrays, got {type(value).__name__}")
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


is_compatible = TilewiseBackend.is_compatible
prepare = TilewiseBackend.prepare
run_model = TilewiseBackend.run_model
run_node = TilewiseBackend.run_node
supports_device = TilewiseBackend.supports_device
