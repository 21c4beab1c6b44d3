"""`InferenceSession`: ONNX Runtime's session, run by Tilewise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
import onnx.external_data_helper

from tilewise.errors import InputError, TilewiseError
from tilewise.graph import UNKNOWN, Fact, Graph
from tilewise.graph.facts import Dim, Shape
from tilewise.onnx.types import type_name
from tilewise.ops.inference import infer
from tilewise.ort.binding import IOBinding
from tilewise.ort.exceptions import Fail, InvalidArgument, OrtTypeError, status_of, while_running
from tilewise.ort.feeds import check_feeds
from tilewise.ort.loading import EXTERNAL_FOLDER, JIT, load_graph, read, source_of
from tilewise.ort.options import GraphOptimizationLevel, RunOptions, SessionOptions
from tilewise.ort.profiling import Profile
from tilewise.ort.providers import Providers, choose
from tilewise.ort.values import OrtValue
from tilewise.passes import PASSES, optimize
from tilewise.plan.jit import check_jit, prepare
from tilewise.plan.plan import StepInfo
from tilewise.runtime.model import GraphRunner
from tilewise.runtime.threads import check_threads


@dataclass(frozen=True)
class NodeArg:
    """An input or output.

    type: as in "tensor(float)". shape: ints, and names or None for free dims; [] where no shape is declared.
    """

    name: str
    type: str
    shape: list[int | str | None]

    @staticmethod
    def of(name: str, fact: Fact) -> NodeArg:
        tensor = fact.elem if fact.kind == "optional" and fact.elem is not None else fact
        return NodeArg(name, type_name(fact) or "", list(tensor.shape or ()))


@dataclass(frozen=True)
class ModelMetadata:
    """What the model file says of itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    graph_description: str
    version: int
    custom_metadata_map: dict[str, str]

    @staticmethod
    def of(graph: Graph) -> ModelMetadata:
        info = graph.info
        return ModelMetadata(
            str(info.get("producer_name", "")),
            graph.name,
            str(info.get("domain", "")),
            str(info.get("doc_string", "")),
            str(info.get("graph_doc_string", "")),
            int(info.get("model_version", 0)),
            dict(graph.metadata),
        )


