"""A plan: the flat list of steps for one set of input shapes, and the contexts that run it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

import tilewise_kernels
from tilewise.errors import ExecutionError
from tilewise.graph import Fact, Graph
from tilewise.ops.inference import evaluate
from tilewise.ops.lowering import Ref, Step, float_bits
from tilewise.plan.builder import Builder, HostStep, Segment
from tilewise.plan.memory import ALIGNMENT

Places = tuple[np.ndarray, np.ndarray]
"""int64 positions in a program's arguments and, for each, bytes to add to the address of an array."""

SubgraphCall = Callable[[Graph, Mapping[str, object]], list]
IDLE_CONTEXTS = 8


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One line of a plan: the node, its operator, the kernel ("host" for NumPy) and its tasks."""

    node: str
    op_type: str
    kernel: str
    tasks: int


@dataclass(frozen=True, slots=True)
class BufferInfo:
    """Where a value or scratch lies in the arena, and the steps between which it lives."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(slots=True)
class Program:
    """A segment as the executor takes it: `code` rows and one argument array still without addresses of a run.

    arena: positions in `args` of offsets into the arena. external: positions by name of a caller's array.
    """

    code: np.ndarray
    args: np.ndarray
    arena: np.ndarray
    external: dict[str, Places]
    steps: list[Step]


@dataclass(slots=True)
class Context:
    """What one run at a time needs: an arena and programs that point into it.

    address: where the arguments of the first program lie, 0 without one.
    """

    arena: np.ndarray
    args: list[np.ndarray]
    address: int
    views: dict[str, np.ndarray] = field(default_factory=dict)


