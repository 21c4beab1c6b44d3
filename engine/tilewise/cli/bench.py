"""`tilewise bench`: times of a model on several numbers of threads, beside another engine if asked."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import tilewise_kernels
from tilewise.cli.arguments import add_model, add_seed, add_shape, positive, positives
from tilewise.cli.console import console, show_ms, table
from tilewise.cli.feeds import random_feeds
from tilewise.errors import InputError
from tilewise.runtime.model import load
from tilewise.runtime.threads import default_threads

Feeds = Mapping[str, np.ndarray]
WARM_UP = 3
"""Runs of each contestant before the clock counts: they make plans, packed weights and threads."""
ENGINES = ("onnxruntime",)


@dataclass(slots=True)
class Contestant:
    """One engine on one number of threads.

    times: nanoseconds of its counted runs. outputs: results of its last run before them.
    """

    engine: str
    threads: int
    run: Callable[[], list]
    times: list[int] = field(default_factory=list)
    outputs: list = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--threads",
        type=positives,
        metavar="N,N,...",
        help="numbers of threads to time (default: what a run takes)",
    )
    parser.add_argument("--against", choices=ENGINES, help="an engine to run in turn with Tilewise")
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
            contestants.append(onnxruntime_contestant(args.model, feeds, count))
    race(contestants, args.runs)
    around = surroundings(args.against)
    _print(out, args, feeds, contestants, around)
    if args.json is not None:
        args.json.write_text(json.dumps(_report(args, feeds, contestants, around), indent=2) + "\n")
        out.print(f"written to {args.json}")
    return 0


def race(contestants: list[Contestant], runs: int) -> None:
    """Run all in turn, A B A B, so that what disturbs the machine disturbs them alike."""
    for contestant in contestants:
        for _ in range(WARM_UP):
            contestant.outputs = contestant.run()
    for _ in range(runs):
        for contestant in contestants:
            start = time.perf_counter_ns()
            contestant.run()
            contestant.times.append(time.perf_counter_ns() - start)


def tilewise_contestant(path: str, feeds: Feeds, threads: int) -> Contestant:
    model = load(path, threads=threads)
    return Contestant("tilewise", threads, lambda: list(model.run(feeds).values()))


def onnxruntime_contestant(path: str, feeds: Feeds, threads: int) -> Contestant:
    """ONNX Runtime as it comes, but for the threads, which must not go on spinning while others are timed."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError('--against onnxruntime: install it with pip install "tilewise[bench]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise InputError(f"--against onnxruntime: it does not load {path}: {error}") from None
    return Contestant("onnxruntime", threads, lambda: session.run(None, dict(feeds)))


def difference(a: list, b: list) -> float:
    """The largest difference between two engines' outputs, relative to the largest magnitude of each."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray) and x.size and x.dtype.kind in "fiub":
            wide = np.asarray(y, np.float64)
            gap = np.abs(x.astype(np.float64) - wide).max()
            worst = max(worst, float(gap / max(np.abs(wide).max(), 1e-30)))
    return worst


def surroundings(against: str | None) -> dict[str, Any]:
    """What a time depends on beside the model."""
    names = ("tilewise", "numpy", *([against] if against else []))
    return {
        "cpu": cpu_name(),
        "usable_cpus": default_threads(),
        "kernels": tilewise_kernels.ISA,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: importlib.import_module(name).__version__ for name in names},
    }


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux tells it, else as Python does."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "") or platform.processor() or platform.machine()


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
    out.print(f"medians of {args.runs} run(s) each in turn, after {WARM_UP} to warm up")


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
        "warm_up": WARM_UP,
        "results": [
            {"engine": c.engine, "threads": c.threads, "median_ns": c.median, "times_ns": c.times}
            for c in contestants
        ],
        "ratios": {str(n): ours.median / other.median for n, (ours, other) in versus},
        "differences": {str(n): difference(ours.outputs, other.outputs) for n, (ours, other) in versus},
    }
