"""Options of sessions and runs, with ONNX Runtime's attributes, defaults and checks."""

from __future__ import annotations

import enum
import operator
import os
from collections.abc import Callable
from typing import Any

from tilewise.ort.exceptions import NotImplemented as NotImplementedStatus
from tilewise.ort.exceptions import OrtRuntimeError, OrtTypeError

MAX_KEY = 1024
MAX_VALUE = 2048


class _Enum(enum.IntEnum):
    __str__ = enum.Enum.__str__


class GraphOptimizationLevel(_Enum):
    """ORT_DISABLE_ALL runs the graph as it is in the file; every other level applies all passes."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(_Enum):
    """Nodes run one after another in either mode; what is parallel is the inside of each."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(_Enum):
    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class Field:
    """An attribute with a default and a check; `convert` returns what is stored or raises TypeError."""

    def __init__(self, default: Any, convert: Callable[[Any], Any]) -> None:
        self.default = default
        self.convert = convert
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: _Options | None, owner: type | None = None) -> Any:
        return self if instance is None else instance._values.get(self.name, self.default)

    def __set__(self, instance: _Options, value: Any) -> None:
        try:
            instance._values[self.name] = self.convert(value)
        except TypeError:
            what = f"{type(instance).__name__}.{self.name}: incompatible function arguments"
            raise OrtTypeError(f"{what}; expected a value like {self.default!r}, got {value!r}") from None


def _flag(value: Any) -> bool:
    if value is not None and not hasattr(type(value), "__bool__"):
        raise TypeError
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise TypeError
    return os.fspath(value)


def _member(kind: type[_Enum]) -> Callable[[Any], _Enum]:
    def convert(value: Any) -> _Enum:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return convert


class _Options:
    """Fields, and free entries of text by key; an attribute that is not a field is refused."""

    __slots__ = ("_entries", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self._entries: dict[str, str] = {}

    def _copy_to(self, other: _Options) -> None:
        other._values.update(self._values)
        other._entries.update(self._entries)

    def _add(self, key: Any, value: Any) -> None:
        if not isinstance(key, str) or not isinstance(value, str):
            raise OrtTypeError(
                f"config entry: incompatible function arguments; expected a key and a value of type str, "
                f"got {key!r} and {value!r}"
            )
        if not 0 < len(key) <= MAX_KEY:
            raise OrtRuntimeError(f"Config key is empty or longer than maximum length {MAX_KEY}")
        if len(value) > MAX_VALUE:
            raise OrtRuntimeError(f"Config value is longer than maximum length: {MAX_VALUE}")
        self._entries[key] = value

    def _get(self, key: str) -> str:
        if key not in self._entries:
            raise OrtRuntimeError(f"{type(self).__name__} does not have configuration with key: {key}")
        return self._entries[key]


class SessionOptions(_Options):
    """Options of an `InferenceSession`, which takes a copy.

    Read: intra_op_num_threads (below 1: all usable CPUs), graph_optimization_level, optimized_model_filepath
    (the model is written there as it was loaded), enable_profiling, profile_file_prefix, overrides of free
    dimensions, and the entries `session.model_external_initializers_file_folder_path` and `tilewise.jit` (as `jit` of
    `tilewise.load`). The others tune what this engine has none of or does in one way (runs are always deterministic,
    nodes run in sequence): they are kept and change nothing.
    """

    __slots__ = ("_free_dimensions",)

    enable_cpu_mem_arena = Field(True, _flag)
    enable_mem_pattern = Field(True, _flag)
    enable_mem_reuse = Field(True, _flag)
    enable_profiling = Field(False, _flag)
    execution_mode = Field(ExecutionMode.ORT_SEQUENTIAL, _member(ExecutionMode))
    execution_order = Field(ExecutionOrder.DEFAULT, _member(ExecutionOrder))
    graph_optimization_level = Field(GraphOptimizationLevel.ORT_ENABLE_ALL, _member(GraphOptimizationLevel))
    inter_op_num_threads = Field(0, operator.index)
    intra_op_num_threads = Field(0, operator.index)
    log_severity_level = Field(-1, operator.index)
    log_verbosity_level = Field(0, operator.index)
    logid = Field("", _text)
    optimized_model_filepath = Field("", _text)
    profile_file_prefix = Field("onnxruntime_profile_", _text)
    use_deterministic_compute = Field(False, _flag)
    use_per_session_threads = Field(True, _flag)

    def __init__(self) -> None:
        super().__init__()
        self._free_dimensions: dict[str, int] = {}

    def copy(self) -> SessionOptions:
        other = SessionOptions()
        self._copy_to(other)
        other._free_dimensions.update(self._free_dimensions)
        return other

    def add_session_config_entry(self, key: str, value: str) -> None:
        self._add(key, value)

    def get_session_config_entry(self, key: str) -> str:
        return self._get(key)

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix the free dimension `name` of all inputs to `size`."""
        self._free_dimensions[name] = operator.index(size)

    def register_custom_ops_library(self, path: str) -> None:
        """Always refused: such libraries are compiled against ONNX Runtime."""
        raise NotImplementedStatus.of(f"custom operator library {path}: only ONNX Runtime itself can load it")


class RunOptions(_Options):
    """Options of one run. Read: terminate, which ends a run before it starts; the others change nothing."""

    __slots__ = ()

    log_severity_level = Field(-1, operator.index)
    log_verbosity_level = Field(0, operator.index)
    logid = Field("", _text)
    only_execute_path_to_fetches = Field(False, _flag)
    terminate = Field(False, _flag)

    def add_run_config_entry(self, key: str, value: str) -> None:
        self._add(key, value)

    def get_run_config_entry(self, key: str) -> str:
        return self._get(key)