class InferenceSession:
    """A loaded model with ONNX Runtime's methods, arguments and errors.

    path_or_bytes: the path of an ONNX file, or its bytes. providers, provider_options: only the CPU is there;
    others are warned of and passed over. Keywords: enable_fallback=0 makes unknown providers errors; others are
    ignored. Runs may come from any number of threads at once. Sessions pickle.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike,
        sess_options: SessionOptions | None = None,
        providers: Providers | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(sess_options, SessionOptions | None):
            raise OrtTypeError(
                f"__init__(): incompatible constructor arguments; expected SessionOptions or None for "
                f"sess_options, got {sess_options!r}"
            )
        source = source_of(path_or_bytes)
        self._sess_options = options = sess_options.copy() if sess_options else SessionOptions()
        self._enable_fallback = int(kwargs.get("enable_fallback", 1)) == 1
        self._provider_options = choose(providers, provider_options, self._enable_fallback)
        self._jit = _jit_of(options)
        prepare(self._jit)
        graph = load_graph(source, options._entries.get(EXTERNAL_FOLDER))
        self._graph = graph = _fix_dims(graph, options._free_dimensions)
        self._fed = {name: graph.facts.get(name, UNKNOWN) for name in (*graph.inputs, *graph.overridable)}
        self._meta = ModelMetadata.of(graph)
        self._threads = check_threads(max(options.intra_op_num_threads, 0) or None)
        self._profile = Profile(options.profile_file_prefix) if options.enable_profiling else None
        self._runners: dict[frozenset[str], GraphRunner] = {}
        try:
            optimized = self._runner(frozenset()).graph
            self._outputs = self._describe_outputs(optimized)
        except TilewiseError as error:
            raise status_of(error).of(f"Exception during initialization: {error}") from error
        if not graph.overridable:
            self._graph = optimized  # weights that passes replaced are not kept twice
        if options.optimized_model_filepath:
            _save(source, options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runners": {}}

    # What the session tells of itself.

    def get_inputs(self) -> list[NodeArg]:
        """What must be fed."""
        return [self._arg(name) for name in self._graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [NodeArg.of(name, self._outputs[name]) for name in self._graph.outputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs that have a default and may be fed."""
        return [self._arg(name) for name in self._graph.overridable]

    def get_modelmeta(self) -> ModelMetadata:
        return self._meta

    def get_session_options(self) -> SessionOptions:
        return self._sess_options

    def get_providers(self) -> list[str]:
        return list(self._provider_options)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: dict(options) for name, options in self._provider_options.items()}

    def set_providers(
        self, providers: Providers | None = None, provider_options: Sequence[dict[Any, Any]] | None = None
    ) -> None:
        """Check the list; the CPU stays what is used."""
        self._provider_options = choose(providers, provider_options, self._enable_fallback)

    def enable_fallback(self) -> None:
        """Unknown providers are warned of."""
        self._enable_fallback = True

    def disable_fallback(self) -> None:
        """Unknown providers are errors."""
        self._enable_fallback = False

    # Runs.

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """The values of the outputs named, or of all for no names: arrays, or lists of arrays for sequences.

        They own their memory.
        input_feed: values by name: arrays of exactly the input's type, lists of numbers, lists of arrays for
        sequences, or `OrtValue`s.
        """
        input_feed.keys()  # an AttributeError for what is not a mapping
        names = self._names(output_names)
        if not isinstance(run_options, RunOptions | None):
            raise OrtTypeError(
                f"run(): incompatible function arguments; expected RunOptions, got {run_options!r}"
            )
        if not output_names and run_options is None and (results := self._run_again(input_feed)) is not None:
            return results
        feeds = check_feeds(input_feed, self._graph.inputs, self._fed)
        if run_options is not None and run_options.terminate:
            raise Fail.of("Exiting due to terminate flag being set to true.")
        unique = list(dict.fromkeys(names))
        found = dict(zip(unique, self._execute(feeds, unique), strict=True))
        return [found.pop(name) if names.count(name) == 1 else _copy(found[name]) for name in names]

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """`run` with `OrtValue`s in and out."""
        for name, value in input_dict_ort_values.items():
            if not isinstance(value, OrtValue):
                raise OrtTypeError(f"input {name!r}: expected an OrtValue, got {type(value).__name__}")
        return [OrtValue(value) for value in self.run(output_names, input_dict_ort_values, run_options)]

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """`run` in a thread of its own, which then calls `callback(results, user_data, error)`; error is a text."""

        def work() -> None:
            results, text = [], ""
            try:
                results = self.run(output_names, input_feed, run_options)
            except TilewiseError as error:
                text = str(error)
            callback(results, user_data, text)

        threading.Thread(target=work, name="tilewise-run-async").start()

    def io_binding(self) -> IOBinding:
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Run on what is bound; results go where outputs are bound."""
        iobinding.run(run_options)

    def get_profiling_start_time_ns(self) -> int:
        """When the profile began, of `time.monotonic_ns`; 0 without one."""
        return self._profile.start_ns if self._profile is not None else 0

    def end_profiling(self) -> str:
        """Write the profile, a JSON list of trace events, and end it; the file's path, "" without a profile.

        Kernels are shown node by node; what runs between them is in the run's time alone.
        """
        if self._profile is None:
            return ""
        path, self._profile = self._profile.write(), None
        return path

    # Inside.

    def _arg(self, name: str) -> NodeArg:
        return NodeArg.of(name, self._fed[name])

    def _names(self, output_names: Sequence[str] | None) -> list[str]:
        if output_names is None or len(output_names) == 0:
            return list(self._graph.outputs)
        if isinstance(output_names, str) or not all(isinstance(name, str) for name in output_names):
            raise OrtTypeError(
                f"run(): incompatible function arguments; expected a sequence of str for output_names, "
                f"got {output_names!r}"
            )
        for name in output_names:
            if name not in self._graph.outputs:
                raise InvalidArgument.of(f"Invalid output name:{name}; the model has {self._graph.outputs}")
        return list(output_names)

    def _run_again(self, feeds: Mapping[str, Any]) -> list[Any] | None:
        """All outputs for arrays like those of a recent run; None where the long way has to be taken."""
        runner = self._runners.get(frozenset())
        if runner is None or self._profile is not None or (arrays := runner.in_order(feeds)) is None:
            return None
        try:
            return runner.run_again(arrays, self._threads)
        except TilewiseError as error:
            raise while_running(error) from error

    def _execute(self, feeds: dict[str, object], names: list[str]) -> list[Any]:
        profile = self._profile
        times: list[tuple[StepInfo, int]] | None = [] if profile is not None else None
        began = time.monotonic_ns()
        try:
            results = self._runner(frozenset(feeds)).run(feeds, names, self._threads, times)
        except TilewiseError as error:
            raise while_running(error) from error
        if profile is not None:
            profile.add_run(began, time.monotonic_ns(), times or [])
        return results

    def _runner(self, fed: frozenset[str]) -> GraphRunner:
        """Runs the graph where the overridable initializers among `fed`, and no others, come from the caller."""
        overridden = fed & set(self._graph.overridable)
        runner = self._runners.get(overridden)
        if runner is None:
            level = self._sess_options.graph_optimization_level
            disable = PASSES if level == GraphOptimizationLevel.ORT_DISABLE_ALL else ()
            graph = optimize(_override(self._graph, overridden), disable)
            runner = self._runners.setdefault(overridden, GraphRunner(graph, jit=self._jit))
        return runner

    def _describe_outputs(self, graph: Graph) -> dict[str, Fact]:
        """What is declared of each output, completed by what is inferred."""
        inferred = infer(graph, {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs})
        return {name: _merge(self._graph.facts.get(name, UNKNOWN), inferred[name]) for name in graph.outputs}


def _jit_of(options: SessionOptions) -> str:
    try:
        return check_jit(options._entries.get(JIT))
    except InputError as error:
        raise InvalidArgument.of(f"session config entry {JIT}: {error}") from error


def _merge(declared: Fact, inferred: Fact) -> Fact:
    if declared.kind != "tensor" or inferred.kind != "tensor":
        return inferred if declared is UNKNOWN else declared
    return Fact(declared.dtype or inferred.dtype, _merge_shapes(declared.shape, inferred.shape))


def _merge_shapes(declared: Shape | None, inferred: Shape | None) -> Shape | None:
    if declared is None or inferred is None or len(declared) != len(inferred):
        return declared if inferred is None else inferred
    return tuple(i if isinstance(i, int) or d is None else d for d, i in zip(declared, inferred, strict=True))


def _fix_dims(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph with free dims of its inputs fixed by name."""
    if not sizes:
        return graph

    def fix(dim: Dim) -> Dim:
        return sizes.get(dim, dim) if isinstance(dim, str) else dim

    fixed = graph.copy()
    for name in graph.inputs:
        fact = graph.facts.get(name, UNKNOWN)
        if fact.shape is not None:
            fixed.facts[name] = replace(fact, shape=tuple(fix(dim) for dim in fact.shape))
    return fixed


def _override(graph: Graph, names: frozenset[str]) -> Graph:
    """The graph with these initializers as inputs."""
    if not names:
        return graph
    changed = graph.copy()
    for name in graph.overridable:
        if name in names:
            del changed.initializers[name]
            changed.overridable.remove(name)
            changed.inputs.append(name)
    return changed


def _copy(value: Any) -> Any:
    return [_copy(item) for item in value] if isinstance(value, list) else value.copy()


def _save(source: str | bytes, options: SessionOptions) -> None:
    """Write the model as it was loaded, its external data inside; optimized graphs have no form in ONNX."""
    model = read(source)
    folder = os.path.dirname(os.path.abspath(source)) if isinstance(source, str) else os.curdir
    folder = options._entries.get(EXTERNAL_FOLDER, folder)
    try:
        onnx.external_data_helper.load_external_data_for_model(model, folder)
        onnx.save(model, options.optimized_model_filepath)
    except (OSError, ValueError) as error:
        raise Fail.of(f"optimized_model_filepath {options.optimized_model_filepath!r}: {error}") from error
