"""Control flow: operators that run subgraphs. Their captured values come after their own inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilewise.errors import ExecutionError, ShapeError
from tilewise.graph import UNKNOWN, Fact, Graph
from tilewise.graph.facts import Dim, union
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.sequence import element, sequence_of

Call = Callable[[Graph, Mapping[str, object]], list]

INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class ControlFlow(Op):
    """Base of the operators with subgraphs.

    `evaluate` takes `call(graph, feeds)`, which runs a subgraph on its inputs and captured values by name.
    """

    control_flow = True

    def graph(self, attribute: str) -> Graph:
        """The subgraph in an attribute."""
        graph = self.attr(attribute)
        if not isinstance(graph, Graph):
            raise self.fail(f"attribute {attribute!r} holds no graph")
        return graph

    def split(self, ins: Sequence) -> tuple[list, dict[str, object]]:
        """The node's own inputs (None for one left out), and captured values by name."""
        count = len(self.node.inputs)
        return list(ins[:count]), dict(zip(self.node.captures, ins[count:], strict=True))

    def run(self, call: Call, graph: Graph, inputs: Sequence, outer: Mapping[str, object]) -> list:
        """Outputs of `graph` for its inputs by position."""
        feeds = dict(zip(graph.inputs, inputs, strict=True))
        return call(graph, feeds | {name: outer[name] for name in graph.captures})

    def facts(self, graph: Graph, inputs: Sequence[Fact], outer: Mapping[str, object]) -> list[Fact]:
        """Facts of the outputs of `graph` for facts of its inputs and of captured values."""
        # The table of operators, which inference needs, holds the classes of this module.
        from tilewise.ops.inference import infer

        captured = {name: outer[name] for name in graph.captures}
        found = infer(graph, dict(zip(graph.inputs, inputs, strict=True)), captured)  # type: ignore[arg-type]
        return [found.get(name, UNKNOWN) for name in graph.outputs]

    def facts_at_hand(self, inputs: Sequence) -> list[Fact]:
        """Facts of the outputs for the arguments of `evaluate`, where the body did not run to tell them."""
        count = len(self.node.inputs)
        own = [_fact_of(value, constant=False) for value in inputs[:count]]
        return self.infer([*own, *(_fact_of(value, constant=True) for value in inputs[count:])])

    def check_counts(self, graph: Graph, inputs: int, outputs: int) -> None:
        """An error where a body has other numbers of inputs and outputs than the node needs."""
        if (len(graph.inputs), len(graph.outputs)) != (inputs, outputs):
            raise self.fail(
                f"body {graph.name!r}: expected {inputs} input(s) and {outputs} output(s), "
                f"got {len(graph.inputs)} and {len(graph.outputs)}"
            )

    def settle(
        self, graph: Graph, first: Sequence[Fact], rest: Callable[[list[Fact]], list[Fact]]
    ) -> list[Fact]:
        """Facts of loop-carried values: those that hold before and after any number of iterations.

        first: before the loop. rest: facts after one iteration from facts before it. An element type that an
        iteration changes is an error.
        """
        carried = [fact.without_value() for fact in first]
        while True:
            try:
                merged = [union(a, b) for a, b in zip(carried, rest(carried), strict=True)]
            except ValueError as error:
                raise self.fail(f"body {graph.name!r} changes a loop-carried value: {error}") from None
            if [str(f) for f in merged] == [str(f) for f in carried]:
                return carried
            carried = merged


