"""Engines run in turn on one model: who they are, how they are timed, how far their outputs differ."""

from __future__ import annotations

import importlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Any

import numpy as np

import tilewise
import tilewise_kernels
from tilewise.errors import InputError
from tilewise.plan.machine import cpu_name
from tilewise.runtime.model import load
from tilewise.runtime.threads import default_threads

Feeds = Mapping[str, np.ndarray]


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


@dataclass(frozen=True, slots=True)
class Pace:
    """How a race is run; times in seconds.

    rounds: turns of each contestant; fewer where `seconds` are over, but `least` at any rate. turn: counted runs go on
    for that long in one turn, and are one at least. warm_up: for how long, and `warm_up_runs` how often, each runs
    before the first round: plans, packed weights, threads, the clock of an idle core.
    """

    rounds: int = 30
    seconds: float = inf
    least: int = 5
    turn: float = 0.0
    warm_up: float = 0.1
    warm_up_runs: int = 3


def race(contestants: Sequence[Contestant], pace: Pace) -> None:
    """Run all in turn, A B A B, so that what disturbs the machine disturbs them alike."""
    for contestant in contestants:
        warm_up(contestant, pace)
    end = time.perf_counter() + pace.seconds
    for i in range(pace.rounds):
        if i >= pace.least and time.perf_counter() > end:
            break
        for contestant in contestants:
            take_turn(contestant, pace.turn)


def warm_up(contestant: Contestant, pace: Pace) -> None:
    """Uncounted runs; the outputs of the last one are kept."""
    end = time.perf_counter() + pace.warm_up
    runs = 0
    while runs < pace.warm_up_runs or time.perf_counter() < end:
        contestant.outputs = contestant.run()
        runs += 1


def take_turn(contestant: Contestant, seconds: float = 0.0) -> None:
    """One uncounted run, which finds the others' data in the caches and their threads still spinning, then counted
    ones for so many seconds, one at least.
    """
    contestant.run()
    end = time.perf_counter_ns() + int(seconds * 1e9)
    while True:
        start = time.perf_counter_ns()
        contestant.run()
        stop = time.perf_counter_ns()
        contestant.times.append(stop - start)
        if stop >= end:
            break


def tilewise_contestant(path: str, feeds: Feeds, threads: int) -> Contestant:
    model = load(path, threads=threads, jit="wait")
    return Contestant("tilewise", threads, lambda: list(model.run(feeds).values()))


def onnxruntime_contestant(path: str, feeds: Feeds, threads: int) -> Contestant:
    """ONNX Runtime as it comes, but for the threads, which must not go on spinning while others are timed."""
    onnxruntime = _import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        raise InputError(f"onnxruntime does not load {path}: {error}") from None
    return Contestant("onnxruntime", threads, lambda: session.run(None, dict(feeds)))


def openvino_contestant(path: str, feeds: Feeds, threads: int) -> Contestant:
    """OpenVINO for one request at a time, in full float32, on arrays of ours and with views of its own outputs."""
    openvino = _import("openvino")
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    except RuntimeError as error:
        raise InputError(f"openvino does not load {path}: {error}") from None

    def run() -> list:
        results = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        return [results[i] for i in range(len(results))]

    return Contestant("openvino", threads, run)


PEERS = {"onnxruntime": onnxruntime_contestant, "openvino": openvino_contestant}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(f'{name} is not installed: pip install "tilewise[bench]"') from None


def difference(a: list, b: list) -> float:
    """The largest difference between two engines' outputs, relative to the largest magnitude of each of b's."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if isinstance(x, np.ndarray) and x.size and x.dtype.kind in "fiub":
            wide = np.asarray(y, np.float64)
            gap = np.abs(x.astype(np.float64) - wide).max()
            worst = max(worst, float(gap / max(np.abs(wide).max(), 1e-30)))
    return worst


def surroundings(against: Sequence[str]) -> dict[str, Any]:
    """What a time depends on beside the model. against: packages whose versions are told; absent ones are left out."""
    return {
        "cpu": cpu_name(),
        "usable_cpus": default_threads(),
        "kernels": tilewise_kernels.ISA,
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": dict(_versions(("numpy", *against))),
    }


def _versions(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "tilewise", tilewise.__version__
    for name in names:
        with suppress(PackageNotFoundError):
            yield name, version(name)
