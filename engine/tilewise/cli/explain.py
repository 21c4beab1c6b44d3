"""`tilewise explain`: which kernels a model's layers run on, and how near they come to the machine's peak."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.console import Console

import tilewise_kernels
from tilewise.cli.arguments import add_model, add_seed, add_shape, add_threads, positive
from tilewise.cli.console import console, show_ms, show_shape, table
from tilewise.cli.costs import flops, multiplies
from tilewise.cli.feeds import random_feeds
from tilewise.graph import UNKNOWN, Fact, Node
from tilewise.plan.machine import cpu_name, fma_peak
from tilewise.plan.plan import Plan, StepInfo
from tilewise.runtime.model import Model, load

Report = dict[str, Any]
Feeds = Mapping[str, np.ndarray]
Layer = tuple[str, str]
"""Label and operator of a node."""
WARM_UP = 3
LAYOUT_KERNELS = frozenset(["to_blocked", "from_blocked"])
"""What brings values from one layout into another counts as work outside the convolution that asks for it."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_threads(parser)
    parser.add_argument("--runs", type=positive, default=20, metavar="N", help="runs to time (default: 20)")
    parser.add_argument("--top", type=positive, metavar="N", help="print the N slowest layers only")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, numbers in full")
    add_shape(parser)
    add_seed(parser)