class If(ControlFlow):
    """The outputs of `then_branch` or `else_branch` (ONNX If, opsets 1 to 25).

    A branch that does not fit its inputs is no error as long as the other one does: exporters leave branches
    for ranks that a model never meets. Running it is one.
    """

    attributes = frozenset({"then_branch", "else_branch"})

    def branches(self, taken: bool | None) -> list[Graph]:
        names = {True: ["then_branch"], False: ["else_branch"], None: ["then_branch", "else_branch"]}[taken]
        return [self.graph(name) for name in names]

    def infer(self, ins: Inputs) -> list[Fact]:
        (cond,), outer = self.split(ins)
        results: list[list[Fact]] = []
        failed: ShapeError | ExecutionError | None = None
        for graph in self.branches(_truth(cond)):
            self.check_counts(graph, 0, len(self.node.outputs))
            try:
                results.append(self.facts(graph, [], outer))
            except (ShapeError, ExecutionError) as error:
                failed = failed or error
        if not results:
            assert failed is not None
            raise failed
        if len(results) == 1:
            return results[0]
        try:
            return [union(a, b) for a, b in zip(*results, strict=True)]
        except ValueError as error:
            raise self.fail(f"branches give values of different types: {error}") from None

    def evaluate(self, call, *inputs):
        (cond,), outer = self.split(inputs)
        (graph,) = self.branches(bool(cond.reshape(())))
        return self.run(call, graph, [], outer)


class Loop(ControlFlow):
    """`body` up to `M` times while `cond` holds, either of which may be left out (ONNX Loop, opsets 1 to 25).

    body: (iteration, condition, N carried values) to (condition, N carried values, K scan values), where the
    scan values of all iterations are stacked on a new first axis.
    """

    attributes = frozenset({"body"})

    def infer(self, ins: Inputs) -> list[Fact]:
        (trip, cond, *first), outer = self.split(ins)
        body = self.graph("body")
        scans = len(self.node.outputs) - len(first)
        self.check_counts(body, 2 + len(first), 1 + len(first) + max(scans, 0))

        def iterate(carried: Sequence[Fact], going: Fact) -> list[Fact]:
            return self.facts(body, [_scalar_fact(body, 0, INT64), going, *carried], outer)

        going = _scalar_fact(body, 1, BOOL)
        n = len(first)
        carried = self.settle(body, first, lambda facts: iterate(facts, going)[1 : n + 1])
        # The body only ever sees a true condition.
        done, *outs = iterate(carried, Fact.of(_scalar(body, 1, True, BOOL)))
        length = self._trips(trip, cond, done)
        return carried + [Fact(f.dtype, None if f.shape is None else (length, *f.shape)) for f in outs[n:]]

    def _trips(self, trip: Fact | None, cond: Fact | None, done: Fact) -> Dim:
        """The number of iterations, where it is known before a run."""
        if cond is not None and _truth(cond) is False:
            return 0
        trips = values(trip)
        if trips is None or (cond is not None and _truth(cond) is None) or _truth(done) is not True:
            return None
        return max(trips[0], 0)

    def evaluate(self, call, *inputs):
        (trip, cond, *carried), outer = self.split(inputs)
        body = self.graph("body")
        n = len(carried)
        limit = None if trip is None else int(trip.reshape(()))
        going = True if cond is None else bool(cond.reshape(()))
        rows: list[list[Array]] = []
        while going and (limit is None or len(rows) < limit):
            feeds = [_scalar(body, 0, len(rows), INT64), _scalar(body, 1, True, BOOL), *carried]
            done, *outs = self.run(call, body, feeds, outer)
            carried, going = outs[:n], bool(done.reshape(()))
            rows.append(outs[n:])
        if rows:
            return [*carried, *(np.stack(column) for column in zip(*rows, strict=True))]
        return [*carried, *(_empty(fact) for fact in self.facts_at_hand(inputs)[n:])]


