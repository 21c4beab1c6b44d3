"""Models for sessions: loading, with ONNX Runtime's exceptions."""

from __future__ import annotations

import os
import re

import onnx
import onnx.checker
import onnx.defs
from google.protobuf.message import DecodeError

from tilewise.errors import ModelError, ShapeError, TilewiseError, UnsupportedError
from tilewise.graph import Graph
from tilewise.onnx.check import load_checked
from tilewise.ort.exceptions import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    OrtError,
    OrtTypeError,
    status_of,
)

Source = str | bytes
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
"""The option that names the folder of external data; by default the model's, for bytes the current one."""

JIT = "tilewise.jit"
"""The option that says when kernels are compiled: as `jit` of `tilewise.load`."""

_WRONG_TYPE = re.compile(r"input .* of type .* is not supported, expected ")
"""How `tilewise.onnx.types.wrong_types` words it."""


def source_of(path_or_bytes: object) -> Source:
    """A path as a string, or the bytes of a model; other types are refused, as ONNX Runtime does."""
    if isinstance(path_or_bytes, str | os.PathLike):
        return os.fspath(path_or_bytes)
    if isinstance(path_or_bytes, bytes):
        return path_or_bytes
    raise OrtTypeError(f"Unable to load from type '{type(path_or_bytes)}'")


def load_graph(source: Source, external_folder: str | None) -> Graph:
    """The checked graph of a model, not optimized."""
    if isinstance(source, str) and not os.path.exists(source):
        raise NoSuchFile.of(f"Load model from {source} failed:Load model {source} failed. File doesn't exist")
    base_dir = external_folder or (os.curdir if isinstance(source, bytes) else None)
    try:
        return load_checked(source, base_dir=base_dir)
    except TilewiseError as error:
        raise _diagnose(source, error) from error


def read(source: Source) -> onnx.ModelProto:
    """The model as it is in the file; `DecodeError` or `OSError` where there is none."""
    if isinstance(source, bytes):
        return onnx.ModelProto.FromString(source)
    with open(source, "rb") as file:
        return onnx.ModelProto.FromString(file.read())


def _diagnose(source: Source, error: TilewiseError) -> OrtError:
    """ONNX Runtime tells malformed files, invalid models and missing implementations apart; so look again."""
    where = "" if isinstance(source, bytes) else f"Load model from {source} failed:"
    try:
        model = read(source)
    except (DecodeError, OSError):
        return InvalidProtobuf.of(f"{where}Protobuf parsing failed. {error}")
    if not model.HasField("graph"):
        return InvalidArgument.of(f"{where}No graph was found in the protobuf. {error}")
    if isinstance(error, UnsupportedError):
        return _unsupported(where, model, error)
    if breach := "" if isinstance(error, ShapeError) else _broken_node(model):
        return InvalidGraph.of(f"{where}This is an invalid model. Error: {breach}\n{error}")
    kind = "This is an invalid model. " if isinstance(error, ModelError) else ""
    return status_of(error).of(f"{where}{kind}Error: {error}")


def _unsupported(where: str, model: onnx.ModelProto, error: UnsupportedError) -> OrtError:
    if any(finding.op_type == "model" for finding in error.findings):
        return Fail.of(f"{where}{error}")
    if breach := _broken_node(model) or _broken_type(error):
        return InvalidGraph.of(f"{where}This is an invalid model. Error: {breach}\n{error}")
    unknown = [n for n in model.graph.node if n.domain and not onnx.defs.has(n.op_type, n.domain)]
    if unknown:
        names = ", ".join(f"{n.domain}:{n.op_type}" for n in unknown[:8])
        return Fail.of(f"{where}Fatal error: {names} is not a registered function/op. {error}")
    ops = ", ".join(dict.fromkeys(f.op_type for f in error.findings))
    return status_of(error).of(f"{where}Could not find an implementation for {ops}. {error}")


def _broken_node(model: onnx.ModelProto) -> str:
    """The first thing that ONNX's own checker finds wrong with a node, "" for none."""
    context = onnx.checker.C.CheckerContext()
    functions = {(function.domain, function.name) for function in model.functions}
    try:
        context.ir_version = model.ir_version
        context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
        for node in model.graph.node if model.opset_import else ():
            # Nodes with graphs are left out: alone, what they capture cannot be found.
            if (node.domain, node.op_type) not in functions and not any(
                a.HasField("g") for a in node.attribute
            ):
                onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        return str(error).partition("\n\n==> Context")[0]
    except (
        ValueError,
        TypeError,
    ):  # text that is not UTF-8, numbers beyond 32 bits: the checker takes neither
        return ""
    return ""


def _broken_type(error: UnsupportedError) -> str:
    """The first finding of an input whose type the operator's schema does not allow, "" for none."""
    return next((str(f) for f in error.findings if _WRONG_TYPE.match(f.what)), "")
