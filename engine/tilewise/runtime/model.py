"""A loaded model: what a person calls."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tilewise.errors import InputError
from tilewise.graph import Fact, Graph, Map
from tilewise.graph.facts import Shape
from tilewise.onnx.source import detach
from tilewise.plan.builder import Builder
from tilewise.plan.jit import check_jit, prepare, uses_kernels
from tilewise.plan.locks import ForkSafeLock
from tilewise.plan.plan import Plan, StepInfo
from tilewise.runtime.feeds import check_feeds
from tilewise.runtime.threads import check_threads

MAX_PLANS = 16
RECENT_PLANS = 4
"""Plans whose entries are tried before inputs are checked."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output as declared: a free dim is its name or None; shape is None where the rank is free."""

    name: str
    shape: Shape | None
    dtype: np.dtype | None
    kind: str = "tensor"


class GraphRunner:
    """Runs one graph for any input shapes, keeping the latest plans; subgraphs get runners of their own.

    jit: as `check_jit` returns it. Plans made while kernels are being compiled are replaced when these are there.
    """

    def __init__(self, graph: Graph, native: bool = True, jit: str = "background") -> None:
        self.graph = graph
        self._native = native and uses_kernels(jit)
        self._jit = jit
        self._settled = False
        self._constants: dict[tuple, np.ndarray] = {}
        self._plans: OrderedDict[tuple, Plan] = OrderedDict()
        self._recent: tuple[Plan, ...] = ()
        self._subgraphs: dict[int, GraphRunner] = {}
        self._lock = ForkSafeLock()

    def run(
        self,
        feeds: Mapping[str, object],
        outputs: Sequence[str],
        threads: int,
        times: list[tuple[StepInfo, int]] | None = None,
    ) -> list:
        """Values of `outputs`; `feeds` holds all graph inputs and captured values, already checked."""

        def call(graph: Graph, inner: Mapping[str, object]) -> list:
            return self._subgraph(graph).run(inner, graph.outputs, threads, times)

        return self.plan(feeds).run(feeds, outputs, threads, call, times)

    def in_order(self, feeds: Mapping[str, object]) -> list | None:
        """The values of all inputs in graph order; None where `feeds` is not a dict of these and no others."""
        if type(feeds) is not dict or len(feeds) != len(self.graph.inputs):
            return None
        try:
            return [feeds[name] for name in self.graph.inputs]
        except KeyError:
            return None

    def run_again(self, arrays: Sequence[object], threads: int) -> list | None:
        """Values of all outputs for inputs in graph order of the very dtypes and shapes of a recent run.

        None, and nothing done, for all else: it has to be checked, planned, or run in parts.
        """
        for plan in self._recent:
            if plan.entry is not None and (results := plan.entry(arrays, threads)) is not None:
                return results
        return None

    def plan(self, feeds: Mapping[str, object]) -> Plan:
        """The plan for the shapes of `feeds`, made once and kept while it is among the latest used."""
        key = tuple((name, *_signature(value)) for name, value in feeds.items())
        with self._lock:
            self._settle()
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = self._build({name: _fact(value) for name, value in feeds.items()})
            self._plans.move_to_end(key)
            while len(self._plans) > MAX_PLANS:
                self._plans.popitem(last=False)
            self._recent = tuple(list(self._plans.values())[: -RECENT_PLANS - 1 : -1])
            return plan

    def plan_for(self, facts: Mapping[str, Fact]) -> Plan:
        """A plan for given facts of the inputs, not kept."""
        with self._lock:
            self._settle()
            return self._build(facts)

    def _settle(self) -> None:
        """Forget plans that lack kernels which are there by now."""
        if not self._settled and prepare(self._jit):
            self._settled = True
            self._plans.clear()

    def _build(self, facts: Mapping[str, Fact]) -> Plan:
        inputs = {name: facts[name] for name in facts if name in self.graph.inputs}
        outer = {name: fact for name, fact in facts.items() if name not in inputs}
        return Plan(Builder(self.graph, inputs, self._constants, outer, self._native).build())

    def _subgraph(self, graph: Graph) -> GraphRunner:
        with self._lock:
            runner = self._subgraphs.get(id(graph))
            if runner is None:
                runner = self._subgraphs[id(graph)] = GraphRunner(graph, self._native, self._jit)
            return runner


