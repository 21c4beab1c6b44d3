"""Which way to lower a node is the quickest: measured once on a machine, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path

import numpy as np

import tilewise_kernels
from tilewise import __version__
from tilewise.graph import Fact
from tilewise.ops.layout import BLOCKED, blocked_floats
from tilewise.ops.lowering import Buffer, Deferred, Lowering, Ref, Ways, aligned
from tilewise.plan.builder import Segment, touch
from tilewise.plan.kept import Kept
from tilewise.plan.locks import ForkSafeLock
from tilewise.plan.machine import cpu_name
from tilewise.plan.memory import assign_offsets
from tilewise.plan.plan import link
from tilewise_kernels.cachedir import folder

Constants = MutableMapping[tuple, np.ndarray]

PROBLEM_NS = 12_000_000
"""How long the runs for one problem take, about; the first run of each way comes on top."""
PROCESS_NS = 500_000_000
"""How long a process measures at most, packing of weights included: then first ways are taken unmeasured."""
ROUNDS = 9
GAIN = 0.95
"""Another way is taken where its time is less than this part of the first one's: else it may be noise."""
SWEPT_FLOATS = 1 << 22
"""Read before each run, so that weights come from behind the second-level cache, as in a run of a whole model."""
NOISE = np.random.default_rng(0).standard_normal(1 << 12, np.float32)


class Tuner:
    """Measures in one process, one problem at a time.

    spent: nanoseconds that it has taken so far.
    """

    def __init__(self) -> None:
        self.spent = 0
        self._lock = ForkSafeLock()

    def quickest(self, asked: Lowering, problem: str, layout: str, ways: Ways, constants: Constants) -> str:
        """The way kept for the problem on this machine, else that of the shortest run, which is kept then.

        The first way where nothing can be kept: else every process would choose, and round, in its own way.
        asked: a lowering of the node, only read. constants: packed weights; those of the way measured best are added.
        """
        first, place = next(iter(ways)), folder()
        if place is None:
            return first
        with self._lock:
            kept = _kept(place)
            name = kept.find(problem, ways)
            if name is None and self.spent < PROCESS_NS and kept.writable():
                start = time.perf_counter_ns()
                name = kept.keep(problem, _measure(asked, layout, ways, constants), ways)
                self.spent += time.perf_counter_ns() - start
            return name or first


TUNER = Tuner()


@cache
def _kept(place: Path) -> Kept:
    level = f"{tilewise_kernels.ISA}, vectors of {tilewise_kernels.VECTOR_FLOATS}"
    return Kept(place, f"tilewise {__version__}, {level}, {cpu_name()}")


def _measure(asked: Lowering, layout: str, ways: Ways, constants: Constants) -> str:
    """The way whose best run is the shortest, all taking turns on one thread."""
    trials = {name: Trial(asked, layout, way, constants) for name, way in ways.items()}
    swept = np.ones(SWEPT_FLOATS, np.float32)
    times = {name: [trial.run(swept)] for name, trial in trials.items()}
    end = time.perf_counter_ns() + PROBLEM_NS
    for done in range(ROUNDS):
        if done and time.perf_counter_ns() > end:
            break
        for name, trial in trials.items():
            times[name].append(trial.run(swept))
    best = {name: min(runs[1:]) for name, runs in times.items()}
    first, least = next(iter(ways)), min(best, key=lambda name: best[name])
    taken = least if best[least] < GAIN * best[first] else first
    constants.update(trials[taken].made)
    return taken


class Trial:
    """One way's steps on random numbers, ready to run; also the `Store` that they are lowered with.

    made: constants that were packed for it.
    """

    blocks = chained = True
    forced: tuple[str, ...] = ()

    def __init__(
        self, asked: Lowering, layout: str, way: Callable[[Lowering], None], constants: Constants
    ) -> None:
        self.made: dict[tuple, np.ndarray] = {}
        self.deferred: dict[str, Deferred] = {}
        self._constants = constants
        self._places: dict[tuple[str, str], Ref] = {}
        for name, fact in zip(asked.node.inputs, asked.ins, strict=True):
            if fact is not None and fact.value is None:
                self.place(name, fact, layout)
        lowering = Lowering(asked.node, asked.ins, asked.outs, self)
        way(lowering)
        self._link(lowering)

    def sole_reader(self, name: str) -> None:
        return None

    def find(self, name: str, layout: str) -> Ref | None:
        return self._places.get((name, layout))

    def place(self, name: str, fact: Fact, layout: str) -> Ref:
        nbytes = 4 * blocked_floats(fact.shape) if layout == BLOCKED else fact.nbytes
        return self._places.setdefault((name, layout), Ref(Buffer(nbytes)))

    def bind(self, name: str, ref: Ref, layout: str) -> None:
        self._places[name, layout] = ref

    def constant(self, key: tuple, make: Callable[[], np.ndarray]) -> np.ndarray:
        array = self._constants.get(key, self.made.get(key))
        if array is None:
            array = self.made[key] = np.ascontiguousarray(make())
        return array

    def has_kernel(self, name: str) -> bool:
        return tilewise_kernels.has(name)

    def quickest(self, asked: Lowering, problem: str, layout: str, ways: Ways) -> str:
        return next(iter(ways))

    def _link(self, lowering: Lowering) -> None:
        """Place what the steps work on: inputs and outputs for all the time, scratch while it is used."""
        last = len(lowering.steps) - 1
        buffers = {id(ref.buffer): ref.buffer for ref in self._places.values()}
        for buffer in buffers.values():
            touch(buffer, 0)
            touch(buffer, last)
        for i, step in enumerate(lowering.steps):
            for arg in step.args:
                if isinstance(arg, Ref) and arg.buffer.kind == "arena":
                    touch(arg.buffer, i)
                    buffers[id(arg.buffer)] = arg.buffer
        self._arena = aligned(np.resize(NOISE, assign_offsets(list(buffers.values())) // 4))
        self._program = link(Segment(lowering.steps))
        self._program.args[self._program.arena] += self._arena.ctypes.data

    def run(self, swept: np.ndarray) -> int:
        """Nanoseconds of one run, after other data has gone through the caches."""
        swept.max()
        self._arena.max()
        start = time.perf_counter_ns()
        tilewise_kernels.run(self._program.code, self._program.args, 1)
        return time.perf_counter_ns() - start
