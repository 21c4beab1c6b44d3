"""The problem strings of a model's convolutions, each once: `python -m bench.list_problems MODEL.onnx`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import onnx
from onnx import helper

KINDS = {"Conv": "conv", "ConvTranspose": "convt"}


def conv_strings(model: onnx.ModelProto) -> Iterator[str]:
    """One string a convolution whose shapes can be inferred, in the model's order."""
    newer = onnx.ModelProto()
    newer.CopyFrom(model)
    newer.ir_version = max(
        4, model.ir_version
    )  # before 4, initializers are seen only where they are inputs too
    graph = onnx.shape_inference.infer_shapes(newer, data_prop=True).graph
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    for node in graph.node:
        if node.op_type in KINDS:
            x, w, y = (shapes.get(v, []) for v in (*node.input[:2], node.output[0]))
            if len(x) == len(w) == len(y) and all((*x, *w, *y)):
                yield _string(node, x, w, y)


def _string(node: onnx.NodeProto, x: list[int], w: list[int], y: list[int]) -> str:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    rank = len(x) - 2
    parts = [f"{KINDS[node.op_type]} n{x[0]}g{attributes.get('group', 1)}c{x[1]}o{y[1]}"]
    columns = zip(
        "dhw"[-rank:],
        x[2:],
        y[2:],
        w[2:],
        attributes.get("strides", [1] * rank),
        attributes.get("dilations", [1] * rank),
        attributes.get("pads", [0] * 2 * rank)[:rank],
        strict=True,
    )
    parts += [f"i{a}{i}o{a}{o}k{a}{k}s{a}{s}d{a}{d}p{a}{p}" for a, i, o, k, s, d, p in columns]
    return "_".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    for text in dict.fromkeys(conv_strings(onnx.load(parser.parse_args().model))):
        print(text)


if __name__ == "__main__":
    main()
