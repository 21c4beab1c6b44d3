"""What an operator sees while it is lowered: its facts, buffers for its values, and a place for its steps."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from tilewise.graph import Fact, Node
from tilewise.ops.layout import BLOCKED, PLAIN, VECTOR, blocked_floats, pack_blocked, same_order


@dataclass(slots=True, eq=False)
class Buffer:
    """A run of bytes: in the arena, a constant's, or an array of the caller's (an input or output of the graph).

    first/last: the step that first writes and the one that last touches it.
    """

    nbytes: int
    kind: str = "arena"  # "arena", "const", "input", "output"
    name: str = ""
    array: np.ndarray | None = None
    first: int = -1
    last: int = -1
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Ref:
    """A place in a buffer, `offset` bytes from its start."""

    buffer: Buffer
    offset: int = 0

    def at(self, nbytes: int) -> Ref:
        """The place `nbytes` further on."""
        return Ref(self.buffer, self.offset + nbytes)


Arg = Ref | int | float
Ways: TypeAlias = "Mapping[str, Callable[[Lowering], None]]"
"""By name, what emits the steps of one way to lower a node."""
REORDER_GRAIN = 1024
"""Places of a block that a task brings from one layout to the other."""


@dataclass(slots=True, eq=False)
class Step:
    """One kernel call: `tasks` independent tasks over the same arguments.

    inplace: pairs (written, read) of buffers that may be one, if nothing reads the second one later.
    """

    kernel: str
    tasks: int
    args: tuple[Arg, ...]
    node: Node
    inplace: list[tuple[Buffer, Buffer]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Deferred:
    """A value in blocked layout whose steps its only reader emits, some rows at a time.

    whole: emits the steps that make all of it. rows: emits those that make rows [first, last) of an image, as a value
    of so many rows at `into`: (image, first, last, into). row_floats: what is written on the way to one row.
    """

    lowering: Lowering
    whole: Callable[[], None]
    rows: Callable[[int, int, int, Ref], None]
    row_floats: int


class Choice(NamedTuple):
    """The problem that a node poses, as a string, and the name of the implementation that computes it."""

    problem: str
    implementation: str


class Store(Protocol):
    """What a plan under construction offers: where values live, and constants packed once for a model.

    blocks: False where this process has no blocked layout. chained: True where what one convolution leaves in blocked
    layout another one takes. forced: names of implementations to be preferred, the first most of all. deferred: values
    by name that no step has been emitted for yet.
    """

    blocks: bool
    chained: bool
    forced: tuple[str, ...]
    deferred: dict[str, Deferred]

    def sole_reader(self, name: str) -> tuple[Node, Sequence[Fact | None]] | None: ...

    def find(self, name: str, layout: str) -> Ref | None: ...

    def place(self, name: str, fact: Fact, layout: str) -> Ref: ...

    def bind(self, name: str, ref: Ref, layout: str) -> None: ...

    def constant(self, key: tuple, make: Callable[[], np.ndarray]) -> np.ndarray: ...

    def has_kernel(self, name: str) -> bool: ...

    def quickest(self, asked: Lowering, problem: str, layout: str, ways: Ways) -> str: ...


class Lowering:
    """Collects the steps of one node.

    ins/outs: facts with known shapes; an input left out is None.
    """

    def __init__(
        self, node: Node, ins: Sequence[Fact | None], outs: Sequence[Fact | None], store: Store
    ) -> None:
        self.node = node
        self.ins: list[Any] = list(ins)
        self.outs: list[Any] = list(outs)
        self.steps: list[Step] = []
        self.choice: Choice | None = None
        self._store = store

    def is_dtype(self, dtype: str = "float32") -> bool:
        """True where every input and output present has this dtype."""
        return all(f is None or f.dtype == dtype for f in (*self.ins, *self.outs))

    def has(self, kernel: str) -> bool:
        """True where the kernel is available in this process."""
        return self._store.has_kernel(kernel)

    def wants(self, i: int) -> bool:
        """True where output `i` is asked for."""
        return i < len(self.node.outputs) and bool(self.node.outputs[i])

    @property
    def blocks(self) -> bool:
        """True where this process can work in blocked layout."""
        return self._store.blocks

    @property
    def chained(self) -> bool:
        """True where values go from convolution to convolution, so that no single one pays for changes of layout."""
        return self._store.chained

    @property
    def forced(self) -> tuple[str, ...]:
        """Names of implementations that are to be taken where they can."""
        return self._store.forced

    def quickest(self, problem: str, layout: str, ways: Ways) -> str:
        """The quickest of several ways to lower this node, all in one layout; the first where that is not known."""
        return self._store.quickest(self, problem, layout, ways)

    def lies_blocked(self, i: int) -> bool:
        """True where input `i` is there in blocked layout."""
        if i >= len(self.ins):
            return False
        name = self.node.inputs[i]
        return name in self._store.deferred or self._store.find(name, BLOCKED) is not None

    def layout(self, i: int) -> str:
        """The layout in which input `i` is there, the blocked one where both are."""
        return BLOCKED if self.lies_blocked(i) else PLAIN

    def input(self, i: int, layout: str = PLAIN) -> Ref:
        """Where input `i` lies in `layout` (plain is C-contiguous), after a step that brings it there where need be."""
        name, fact = self.node.inputs[i], self._fact(self.ins, i)
        if layout == BLOCKED and fact.value is not None:
            return self.packed(i, BLOCKED, lambda: pack_blocked(np.asarray(fact.value)))
        if (deferred := self.take_deferred(i)) is not None:
            deferred.whole()
        if self._store.find(name, layout) is None:
            source = self._store.find(name, BLOCKED if layout == PLAIN else PLAIN)
            if source is not None or layout == BLOCKED:
                self._reorder(name, fact, source or self._store.place(name, fact, PLAIN), layout)
        return self._store.place(name, fact, layout)

    def sole_reader(self) -> tuple[Node, Sequence[Fact | None]] | None:
        """The one node that reads output 0, and facts of its inputs; None where there are several, or the caller."""
        return self._store.sole_reader(self.node.outputs[0])

    def defer(
        self, whole: Callable[[], None], rows: Callable[[int, int, int, Ref], None], row_floats: int
    ) -> None:
        """Leave the steps of output 0 to its reader; see `Deferred`. Both calls emit through this lowering."""
        self.leave(Deferred(self, whole, rows, row_floats))

    def leave(self, deferred: Deferred) -> None:
        """Leave output 0 to its reader, of a kind that may be for certain readers."""
        self._store.deferred[self.node.outputs[0]] = deferred

    def take_deferred(self, i: int) -> Deferred | None:
        """Input `i` if it was deferred; what it emits comes next among this node's steps."""
        deferred = self._store.deferred.pop(self.node.inputs[i], None)
        if deferred is not None:
            deferred.lowering.steps = self.steps
        return deferred

    def optional(self, i: int, layout: str = PLAIN) -> Ref | int:
        """Where input `i` lies, or 0 where it is left out, as kernels take it."""
        return self.input(i, layout) if self.given(i) else 0

    def given(self, i: int) -> bool:
        """True where input `i` is not left out."""
        return i < len(self.ins) and self.ins[i] is not None

    def output(self, i: int = 0, layout: str = PLAIN) -> Ref:
        """Where output `i` is to be written in `layout`."""
        return self._store.place(self.node.outputs[i], self._fact(self.outs, i), layout)

    def value(self, i: int) -> Any:
        """The content of input `i` where it is a constant, else None (also for one left out)."""
        fact = self.ins[i] if i < len(self.ins) else None
        return None if fact is None or fact.value is None else np.asarray(fact.value)

    def temp(self, nbytes: int) -> Ref:
        """Scratch that lives from the first to the last step of this node that takes it."""
        return Ref(Buffer(max(int(nbytes), 1)))

    def const(self, array: np.ndarray) -> Ref:
        """A constant of this plan (a table of offsets, strides, coefficients)."""
        array = aligned(array)
        return Ref(Buffer(array.nbytes, "const", array=array))

    def packed(self, i: int, form: str, make: Callable[[], np.ndarray]) -> Ref:
        """A constant derived from constant input `i` alone and shared by all plans of the model.

        form: names the derivation; one (input, form) is made once.
        """
        array = self._store.constant((self.node.inputs[i], form), make)
        return Ref(Buffer(array.nbytes, "const", array=array))

    def step(self, kernel: str, tasks: int, *args: Arg) -> None:
        """One kernel call cut into `tasks` tasks; refs become addresses, floats the bits of a double."""
        self.steps.append(Step(kernel, int(tasks), args, self.node))

    def alias(self, out: int, into: int, offset: int = 0, layout: str = PLAIN) -> None:
        """Output `out` is input `into` seen from `offset` bytes on; nothing is copied."""
        self.bind(out, self.input(into, layout).at(offset), layout)

    def bind(self, out: int, ref: Ref, layout: str) -> None:
        """Output `out` is what lies at `ref` already."""
        self._store.bind(self.node.outputs[out], ref, layout)

    def inplace(self, out: int, into: int, layout: str = PLAIN) -> None:
        """The last step may write output `out` over input `into` (same shape and dtype), task by task."""
        written, read = self.output(out, layout), self.input(into, layout)
        if written.offset == read.offset:
            self.steps[-1].inplace.append((written.buffer, read.buffer))

    def _reorder(self, name: str, fact: Fact, source: Ref, layout: str) -> None:
        """Bring a value from the other layout into `layout`."""
        shape = fact.shape
        if same_order(shape) and (layout == PLAIN or blocked_floats(shape) == fact.size):
            self._store.bind(name, source, layout)
            return
        target = self._store.place(name, fact, layout)
        pixels = int(np.prod(shape[2:]))
        grain = min(pixels, REORDER_GRAIN)
        blocks = blocked_floats(shape[:2]) // VECTOR
        kernel = "to_blocked" if layout == BLOCKED else "from_blocked"
        self.step(kernel, blocks * chunks(pixels, grain), target, source, shape[1], pixels, grain)

    @staticmethod
    def _fact(facts: Sequence[Fact | None], i: int) -> Fact:
        fact = facts[i]
        if fact is None:
            raise IndexError(f"value {i} is left out")
        return fact


def aligned(array: np.ndarray, alignment: int = 64) -> np.ndarray:
    """A C-contiguous copy that starts on a cache line: vectors in it do not straddle two."""
    copy = empty_aligned(array.shape, array.dtype, alignment)
    copy[...] = array
    return copy


def empty_aligned(shape: Sequence[int], dtype: np.dtype, alignment: int = 64) -> np.ndarray:
    """An uninitialized array that starts on a cache line."""
    nbytes = math.prod(shape) * dtype.itemsize
    block = np.empty(nbytes + alignment, np.uint8)
    start = -block.ctypes.data % alignment
    return block[start : start + nbytes].view(dtype).reshape(shape)


def chunks(size: int, grain: int) -> int:
    """How many tasks of `grain` elements cover `size`."""
    return max(1, -(-size // grain))


def float_bits(value: float) -> int:
    """The bits of a double, as a signed 64-bit integer, for a kernel's argument list."""
    return struct.unpack("<q", struct.pack("<d", value))[0]
