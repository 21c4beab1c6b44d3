"""Models for tests and benchmarks: the nine light models with random weights, and files beside the project."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import TensorProto, numpy_helper

LIGHT = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Data that is not part of the project; whatever needs it must do without where it is absent."""

CACHE = Path.home() / ".cache" / "tilewise" / "bench"
"""Where `bench.export` leaves its models, unless told otherwise."""

_LIGHT_FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"


def add_models_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        default=CACHE,
        metavar="FOLDER",
        help=f"the exported models (default: {CACHE})",
    )


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A light model (those of `onnx.backend.test`, whose weights are all 0.02) with random weights.

    What goes into a last Softmax is an output too: random weights make its own results all zeros and ones.
    """
    model = randomize(onnx.load(_LIGHT_FOLDER / f"light_{name}.onnx"), seed)
    last = model.graph.node[-1]
    if last.op_type == "Softmax":
        model.graph.output.add(name=last.input[0]).type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal values for every float input that is not an initializer; free dims are 1."""
    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: rng.standard_normal(
            [d.dim_value or 1 for d in value.type.tensor_type.shape.dim], np.float32
        )
        for value in model.graph.input
        if value.name not in weights
    }


def randomize(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """A copy whose float weights, initializers and ConstantOfShape nodes alike, are initializers of random values.

    Weights of Conv and Gemm are scaled as He et al. (2015) say, so that activations neither vanish nor overflow.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    rng = np.random.default_rng(seed)
    shapes = dict(_weight_shapes(graph))
    roles = _roles(graph)
    for field, kept in (
        (graph.node, [node for node in graph.node if node.output[0] not in shapes]),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name not in shapes]),
    ):
        del field[:]
        field.extend(kept)
    for name, shape in sorted(shapes.items()):
        tensor = graph.initializer.add(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.raw_data = _weight(rng, roles.get(name, ("", 0)), shape).tobytes()
    return result


def _weight_shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    values = {tensor.name: tensor for tensor in graph.initializer}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            yield tensor.name, tuple(tensor.dims)
    for node in graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in values:
            yield node.output[0], tuple(numpy_helper.to_array(values[node.input[0]]).tolist())


def _roles(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """(operator, input position) of who reads each value, seen through changes of shape; transB counts as 10."""
    roles: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.node):
        for i, name in enumerate(node.input):
            if node.op_type in ("Unsqueeze", "Reshape") and i == 0:
                roles[name] = roles.get(node.output[0], ("", 0))
            else:
                roles[name] = (node.op_type, i + 10 * _has_flag(node, "transB"))
    return roles


def _has_flag(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i == 1 for attribute in node.attribute)


def _weight(rng: np.random.Generator, role: tuple[str, int], shape: tuple[int, ...]) -> np.ndarray:
    values = rng.standard_normal(shape, np.float32)
    match role:
        case ("Conv", 1):
            return values * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        case ("Gemm", 1):
            return values * np.float32(np.sqrt(2 / shape[0]))
        case ("Gemm", 11):
            return values * np.float32(np.sqrt(2 / shape[1]))
        case ("BatchNormalization", 1) | ("BatchNormalization", 4) | ("Mul", _):
            return np.abs(values) * np.float32(0.2) + np.float32(0.8)
        case _:
            return values * np.float32(0.1)
