"""`tilewise bench`: times of a model on several numbers of threads, beside another engine if asked."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from tilewise.cli.arguments import add_model, add_seed, add_shape, positive, positives
from tilewise.cli.console import console, show_ms, table
from tilewise.cli.feeds import random_feeds
from tilewise.cli.race import (
    PEERS,
    Contestant,
    Feeds,
    Pace,
    difference,
    race,
    surroundings,
    tilewise_contestant,
)
from tilewise.runtime.model import load
from tilewise.runtime.threads import default_threads


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--threads",
        type=positives,
        metavar="N,N,...",
        help="numbers of threads to time (default: what a run takes)",
    )
    parser.add_argument("--against", choices=tuple(PEERS), help="an engine to run in turn with Tilewise")
    parser.add_argument("--runs", type=positive, default=30, metavar="N", help="counted runs (default: 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times and what they depend on")
    add_shape(parser)
    add_seed(parser)


def execute(args: argparse.Namespace) -> int:
    out = console()
    threads = args.threads or [default_threads()]
    feeds = random_feeds(load(args.model, threads=1).graph, args.shape, args.seed)
    contestants = []
    for count in threads:
        contestants.append(tilewise_contestant(args.model, feeds, count))
        if args.against is not None:
            contestants.append(PEERS[args.against](args.model, feeds, count))
    race(contestants, Pace(rounds=args.runs))
    around = surroundings(() if args.against is None else (args.against,))
    _print(out, args, feeds, contestants, around)
    if args.json is not None:
        args.json.write_text(json.dumps(_report(args, feeds, contestants, around), indent=2) + "\n")
        out.print(f"written to {args.json}")
    return 0


def pairs(contestants: list[Contestant]) -> dict[int, tuple[Contestant, Contestant]]:
    """(Tilewise, the other engine) by number of threads."""
    ours = {c.threads: c for c in contestants if c.engine == "tilewise"}
    return {c.threads: (ours[c.threads], c) for c in contestants if c.engine != "tilewise"}


def _print(out: Console, args, feeds: Feeds, contestants: list[Contestant], around: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in around["versions"].items())
    out.print(f"{args.model}: {', '.join(f'{n} {a.dtype}{list(a.shape)}' for n, a in feeds.items())}")
    out.print(f"{around['cpu']}, {around['usable_cpus']} usable CPU(s), {around['kernels']} kernels")
    out.print(versions)
    out.print(table(("engine", ">threads", ">median", ">25 %", ">75 %", ">best"), map(_row, contestants)))
    versus = pairs(contestants)
    for count, (ours, other) in versus.items():
        ratio, gap = ours.median / other.median, difference(ours.outputs, other.outputs)
        out.print(
            f"{count} thread(s): tilewise / {other.engine} = {ratio:.2f}; outputs differ by {gap:.1e} at most"
        )
    out.print(f"medians of {args.runs} run(s) each in turn, one uncounted before each")


def _row(c: Contestant) -> tuple[str, ...]:
    quartiles = statistics.quantiles(c.times, n=4) if len(c.times) > 1 else c.times * 3
    times = (c.median, quartiles[0], quartiles[2], min(c.times))
    return (c.engine, str(c.threads), *map(show_ms, times))


def _report(args, feeds: Feeds, contestants: list[Contestant], around: dict[str, Any]) -> dict[str, Any]:
    versus = pairs(contestants).items()
    return {
        "model": args.model,
        "inputs": {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in feeds.items()},
        **around,
        "runs": args.runs,
        "warm_up_seconds": Pace().warm_up,
        "results": [
            {"engine": c.engine, "threads": c.threads, "median_ns": c.median, "times_ns": c.times}
            for c in contestants
        ],
        "ratios": {str(n): ours.median / other.median for n, (ours, other) in versus},
        "differences": {str(n): difference(ours.outputs, other.outputs) for n, (ours, other) in versus},
    }