class Plan:
    """All that a run with inputs of known shapes needs, immutable once built.

    choices: the problem and the implementation of every convolution, by label of its node.
    peak_bytes: bytes of the arena, the scratch of all kernels included; inputs, outputs and constants excluded.
    """

    def __init__(self, builder: Builder) -> None:
        self.graph = builder.graph
        self.facts = builder.facts
        self.choices = builder.choices
        self.peak_bytes = builder.arena_bytes
        self._refs = builder.refs
        self._buffers = builder.arena
        self._items = [item if isinstance(item, HostStep) else link(item) for item in builder.items]
        self._loaded = self._host_loads()
        self._stored = self._host_stores()
        self._idle: list[Context] = []
        programs = [item for item in self._items if isinstance(item, Program)]
        self._new_context = partial(new_context, self.peak_bytes, programs)
        self.entry = self._find_entry()

    @property
    def steps(self) -> list[StepInfo]:
        """Every step in the order of execution."""
        out = []
        for item in self._items:
            if isinstance(item, HostStep):
                out.append(StepInfo(item.op.node.label, item.op.node.op_type, "host", 1))
            else:
                out += [StepInfo(s.node.label, s.node.op_type, s.kernel, s.tasks) for s in item.steps]
        return out

    @property
    def arena(self) -> list[BufferInfo]:
        """The arena's layout, by offset."""
        rows = [BufferInfo(b.name, b.offset, b.nbytes, b.first, b.last) for b in self._buffers]
        return sorted(rows, key=lambda r: (r.offset, r.first))

    def run(
        self,
        feeds: Mapping[str, object],
        outputs: Sequence[str],
        threads: int,
        call: SubgraphCall,
        times: list[tuple[StepInfo, int]] | None = None,
    ) -> list:
        """Arrays of `outputs` for `feeds` (checked by the caller), which own their memory.

        call: runs a subgraph of a control-flow node. times: where given, (step, nanoseconds) are appended.
        """
        context = self._take()
        try:
            return Run(self, context, feeds, threads, call, times).outputs(outputs)
        finally:
            if len(self._idle) < IDLE_CONTEXTS:
                self._idle.append(context)

    def _take(self) -> Context:
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_context()

    def _find_entry(self) -> Callable[[Sequence, int], list | None] | None:
        """The short way to all outputs from all inputs in graph order, where one program is all there is to do."""
        if tilewise_kernels.Entry is None or len(self._items) != 1 or not isinstance(self._items[0], Program):
            return None
        program, graph = self._items[0], self.graph
        made = [name for name in graph.outputs if self._is_made_alone(name)]
        ins = [_signature(self.facts[name], program.external.get(name)) for name in graph.inputs]
        outs = [_signature(self.facts[name], program.external.get(name)) for name in made]
        given = set(graph.inputs).issuperset(set(program.external) - set(made))
        if len(set(made)) != len(graph.outputs) or None in ins or None in outs or not given:
            return None
        makers = [
            partial(allocate, self.facts[name].shape, self.facts[name].dtype, f"output {name!r}")
            for name in made
        ]
        contexts = (self._idle, IDLE_CONTEXTS, self._new_context)
        return tilewise_kernels.Entry(
            program.code, tuple(ins), tuple(outs), np.ndarray, tuple(makers), *contexts
        )

    def _is_made_alone(self, name: str) -> bool:
        """True for an output that kernels write straight into an array of its own."""
        ref = self._refs.get(name)
        return ref is not None and ref.buffer.kind == "output" and ref.buffer.name == name

    def _host_loads(self) -> set[str]:
        """Values in the arena that host steps or the caller read."""
        names = {n for item in self._items if isinstance(item, HostStep) for n in item.op.node.reads()}
        return {n for n in names | set(self.graph.outputs) if n in self._refs and self._is_written(n)}

    def _host_stores(self) -> set[str]:
        """Values that host steps make and kernels read."""
        names = {n for item in self._items if isinstance(item, HostStep) for n in item.op.node.outputs}
        return {n for n in names if n in self._refs and self._is_written(n)}

    def _is_written(self, name: str) -> bool:
        buffer = self._refs[name].buffer
        return buffer.kind in ("arena", "output") and buffer.first >= 0

    def view(self, context: Context, made: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        """The array of a value that kernels read or write."""
        ref, fact = self._refs[name], self.facts[name]
        if ref.buffer.kind == "arena":
            view = context.views.get(name)
            if view is None:
                start = ref.buffer.offset + ref.offset
                view = context.arena[start : start + fact.nbytes].view(fact.dtype).reshape(fact.shape)
                context.views[name] = view
            return view
        if ref.buffer.kind == "output" and ref.buffer.name == name:
            return made[name]
        owner = made[ref.buffer.name] if ref.buffer.kind in ("output", "input") else ref.buffer.array
        raw = np.ascontiguousarray(owner).reshape(-1).view(np.uint8)
        return raw[ref.offset : ref.offset + fact.nbytes].view(fact.dtype).reshape(fact.shape)


class Run:
    """One run of a plan in one context."""

    def __init__(self, plan: Plan, context: Context, feeds, threads: int, call, times) -> None:
        self.plan = plan
        self.context = context
        self.threads = threads
        self.call = call
        self.times = times
        self.values: dict[str, object] = dict(feeds)
        self.arrays: dict[str, np.ndarray] = {}
        program = 0
        for item in plan._items:
            if isinstance(item, HostStep):
                self._host(item)
            else:
                self._segment(item, context.args[program])
                program += 1

    def outputs(self, names: Sequence[str]) -> list:
        return [self._own(self._fetch(name)) for name in names]

    def _segment(self, program: Program, args: np.ndarray) -> None:
        for name, (positions, offsets) in program.external.items():
            args[positions] = offsets + self._external(name).ctypes.data
        if self.times is None:
            tilewise_kernels.run(program.code, args, self.threads)
            return
        times = np.zeros(len(program.steps), np.int64)
        tilewise_kernels.run(program.code, args, self.threads, times)
        for step, spent in zip(program.steps, times.tolist(), strict=True):
            self.times.append((StepInfo(step.node.label, step.node.op_type, step.kernel, step.tasks), spent))

    def _external(self, name: str) -> np.ndarray:
        """The caller's array of an input, C-contiguous and aligned, or a new one for an output."""
        array = self.arrays.get(name)
        if array is None:
            fed = self.values.get(name)
            if fed is None:
                fact = self.plan.facts[name]
                array = allocate(fact.shape, fact.dtype, f"output {name!r}")
            else:
                array = np.require(fed, requirements=["C", "A"])
            self.arrays[name] = array
        return array

    def _host(self, item: HostStep) -> None:
        node = item.op.node
        ins = [self._fetch(name) if name else None for name in node.inputs]
        ins += [self._fetch(name) for name in node.captures]
        start, inner = time.perf_counter_ns(), len(self.times or ())
        results = evaluate(item.op, ins, self.call)
        if self.times is not None:
            spent = time.perf_counter_ns() - start - sum(ns for _, ns in self.times[inner:])
            self.times.append((StepInfo(node.label, node.op_type, "host", 1), spent))
        for name, result in zip(node.outputs, results, strict=False):
            if not name:
                continue
            if name in self.plan._stored:
                self._store(item, name, result)
            else:
                self.values[name] = self._detach(result)
        for name in item.frees:
            self.values.pop(name, None)

    def _store(self, item: HostStep, name: str, result: np.ndarray) -> None:
        fact = self.plan.facts[name]
        if result.shape != fact.shape or result.dtype != fact.dtype:
            node = item.op.node
            raise ExecutionError(
                f"node {node.label!r} ({node.op_type}): output {name!r} came as {Fact.of(result)}, planned as {fact}"
            )
        self._view(name)[...] = result

    def _fetch(self, name: str):
        """A value as host steps and callers see it: an array, a list for a sequence, None for an empty optional."""
        if name in self.plan._loaded:
            return self._view(name)
        if name in self.values:
            return self.values[name]
        fact = self.plan.facts[name]
        if fact.value is not None:
            return fact.value
        return self._view(name)

    def _view(self, name: str) -> np.ndarray:
        """The array of a value that has a place in the plan."""
        buffer = self.plan._refs[name].buffer
        if buffer.kind in ("input", "output"):
            self._external(buffer.name)
        return self.plan.view(self.context, self.arrays, name)

    def _detach(self, result):
        """A result that does not lie in the arena or in an output, whose bytes later steps write over."""
        if isinstance(result, np.ndarray):
            outputs = (a for name, a in self.arrays.items() if name not in self.values)
            planned = (self.context.arena, *outputs)
            return result.copy() if any(np.may_share_memory(result, a) for a in planned) else result
        if isinstance(result, list):
            return [self._detach(r) for r in result]
        return result

    def _own(self, value):
        """A value that the caller may keep and change."""
        if isinstance(value, np.ndarray):
            mine = any(value is a for n, a in self.arrays.items() if n not in self.plan.graph.inputs)
            return value if mine else np.array(value)
        if isinstance(value, list):
            return [self._own(v) for v in value]
        return value


def new_context(peak_bytes: int, programs: Sequence[Program]) -> Context:
    """A context for plans of these programs."""
    block = allocate((peak_bytes + ALIGNMENT,), np.dtype(np.uint8), "the arena")
    start = -block.ctypes.data % ALIGNMENT
    arena = block[start : start + peak_bytes]
    args = []
    for program in programs:
        linked = program.args.copy()
        linked[program.arena] += arena.ctypes.data
        args.append(linked)
    return Context(arena, args, args[0].ctypes.data if args else 0)


def _signature(fact: Fact, places: Places | None):
    """What an entry asks of an array; None for a value or a dtype that the buffer protocol does not know."""
    if fact.kind != "tensor" or fact.dtype is None or not fact.known_shape:
        return None
    try:
        code = np.empty(0, fact.dtype).data.format.encode()
    except (BufferError, ValueError):
        return None
    dims = np.array(fact.shape, np.int64)
    return tilewise_kernels.Signature(code, dims, *(places or (np.empty(0, np.int64), np.empty(0, np.int64))))


ALIGNED_BYTES = 1 << 16
"""Arrays from this size on start on a cache line: vectors stored in them do not straddle two."""


def allocate(shape: tuple[int, ...], dtype: np.dtype, what: str) -> np.ndarray:
    """An uninitialized array; `ExecutionError` where there is no memory for it."""
    try:
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < ALIGNED_BYTES:
            return np.empty(shape, dtype)
        block = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        return block[start : start + nbytes].view(dtype).reshape(shape)
    except (MemoryError, ValueError) as error:
        raise ExecutionError(f"no memory for {what}: {dtype}{list(shape)}: {error}") from error


def link(segment: Segment) -> Program:
    """Steps as arrays: constants' addresses are final, the arena's and the caller's are filled in later."""
    code: list[int] = []
    args: list[int] = []
    arena: list[int] = []
    external: dict[str, tuple[list[int], list[int]]] = {}
    for step in segment.steps:
        code += [tilewise_kernels.address(step.kernel), len(args), step.tasks]
        for arg in step.args:
            if isinstance(arg, Ref):
                args.append(_address(arg, len(args), arena, external))
            else:
                args.append(float_bits(arg) if isinstance(arg, float) else int(arg))
    return Program(
        np.array(code, np.int64),
        np.array(args, np.int64),
        np.array(arena, np.int64),
        {n: (np.array(p, np.int64), np.array(o, np.int64)) for n, (p, o) in external.items()},
        segment.steps,
    )


def _address(ref: Ref, position: int, arena: list[int], external: dict) -> int:
    buffer = ref.buffer
    if buffer.kind == "arena":
        arena.append(position)
        return buffer.offset + ref.offset
    if buffer.kind == "const":
        assert buffer.array is not None
        return buffer.array.ctypes.data + ref.offset
    positions, offsets = external.setdefault(buffer.name, ([], []))
    positions.append(position)
    offsets.append(ref.offset)
    return 0