def execute(args: argparse.Namespace) -> int:
    model = load(args.model, threads=args.threads, jit="wait")
    report = explain(model, random_feeds(model.graph, args.shape, args.seed), args.runs)
    if args.json:
        json.dump({"model": args.model, **report}, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        _print(console(), args.model, report, args.top)
    return 0


def explain(model: Model, feeds: Feeds, runs: int) -> Report:
    """All that is shown, as plain values: nanoseconds are medians over `runs`, layers come slowest first.

    peak: float32 operations a second of as many threads as the model runs on, measured now; None where it is not
    known. A layer's flops are None where its shapes are not known, or it runs in a subgraph.
    """
    for _ in range(WARM_UP):
        model.run(feeds)
    walls, profiles = [], []
    for _ in range(runs):
        start = time.perf_counter_ns()
        model.run(feeds)
        walls.append(time.perf_counter_ns() - start)
        profiles.append(model.profile(feeds))
    peak = fma_peak(model.threads)
    plan = model.plan({name: array.shape for name, array in feeds.items()})
    layers = _layers(model, plan, profiles, peak)
    kernels = _medians([(step.kernel, ns) for step, ns in profile] for profile in profiles)
    total = statistics.median(sum(ns for _, ns in profile) for profile in profiles)
    outside = statistics.median(
        sum(ns for step, ns in profile if not _is_convolution(step)) for profile in profiles
    )
    return {
        "inputs": {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in feeds.items()},
        "cpu": cpu_name(),
        "isa": tilewise_kernels.ISA,
        "threads": model.threads,
        "runs": runs,
        "peak": peak,
        "layers": layers,
        "kernels": [
            {"kernel": kernel, "steps": sum(s.kernel == kernel for s, _ in profiles[-1]), "ns": ns}
            for kernel, ns in sorted(kernels.items(), key=lambda item: -item[1])
        ],
        "totals": {
            "run_ns": statistics.median(walls),
            "steps_ns": total,
            "outside_convolutions_ns": outside,
            "product_flops": sum(layer["flops"] for layer in layers if layer["flops_per_second"] is not None),
        },
    }


def _is_convolution(step: StepInfo) -> bool:
    return "Conv" in step.op_type and step.kernel not in LAYOUT_KERNELS


def _medians(profiles: Iterable[Iterable[tuple[Any, int]]]) -> dict[Any, float]:
    """By key, the median over profiles of the sum of its times; one that is missing counts as 0."""
    sums = []
    for profile in profiles:
        sums.append(defaultdict[Any, int](int))
        for key, ns in profile:
            sums[-1][key] += ns
    keys = dict.fromkeys(key for one in sums for key in one)
    return {key: statistics.median(one[key] for one in sums) for key in keys}


def _layers(
    model: Model, plan: Plan, profiles: list[list[tuple[StepInfo, int]]], peak: float | None
) -> list[Report]:
    times = _medians([((s.node, s.op_type, s.kernel), ns) for s, ns in profile] for profile in profiles)
    kernels: dict[Layer, dict[str, float]] = defaultdict(dict)
    for (label, op_type, kernel), ns in times.items():
        kernels[label, op_type][kernel] = ns
    totals = _medians([((s.node, s.op_type), ns) for s, ns in profile] for profile in profiles)
    nodes: dict[Layer, Node] = {(node.label, node.op_type): node for node in model.graph.nodes}
    slowest = sorted(totals.items(), key=lambda item: -item[1])
    return [_layer(layer, ns, nodes.get(layer), plan, kernels[layer], peak) for layer, ns in slowest]


def _layer(
    layer: Layer, ns: float, node: Node | None, plan: Plan, kernels: dict[str, float], peak: float | None
) -> Report:
    choice = plan.choices.get(layer[0]) if node is not None else None
    ins = [_fact(plan, name) for name in node.inputs] if node else []
    outs = [_fact(plan, name) for name in node.outputs] if node else []
    operations = flops(node, ins, outs) if node else None
    rate = operations * 1e9 / ns if node and multiplies(node) and operations and ns else None
    return {
        "node": layer[0],
        "operator": layer[1],
        "problem": choice.problem if choice else _shapes(ins, outs),
        "implementation": choice.implementation if choice else None,
        "kernels": dict(sorted(kernels.items(), key=lambda item: -item[1])),
        "ns": ns,
        "flops": operations,
        "flops_per_second": rate,
        "part_of_peak": rate / peak if rate and peak else None,
    }


def _fact(plan: Plan, name: str) -> Fact | None:
    return plan.facts.get(name, UNKNOWN) if name else None


def _shapes(ins: list[Fact | None], outs: list[Fact | None]) -> str:
    sides = (", ".join(show_shape(f.shape) for f in facts if f is not None) for facts in (ins, outs))
    return " to ".join(sides) if ins or outs else ""


def _print(out: Console, model: str, report: Report, top: int | None) -> None:
    inputs = ", ".join(f"{n} {v['dtype']}{v['shape']}" for n, v in report["inputs"].items())
    peak = "not known" if report["peak"] is None else f"{report['peak'] / 1e9:.0f} GFLOP/s"
    out.print(f"{model}: {inputs}")
    out.print(f"{report['cpu']}, {report['isa']} kernels, {report['threads']} thread(s), FMA peak now {peak}")
    total, layers = report["totals"]["steps_ns"], report["layers"]
    headings = (
        "node",
        "operator",
        "problem",
        "implementation",
        "kernels",
        ">time",
        ">share",
        ">GFLOP/s",
        ">of peak",
    )
    out.print(table(headings, (_row(layer, total) for layer in layers[:top])))
    if top is not None and top < len(layers):
        out.print(f"and {len(layers) - top} more layer(s)")
    rows = [
        (k["kernel"], str(k["steps"]), show_ms(k["ns"]), _percent(k["ns"], total)) for k in report["kernels"]
    ]
    out.print(table(("kernel", ">steps", ">time", ">share"), rows))
    _print_totals(out, report)


def _row(layer: Report, total: float) -> tuple[str, ...]:
    rate, part = layer["flops_per_second"], layer["part_of_peak"]
    return (
        layer["node"],
        layer["operator"],
        layer["problem"],
        layer["implementation"] or "",
        ", ".join(layer["kernels"]),
        show_ms(layer["ns"]),
        _percent(layer["ns"], total),
        "" if rate is None else f"{rate / 1e9:.1f}",
        "" if part is None else _percent(part, 1),
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _print_totals(out: Console, report: Report) -> None:
    totals = report["totals"]
    total, outside = totals["steps_ns"], totals["outside_convolutions_ns"]
    out.print(
        f"a run takes {show_ms(totals['run_ns'])}, its steps {show_ms(total)}, "
        f"{show_ms(outside)} of them ({_percent(outside, total)}) outside convolutions; "
        f"medians of {report['runs']} run(s)"
    )
    if report["peak"] and total:
        rate = totals["product_flops"] * 1e9 / total
        share = _percent(rate, report["peak"])
        out.print(
            f"{totals['product_flops'] / 1e9:.3g} GFLOP of convolutions and matrix products a run: "
            f"{rate / 1e9:.1f} GFLOP/s over all steps, {share} of the peak"
        )
