"""`tilewise inspect`: a model's nodes, shapes, parameters, FLOPs and memory."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.console import Console

from tilewise.cli.arguments import add_model, add_shape
from tilewise.cli.console import console, show_bytes, show_count, show_shape, table
from tilewise.cli.costs import flops, known_dims, parameters
from tilewise.cli.shapes import complete_shapes, input_facts, parse_shapes
from tilewise.errors import InputError, ShapeError
from tilewise.graph import UNKNOWN, Fact, Graph
from tilewise.graph.facts import Shape
from tilewise.onnx.check import check_graph
from tilewise.onnx.load import load_graph
from tilewise.ops.inference import infer
from tilewise.passes import optimize
from tilewise.runtime.model import Model

Report = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_shape(parser)
    parser.add_argument("--json", action="store_true", help="print everything as JSON, numbers in full")


def execute(args: argparse.Namespace) -> int:
    report = inspect(load_graph(args.model), args.shape)
    if args.json:
        json.dump({"model": args.model, **report}, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        _print(console(), args.model, report)
    return 0


def inspect(graph: Graph, options: list[str]) -> Report:
    """All that is shown of a model, as plain values.

    Free dims of inputs are as `--shape` options tell, else 1, or free where that does not fit. Of a model that
    cannot be run, shapes are those declared, and "unsupported" lists why.
    """
    unsupported = check_graph(graph)
    declared = input_facts(graph)
    given = parse_shapes(options, declared)
    feeds, facts, arena = declared, graph.facts, None
    if not unsupported:
        feeds, facts = _inferred(graph, declared, given)
        if all(fact.known_shape for fact in feeds.values()):
            arena = Model(optimize(graph)).plan({n: known_dims(f) for n, f in feeds.items()}).peak_bytes
    nodes = _nodes(graph, {**facts, **{n: Fact.of(a) for n, a in graph.initializers.items()}})
    weights = sum(a.nbytes for a in graph.initializers.values() if not a.dtype.hasobject)
    return {
        **_header(graph),
        "inputs": [_value(n, feeds[n], declared[n]) for n in graph.inputs],
        "outputs": [_value(n, facts.get(n, UNKNOWN), graph.facts.get(n, UNKNOWN)) for n in graph.outputs],
        "nodes": nodes,
        "totals": {
            "nodes": len(nodes),
            "parameters": sum(row["parameters"] for row in nodes),
            "flops": sum(row["flops"] or 0 for row in nodes),
            "nodes_of_unknown_flops": sum(row["flops"] is None for row in nodes),
            "weight_bytes": weights,
            "arena_bytes": arena,
        },
        "unsupported": [str(f) for f in unsupported],
    }


def _concrete(declared: dict[str, Fact], given: dict[str, tuple[int, ...]]) -> dict[str, Fact]:
    """Facts of inputs with free dims filled in, where ranks are known."""
    try:
        shapes = complete_shapes(declared, given)
    except InputError:
        return declared
    return {
        n: Fact(f.dtype, shapes[n], kind=f.kind, elem=f.elem) if f.kind == "tensor" else f
        for n, f in declared.items()
    }


def _inferred(
    graph: Graph, declared: dict[str, Fact], given: dict[str, tuple[int, ...]]
) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Facts of the inputs and of all values."""
    feeds = _concrete(declared, given)
    try:
        return feeds, infer(graph, feeds)
    except ShapeError:
        if given:
            raise
        return declared, infer(graph, declared)


def _header(graph: Graph) -> Report:
    info = graph.info
    producer = " ".join(str(info.get(k, "")) for k in ("producer_name", "producer_version")).strip()
    return {
        "graph": graph.name,
        "producer": producer,
        "ir_version": info.get("ir_version"),
        "opsets": {domain or "ai.onnx": version for domain, version in graph.opsets.items()},
        "metadata": graph.metadata,
    }


def _value(name: str, fact: Fact, declared: Fact) -> Report:
    dtype = str(fact.dtype) if fact.dtype is not None else None
    return {
        "name": name,
        "kind": fact.kind,
        "dtype": dtype,
        "shape": _plain(fact.shape),
        "declared_shape": _plain(declared.shape),
    }


def _plain(shape: Shape | None) -> list | None:
    return None if shape is None else list(shape)


def _nodes(graph: Graph, facts: dict[str, Fact]) -> list[Report]:
    counts = parameters(graph)
    rows = []
    for i, node in enumerate(graph.nodes):
        ins = [facts.get(n, UNKNOWN) if n else None for n in node.inputs]
        outs = [facts.get(n, UNKNOWN) if n else None for n in node.outputs]
        known = all(f is None or f.known_shape for f in outs)
        rows.append(
            {
                "name": node.label,
                "operator": f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
                "outputs": [
                    _value(n, f, f) for n, f in zip(node.outputs, outs, strict=True) if f is not None
                ],
                "parameters": counts.get(i, 0),
                "flops": flops(node, ins, outs),
                "output_bytes": sum(f.nbytes for f in outs if f is not None) if known else None,
            }
        )
    return rows


def _print(out: Console, model: str, report: Report) -> None:
    opsets = ", ".join(f"{domain} {version}" for domain, version in report["opsets"].items())
    producer = f", made by {report['producer']}" if report["producer"] else ""
    out.print(
        f"{model}: graph {report['graph']!r}, IR version {report['ir_version']}, opset {opsets}{producer}"
    )
    for key, value in report["metadata"].items():
        out.print(f"  {key}: {value}")
    for role in ("inputs", "outputs"):
        rows = [
            (v["name"], v["dtype"] or v["kind"], show_shape(v["shape"]), show_shape(v["declared_shape"]))
            for v in report[role]
        ]
        out.print(table((role, "dtype", "shape", "declared"), rows))
    out.print(
        table(
            ("node", "operator", "output", ">parameters", ">FLOPs", ">output bytes"),
            map(_row, report["nodes"]),
        )
    )
    _print_totals(out, report)


def _row(node: Report) -> tuple[str, ...]:
    return (
        node["name"],
        node["operator"],
        ", ".join(show_shape(v["shape"]) for v in node["outputs"]),
        show_count(node["parameters"] or None),
        "?" if node["flops"] is None else show_count(node["flops"] or None),
        "?" if node["output_bytes"] is None else show_bytes(node["output_bytes"]),
    )


def _print_totals(out: Console, report: Report) -> None:
    totals = report["totals"]
    unknown = totals["nodes_of_unknown_flops"]
    more = f" (and {unknown} node(s) of unknown shape)" if unknown else ""
    arena = (
        "not known without --shape" if totals["arena_bytes"] is None else show_bytes(totals["arena_bytes"])
    )
    out.print(
        f"{totals['nodes']} nodes, {show_count(totals['parameters'])} parameters, "
        f"{show_count(totals['flops'])} FLOPs a run{more}\n"
        f"memory: {show_bytes(totals['weight_bytes'])} of weights in the file, arena of a run: {arena}"
    )
    if report["unsupported"]:
        out.print(f"{len(report['unsupported'])} unsupported feature(s): tilewise check lists them")
