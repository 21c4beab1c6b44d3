"""ONNX Runtime's Python API on Tilewise: `import tilewise.ort as onnxruntime`."""

from __future__ import annotations

from tilewise.ort import capi
from tilewise.ort.binding import IOBinding
from tilewise.ort.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from tilewise.ort.providers import get_all_providers, get_available_providers
from tilewise.ort.session import InferenceSession, ModelMetadata, NodeArg
from tilewise.ort.settings import (
    API_VERSION,
    disable_telemetry_events,
    enable_telemetry_events,
    get_build_info,
    get_device,
    get_version_string,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from tilewise.ort.values import OrtValue

__version__ = API_VERSION

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtValue",
    "RunOptions",
    "SessionOptions",
    "capi",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]
