"""Builds a plan: places values, lowers nodes, finds lifetimes, writes over dead inputs, lays out the arena."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import numpy as np

import tilewise_kernels
from tilewise.errors import ShapeError
from tilewise.graph import UNKNOWN, Fact, Graph, Node
from tilewise.ops.base import Op
from tilewise.ops.inference import SURPRISES, infer
from tilewise.ops.layout import BLOCKED, PLAIN, blocked_floats
from tilewise.ops.lowering import Buffer, Choice, Deferred, Lowering, Ref, Step, Ways
from tilewise.ops.table import make
from tilewise.plan.homes import find_homes
from tilewise.plan.memory import assign_offsets
from tilewise.plan.settings import forced_implementations, tunes

ConstantStore = MutableMapping[tuple, np.ndarray]


@dataclass(slots=True)
class Segment:
    """Consecutive kernel steps, run in one native call; `first` is the index of the first in the plan's order."""

    steps: list[Step] = field(default_factory=list)
    first: int = 0


@dataclass(slots=True)
class HostStep:
    """A node evaluated in NumPy between segments."""

    op: Op
    index: int
    frees: list[str] = field(default_factory=list)


class Builder:
    """One use: `Builder(...).build()` fills `items`, `refs`, `facts`, `choices`, `arena` and `arena_bytes`.

    inputs: facts of the graph's inputs with known shapes where the caller knows them.
    constants: the model's store of packed constants, shared by all its plans.
    native: False plans everything on the host, for a build without kernels.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, Fact],
        constants: ConstantStore,
        outer: Mapping[str, Fact] | None = None,
        native: bool = True,
    ) -> None:
        self.graph = graph
        self.native = native and tilewise_kernels.ISA != "none"
        self.facts = infer(graph, inputs, outer)
        self.items: list[Segment | HostStep] = []
        self.forced = forced_implementations()
        self.blocks = self.native and tilewise_kernels.has("blocked_conv")
        self.chained = _has_chains(graph)
        self.choices: dict[str, Choice] = {}
        self._tunes = tunes()
        self.refs: dict[str, Ref] = {}
        self._blocked: dict[str, Ref] = {}
        self.deferred: dict[str, Deferred] = {}
        self._readers = graph.consumers()
        self._buffers: dict[tuple[str, str], Buffer] = {}
        self._homes = {layout: find_homes(graph, self.facts, layout) for layout in (PLAIN, BLOCKED)}
        self.arena: list[Buffer] = []
        self.arena_bytes = 0
        self._constants = constants
        self._external = set(graph.inputs) | set(outer or {})
        self._index = 0

    def build(self) -> Builder:
        for node in self.graph.nodes:
            if not self._is_constant(node):
                self._add(node)
        self._fetch(self.graph.outputs)
        self._count_lifetimes()
        self._place_outputs()
        self._merge_inplace()
        self.arena = self._arena_buffers()
        self.arena_bytes = assign_offsets(self.arena)
        self._find_last_host_reads()
        return self

    # What `Lowering` asks for.

    def sole_reader(self, name: str) -> tuple[Node, Sequence[Fact | None]] | None:
        readers = self._readers.get(name, [])
        if len(readers) != 1 or readers[0].inputs.count(name) != 1 or name in self.graph.outputs:
            return None
        return readers[0], [self.facts[i] if i else None for i in readers[0].inputs]

    def find(self, name: str, layout: str) -> Ref | None:
        return self._places(layout).get(name)

    def place(self, name: str, fact: Fact, layout: str) -> Ref:
        places = self._places(layout)
        if name not in places:
            places[name] = self._home(name, fact, layout)
        return places[name]

    def _home(self, name: str, fact: Fact, layout: str) -> Ref:
        """A place for a value: a new buffer, or a part of that of the Concat which takes it."""
        home = self._homes[layout].get(name)
        if home is not None:
            parent = self._home(home.parent, self.facts[home.parent], layout)
            return parent.at(home.elements * fact.dtype.itemsize)
        key = (name, layout)
        if key not in self._buffers:
            blocked = Buffer(4 * blocked_floats(fact.shape), name=name) if layout == BLOCKED else None
            self._buffers[key] = blocked or self._buffer(name, fact)
        return Ref(self._buffers[key])

    def bind(self, name: str, ref: Ref, layout: str) -> None:
        self._places(layout)[name] = ref

    def _places(self, layout: str) -> dict[str, Ref]:
        return self._blocked if layout == BLOCKED else self.refs

    def constant(self, key: tuple, make_array: Callable[[], np.ndarray]) -> np.ndarray:
        array = self._constants.get(key)
        if array is None:
            array = self._constants[key] = np.ascontiguousarray(make_array())
        return array

    def has_kernel(self, name: str) -> bool:
        return tilewise_kernels.has(name)

    def quickest(self, asked: Lowering, problem: str, layout: str, ways: Ways) -> str:
        if not self._tunes:
            return next(iter(ways))
        from tilewise.plan.tune import TUNER

        return TUNER.quickest(asked, problem, layout, ways, self._constants)

    def _buffer(self, name: str, fact: Fact) -> Buffer:
        if fact.value is not None:
            array = self.constant((name, ""), lambda: np.require(fact.value, requirements=["C", "A"]))
            return Buffer(array.nbytes, "const", name, array)
        return Buffer(fact.nbytes, "input" if name in self._external else "arena", name)

    # Nodes to steps.

    def _is_constant(self, node: Node) -> bool:
        return all(self.facts[name].value is not None for name in node.outputs if name)

    def _add(self, node: Node) -> None:
        op = make(node)
        steps = self._lower(op)
        if steps is None:
            self._fetch(node.reads())
            self.items.append(HostStep(op, self._index))
            self._index += 1
        else:
            self._extend(steps)

    def _fetch(self, names: Iterable[str]) -> None:
        """Bring values that lie in blocked layout alone into plain layout."""
        blocked = self._blocked.keys() | self.deferred.keys()
        names = [name for name in names if name in blocked and name not in self.refs]
        facts = [self.facts[name] for name in names]
        lowering = Lowering(Node("Reorder", names, []), facts, [], self)
        for i in range(len(names)):
            lowering.input(i)
        self._extend(lowering.steps)

    def _extend(self, steps: list[Step]) -> None:
        if not steps:
            return
        if not self.items or not isinstance(self.items[-1], Segment):
            self.items.append(Segment(first=self._index))
        segment = self.items[-1]
        assert isinstance(segment, Segment)
        segment.steps.extend(steps)
        self._index += len(steps)

    def _lower(self, op: Op) -> list[Step] | None:
        """The node's steps, or None where it runs on the host."""
        if not self.native:
            return None
        node = op.node
        ins = [self.facts.get(name, UNKNOWN) if name else None for name in node.inputs]
        outs = [self.facts[name] if name else None for name in node.outputs]
        held = [f for f in ins if not (op.empty_constants and f is not None and f.value is not None)]
        if op.control_flow or not all(f is None or _fits(f) for f in (*held, *outs)):
            return None
        lowering = Lowering(node, ins, outs, self)
        before = dict(self.refs), dict(self._blocked), dict(self.deferred)
        if self._emit(op, lowering) and all(self.has_kernel(step.kernel) for step in lowering.steps):
            if lowering.choice is not None:
                self.choices[node.label] = lowering.choice
            return lowering.steps
        self.refs, self._blocked, self.deferred = before
        return None

    def _emit(self, op: Op, lowering: Lowering) -> bool:
        try:
            return op.lower(lowering)
        except SURPRISES as error:
            shown = ", ".join("-" if f is None else str(f) for f in lowering.ins)
            raise ShapeError(
                f"node {op.node.label!r} ({op.node.op_type}): inputs {shown} cannot be planned: {error}"
            ) from error

    # Lifetimes.

    def _count_lifetimes(self) -> None:
        for item in self.items:
            if isinstance(item, Segment):
                for i, step in enumerate(item.steps, item.first):
                    for arg in step.args:
                        if isinstance(arg, Ref):
                            touch(arg.buffer, i)
            else:
                for name in (*item.op.node.reads(), *item.op.node.outputs):
                    if name in self.refs:
                        touch(self.refs[name].buffer, item.index)
        for name in self.graph.outputs:
            if name in self.refs:
                touch(self.refs[name].buffer, self._index)

    def _place_outputs(self) -> None:
        """Kernels write graph outputs straight into the caller's arrays where a buffer is one output's alone."""
        for name in self.graph.outputs:
            ref = self.refs.get(name)
            if ref is None or ref.buffer.kind != "arena" or ref.offset or ref.buffer.first < 0:
                continue
            if ref.buffer.nbytes == self.facts[name].nbytes:
                ref.buffer.kind = "output"
                ref.buffer.name = name

    def _merge_inplace(self) -> None:
        """Let a step write over an input that dies with it."""
        merged: dict[int, Buffer] = {}

        def root(buffer: Buffer) -> Buffer:
            while id(buffer) in merged:
                buffer = merged[id(buffer)]
            return buffer

        for segment in self.items:
            if not isinstance(segment, Segment):
                continue
            for i, step in enumerate(segment.steps, segment.first):
                for written, read in step.inplace:
                    new, old = root(written), root(read)
                    if new is old or not _mergeable(new, old, i) or _reads_twice(step, old, root):
                        continue
                    keep, gone = (new, old) if new.kind == "output" else (old, new)
                    merged[id(gone)] = keep
                    keep.first = min(new.first, old.first)
                    keep.last = max(new.last, old.last)
        if merged:
            self._rebind(root)

    def _rebind(self, root: Callable[[Buffer], Buffer]) -> None:
        def move(arg):
            return Ref(root(arg.buffer), arg.offset) if isinstance(arg, Ref) else arg

        for item in self.items:
            if isinstance(item, Segment):
                for step in item.steps:
                    step.args = tuple(move(a) for a in step.args)
        self.refs = {name: move(ref) for name, ref in self.refs.items()}
        self._blocked = {name: move(ref) for name, ref in self._blocked.items()}

    def _arena_buffers(self) -> list[Buffer]:
        found: dict[int, Buffer] = {}
        for item in self.items:
            if isinstance(item, Segment):
                for step in item.steps:
                    for arg in step.args:
                        if isinstance(arg, Ref) and arg.buffer.kind == "arena":
                            found[id(arg.buffer)] = arg.buffer
        for ref in self.refs.values():
            if ref.buffer.kind == "arena" and ref.buffer.first >= 0:
                found[id(ref.buffer)] = ref.buffer
        return list(found.values())

    def _find_last_host_reads(self) -> None:
        """Host values are dropped after their last reader; what the caller feeds stays, kernels may read it later."""
        keep = set(self.graph.outputs) | self._external
        seen: set[str] = set()
        for item in reversed(self.items):
            if isinstance(item, HostStep):
                for name in dict.fromkeys((*item.op.node.reads(), *item.op.node.outputs)):
                    if name and name not in seen and name not in keep:
                        seen.add(name)
                        item.frees.append(name)


def _has_chains(graph: Graph) -> bool:
    """True where values go from convolution to convolution, so that bringing them into blocked layout pays."""
    return sum("Conv" in node.op_type for node in graph.nodes) > 1


def touch(buffer: Buffer, index: int) -> None:
    if buffer.first < 0:
        buffer.first = index
    buffer.last = max(buffer.last, index)


def _mergeable(new: Buffer, old: Buffer, index: int) -> bool:
    if old.kind != "arena" or new.kind not in ("arena", "output") or new.nbytes != old.nbytes:
        return False
    if new.last == index and new.kind != "output":  # an unread result; a second one must not share the input
        return False
    return old.last == index and new.first == index


def _reads_twice(step: Step, buffer: Buffer, root: Callable[[Buffer], Buffer]) -> bool:
    """True where a step has several arguments in a buffer, so that one may be read after another is written over."""
    return sum(isinstance(arg, Ref) and root(arg.buffer) is buffer for arg in step.args) > 1


def _fits(fact: Fact) -> bool:
    """A tensor that a buffer can hold: shape known, not empty, a dtype of plain bytes."""
    return fact.known_shape and fact.dtype is not None and not fact.dtype.hasobject and fact.size > 0