class Model:
    """An ONNX model ready to run.

    Made by `tilewise.load`. Calls may come from any number of threads at once. Objects pickle.
    """

    def __init__(
        self,
        graph: Graph,
        threads: int | None = None,
        *,
        native: bool = True,
        source: Graph | None = None,
        jit: str | None = None,
    ) -> None:
        """graph: as it is to be run. source: before optimization, needed where initializers may be fed."""
        self.threads = check_threads(threads)
        self.graph = graph
        self._source = source if graph.overridable else None
        detach([graph] if self._source is None else [graph, self._source])
        self._native = native
        self._jit = check_jit(jit)
        self._runner = GraphRunner(graph, native, self._jit)
        self._overriding: dict[tuple[str, ...], GraphRunner] = {}

    def __reduce__(self) -> tuple:
        return (_rebuild, (self.graph, self.threads, self._native, self._source, self._jit))

    def __repr__(self) -> str:
        def show(names: list[str]) -> str:
            return ", ".join(f"{name}: {self.graph.facts.get(name, Fact())}" for name in names)

        return f"<Model {self.graph.name!r}: {show(self.graph.inputs)} -> {show(self.graph.outputs)}>"

    @property
    def inputs(self) -> list[TensorInfo]:
        """What must be fed, in graph order."""
        return [self._info(name) for name in self.graph.inputs]

    @property
    def outputs(self) -> list[TensorInfo]:
        return [self._info(name) for name in self.graph.outputs]

    def __call__(self, *args: object):
        """Run on positional inputs in graph order: one value for a model with one output, else a tuple."""
        results = self._runner.run_again(args, self.threads)
        if results is None:
            results = self._run_checked(args)
        return results[0] if len(results) == 1 else tuple(results)

    def _run_checked(self, args: tuple) -> list:
        if len(args) != len(self.graph.inputs):
            raise InputError(
                f"expected {len(self.graph.inputs)} input(s) {self.graph.inputs}, got {len(args)}"
            )
        feeds = check_feeds(self.graph, dict(zip(self.graph.inputs, args, strict=True)))
        return self._runner.run(feeds, self.graph.outputs, self.threads)

    def run(self, feeds: Mapping[str, object], outputs: Sequence[str] | None = None) -> dict[str, object]:
        """Run on inputs by name; the values of `outputs` (all, in graph order, by default) by name.

        Inputs are checked for name, rank, shape and dtype, exactly; `InputError` says what does not fit. Initializers
        that are also graph inputs may be fed instead of their default.
        Results own their memory.
        """
        names = self._output_names(outputs)
        runner = self._runner_for(feeds)
        if outputs is None and (arrays := runner.in_order(feeds)) is not None:
            results = runner.run_again(arrays, self.threads)
            if results is not None:
                return dict(zip(names, results, strict=True))
        checked = check_feeds(runner.graph, feeds)
        return dict(zip(names, runner.run(checked, names, self.threads), strict=True))

    def profile(self, feeds: Mapping[str, object]) -> list[tuple[StepInfo, int]]:
        """One run; every step of it with its nanoseconds, those of subgraphs apart from the node that runs them."""
        times: list[tuple[StepInfo, int]] = []
        self._runner.run(check_feeds(self.graph, feeds), self.graph.outputs, self.threads, times)
        return times

    def plan(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Plan:
        """The plan for inputs of these shapes: its steps, peak bytes and arena layout.

        shapes: by input name; inputs whose declared shape has no free dim may be left out.
        """
        facts = {}
        for name in self.graph.inputs:
            declared = self.graph.facts.get(name, Fact())
            shape = (shapes or {}).get(name, declared.shape)
            if shape is None or not all(isinstance(d, int | np.integer) for d in shape):
                raise InputError(f"input {name!r}: a shape of integers is needed to plan, got {shape}")
            facts[name] = Fact(declared.dtype, tuple(int(d) for d in shape))
        unknown = sorted(set(shapes or {}) - set(facts))
        if unknown:
            raise InputError(f"no such input(s): {', '.join(unknown)}; the model has {self.graph.inputs}")
        return self._runner.plan_for(facts)

    def _runner_for(self, feeds: Mapping[str, object]) -> GraphRunner:
        """The runner for these feeds: where they replace initializers that allow it, these are inputs."""
        if not self.graph.overridable or not isinstance(feeds, Mapping):
            return self._runner
        replaced = tuple(name for name in self.graph.overridable if name in feeds)
        if not replaced:
            return self._runner
        if replaced not in self._overriding:
            from tilewise.passes import optimize

            graph = with_inputs(self._source or self.graph, replaced)
            self._overriding[replaced] = GraphRunner(optimize(graph), self._native, self._jit)
        return self._overriding[replaced]

    def _output_names(self, outputs: Sequence[str] | None) -> list[str]:
        if outputs is None:
            return list(self.graph.outputs)
        if isinstance(outputs, str):
            raise InputError(f"outputs: expected a list of names, got the string {outputs!r}")
        unknown = [name for name in outputs if name not in self.graph.outputs]
        if unknown:
            raise InputError(f"no such output(s): {unknown}; the model has {self.graph.outputs}")
        return list(outputs)

    def _info(self, name: str) -> TensorInfo:
        fact = self.graph.facts.get(name, Fact())
        return TensorInfo(name, fact.shape, fact.dtype, fact.kind)


def with_inputs(graph: Graph, names: Sequence[str]) -> Graph:
    """A copy in which these initializers are inputs without a default."""
    graph = graph.copy()
    graph.overridable = [name for name in graph.overridable if name not in names]
    for name in names:
        fact = Fact.of(graph.initializers.pop(name), constant=False)
        graph.facts.setdefault(name, fact)
        graph.inputs.append(name)
    return graph


def load(source, threads: int | None = None, *, jit: str | None = None) -> Model:
    """A model from a path, bytes or an `onnx.ModelProto`.

    threads: how many threads a run may use; None means min(CPU affinity, cgroup quota).
    jit: for installations without extension modules, whose kernels are compiled once and kept on disk: "background"
    runs in NumPy until they are ready, "wait" waits for them now, "off" does without. None means what the environment
    variable TILEWISE_JIT says, or "background".
    The model keeps nothing of the source but external data, whose files stay mapped and must not be changed in place.
    Raises `ModelError` for a malformed model, `UnsupportedError` listing all that cannot be run, `InputError`
    for a wrong argument.
    """
    threads, jit = check_threads(threads), check_jit(jit)
    from tilewise.onnx.check import load_checked
    from tilewise.passes import optimize

    prepare(jit)
    with _no_cyclic_garbage():
        graph = load_checked(source)
        return Model(optimize(graph), threads, source=graph, jit=jit)


@contextmanager
def _no_cyclic_garbage() -> Iterator[None]:
    """No search for cycles meanwhile: loading makes many objects and few cycles, and each search visits them all."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _rebuild(graph: Graph, threads: int, native: bool, source: Graph | None, jit: str) -> Model:
    return Model(graph, threads, native=native, source=source, jit=jit)


def _signature(value: object) -> tuple:
    if isinstance(value, np.ndarray):
        return (value.dtype, value.shape)
    if isinstance(value, list):
        return ("sequence",)
    if isinstance(value, Map):
        return ("map", value.dtype)
    return (type(value).__name__,)


def _fact(value: object) -> Fact:
    if isinstance(value, np.ndarray):
        return Fact(value.dtype, tuple(value.shape))
    if isinstance(value, list):
        return Fact(kind="sequence")
    if isinstance(value, Map):
        return Fact(kind="map", elem=Fact(value.dtype))
    return Fact(kind="optional")