class Scan(ControlFlow):
    """`body` over the slices of its scan inputs, with carried states (ONNX Scan, opsets 8 to 25).

    body: (N states, M slices) to (N states, K slices of the scan outputs). From opset 9 on, axes and
    directions are given for each scan input and output; opset 8 has a batch axis before the sequence axis in
    all values, lengths of sequences as first input, and directions for scan inputs alone.
    """

    attributes = frozenset(
        {
            "body",
            "num_scan_inputs",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
            "directions",
        }
    )

    @property
    def batched(self) -> bool:
        return self.version < 9

    def parts(self, ins: Sequence) -> tuple[Any, list, list, dict[str, object]]:
        """Sequence lengths (opset 8), states, scan inputs, captured values."""
        own, outer = self.split(ins)
        lengths = own.pop(0) if self.batched else None
        scans = int(self.attr("num_scan_inputs"))
        if not 0 < scans <= len(own):
            raise self.fail(f"attribute 'num_scan_inputs' = {scans}, but {len(own)} states and scan inputs")
        return lengths, own[:-scans], own[-scans:], outer

    def option(self, name: str, count: int) -> list[int]:
        """A list attribute with an entry for each of `count` values, zeros by default."""
        given = list(self.attr(name) or [0] * count)
        if len(given) != count:
            raise self.fail(f"attribute {name!r} = {given}, expected {count} entries")
        return given

    def input_axes(self, ranks: Sequence[int]) -> list[int]:
        if self.batched:
            return [1] * len(ranks)
        given = self.option("scan_input_axes", len(ranks))
        return [self.axis(a, r, "scan input axis") for a, r in zip(given, ranks, strict=True)]

    def infer(self, ins: Inputs) -> list[Fact]:
        _, first, scans, outer = self.parts(ins)
        body = self.graph("body")
        n, count = len(first), len(self.node.outputs)
        self.check_counts(body, n + len(scans), count)
        if any(f is None or f.shape is None for f in (*first, *scans)):
            return [UNKNOWN] * count
        axes = self.input_axes([len(f.shape) for f in scans])
        lead = 1 if self.batched else 0
        length: Dim = scans[0].shape[axes[0]]
        slices = [
            Fact(f.dtype, tuple(d for i, d in enumerate(f.shape) if i != axis and i >= lead))
            for f, axis in zip(scans, axes, strict=True)
        ]
        states = [Fact(f.dtype, f.shape[lead:]) for f in first]
        states = self.settle(body, states, lambda facts: self.facts(body, [*facts, *slices], outer)[:n])
        outs = self.facts(body, [*states, *slices], outer)[n:]
        batch = tuple(scans[0].shape[:lead])
        facts = [Fact(f.dtype, None if f.shape is None else (*batch, *f.shape)) for f in states]
        for fact, axis in zip(outs, self.option_of_outputs("scan_output_axes", len(outs)), strict=True):
            facts.append(self._stacked(fact, axis, length, batch))
        return facts

    def option_of_outputs(self, name: str, count: int) -> list[int]:
        return [0] * count if self.batched else self.option(name, count)

    def _stacked(self, fact: Fact, axis: int, length: Dim, batch: tuple[Dim, ...]) -> Fact:
        if fact.shape is None:
            return Fact(fact.dtype)
        axis = self.axis(axis, len(fact.shape) + 1, "scan output axis")
        return Fact(fact.dtype, (*batch, *fact.shape[:axis], length, *fact.shape[axis:]))

    def evaluate(self, call, *inputs):
        lengths, states, scans, outer = self.parts(inputs)
        axes = self.input_axes([x.ndim for x in scans])
        sizes = {x.shape[axis] for x, axis in zip(scans, axes, strict=True)}
        if len(sizes) != 1:
            raise ValueError(f"scan inputs of different lengths {sorted(sizes)}")
        if self.batched:
            counts = self._lengths(lengths, *scans[0].shape[:2])
            if any(counts):
                return self._scan_batch(call, counts, states, scans, outer)
        elif sizes != {0}:
            moved = [np.moveaxis(x, axis, 0) for x, axis in zip(scans, axes, strict=True)]
            backward = self.option("scan_input_directions", len(scans))
            return self._scan(call, states, moved, backward, outer)
        return [*states, *(_empty(fact) for fact in self.facts_at_hand(inputs)[len(states) :])]

    def _scan(
        self,
        call: Call,
        states: list[Array],
        scans: list[Array],
        backward: list[int],
        outer: Mapping[str, object],
    ) -> list[Array]:
        """Final states and stacked outputs for scan inputs with the sequence axis, not empty, first."""
        body, n = self.graph("body"), len(states)
        rows: list[list[Array]] = []
        for t in range(len(scans[0])):
            slices = [x[-1 - t if back else t] for x, back in zip(scans, backward, strict=True)]
            outs = self.run(call, body, [*states, *map(np.asarray, slices)], outer)
            states = outs[:n]
            rows.append(outs[n:])
        count = len(self.node.outputs) - n
        reverse = self.option_of_outputs("scan_output_directions", count)
        axes = self.option_of_outputs("scan_output_axes", count)
        stacked = []
        for column, back, axis in zip(zip(*rows, strict=True), reverse, axes, strict=True):
            stacked.append(np.stack(column[::-1] if back else column, axis))
        return [*states, *stacked]

    def _lengths(self, lengths: Array | None, batch: int, longest: int) -> list[int]:
        counts = np.full(batch, longest) if lengths is None else lengths
        if counts.shape != (batch,) or (counts < 0).any() or (counts > longest).any():
            raise ValueError(f"sequence_lens {counts.tolist()}, expected {batch} within [0, {longest}]")
        return counts.tolist()

    def _scan_batch(
        self,
        call: Call,
        counts: list[int],
        states: list[Array],
        scans: list[Array],
        outer: Mapping[str, object],
    ) -> list[Array]:
        """Opset 8: each batch entry on its own, its outputs zero beyond its length; some length is not 0."""
        backward = self.option("directions", len(scans))
        ran = {
            b: self._scan(call, [s[b] for s in states], [x[b, :count] for x in scans], backward, outer)
            for b, count in enumerate(counts)
            if count
        }
        n, longest = len(states), scans[0].shape[1]
        finals = [s.copy() for s in states]
        rows = [np.zeros((len(counts), longest, *x.shape[1:]), x.dtype) for x in next(iter(ran.values()))[n:]]
        for b, results in ran.items():
            for final, result in zip(finals, results[:n], strict=True):
                final[b] = result
            for row, result in zip(rows, results[n:], strict=True):
                row[b, : counts[b]] = result
        return [*finals, *rows]


class SequenceMap(ControlFlow):
    """`body` on each element of a sequence; further inputs are sequences of as many elements, or values that
    every call gets as they are. Outputs are sequences (ONNX SequenceMap, opset 17)."""

    attributes = frozenset({"body"})

    def infer(self, ins: Inputs) -> list[Fact]:
        own, outer = self.split(ins)
        body = self.graph("body")
        self.check_counts(body, len(own), len(self.node.outputs))
        inputs = [element(f) if f.kind == "sequence" else f for f in own]
        return [sequence_of(fact) for fact in self.facts(body, inputs, outer)]

    def evaluate(self, call, *inputs):
        own, outer = self.split(inputs)
        body = self.graph("body")
        lengths = {len(value) for value in own if isinstance(value, list)}
        if len(lengths) != 1:
            raise ValueError(f"expected sequences of one length, got {sorted(lengths)}")
        columns: list[list] = [[] for _ in self.node.outputs]
        for i in range(lengths.pop()):
            feeds = [value[i] if isinstance(value, list) else value for value in own]
            for column, result in zip(columns, self.run(call, body, feeds, outer), strict=True):
                column.append(result)
        return columns


def _truth(fact: Fact | None) -> bool | None:
    """The content of a constant condition."""
    known = values(fact)
    return bool(known[0]) if known else None


def _scalar_fact(body: Graph, index: int, dtype: np.dtype) -> Fact:
    """The fact of the iteration number or condition; old models declare them as vectors of one element."""
    declared = body.facts.get(body.inputs[index], UNKNOWN)
    return Fact(dtype, (1,) * (declared.rank or 0))


def _scalar(body: Graph, index: int, value: int, dtype: np.dtype) -> Array:
    return np.full(_scalar_fact(body, index, dtype).shape, value, dtype)  # type: ignore[arg-type]


def _fact_of(value: object, constant: bool) -> Fact | None:
    """The fact of a value at hand."""
    if isinstance(value, np.ndarray):
        return Fact.of(value, constant=constant)
    if isinstance(value, list):
        return sequence_of(_fact_of(value[0], constant) if value else None)
    return None


def _empty(fact: Fact) -> Array:
    """The scan output of a loop that did not run: zeros, and dims that are not known are zero too."""
    if fact.shape is None or fact.dtype is None:
        raise ValueError("the type and rank of a scan output are not known, and no iteration has made one")
    return np.zeros([d if isinstance(d, int) else 0 for d in fact.shape], fact.dtype)
