"""Execution providers: there is one, the CPU; the names of the others are known, to understand clients."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from tilewise.ort.exceptions import OrtRuntimeError, OrtValueError

CPU = "CPUExecutionProvider"
KNOWN = (
    "NvTensorRTRTXExecutionProvider",
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "OpenVINOExecutionProvider",
    "DnnlExecutionProvider",
    "VitisAIExecutionProvider",
    "QNNExecutionProvider",
    "NnapiExecutionProvider",
    "VSINPUExecutionProvider",
    "JsExecutionProvider",
    "CoreMLExecutionProvider",
    "ArmNNExecutionProvider",
    "ACLExecutionProvider",
    "DmlExecutionProvider",
    "RknpuExecutionProvider",
    "WebNNExecutionProvider",
    "WebGpuExecutionProvider",
    "XnnpackExecutionProvider",
    "CANNExecutionProvider",
    "AzureExecutionProvider",
    CPU,
)
"""ONNX Runtime's providers by falling precedence."""

Providers = Sequence[str | tuple[str, dict[Any, Any]]]


def get_available_providers() -> list[str]:
    """The providers that sessions can use."""
    return [CPU]


def get_all_providers() -> list[str]:
    """All providers that ONNX Runtime knows, by falling precedence."""
    return list(KNOWN)


def choose(
    providers: Providers | None, options: Sequence[dict[Any, Any]] | None, fallback: bool
) -> dict[str, dict[str, str]]:
    """The options of the providers that a session uses, by name: always the CPU alone.

    Providers that are known and not available are warned of and passed over. An unknown one, or a malformed
    list, is an error; with `fallback` it is a warning.
    """
    try:
        _check(_pairs(providers, options))
    except (OrtRuntimeError, OrtValueError) as error:
        if not fallback:
            raise
        warnings.warn(f"EP Error {error} when using {providers}. Falling back to {[CPU]}.", stacklevel=4)
    return {CPU: {}}


def _check(pairs: Iterable[tuple[str, dict[Any, Any]]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            warnings.warn(f"Duplicate provider '{name}' encountered, ignoring.", stacklevel=5)
        elif name not in get_available_providers():
            available = ", ".join(get_available_providers())
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names. "
                f"Available providers: '{available}'",
                stacklevel=5,
            )
        seen.add(name)
    for name in seen:
        if name not in KNOWN:
            raise OrtRuntimeError(f"Unknown Provider Type: {name}")


def _pairs(
    providers: Providers | None, options: Sequence[dict[Any, Any]] | None
) -> list[tuple[str, dict[Any, Any]]]:
    """(name, options) of each provider, from either of the two forms of arguments."""
    if providers is None:
        return []
    if not isinstance(providers, Sequence):
        raise OrtValueError("'providers' should be a sequence.")
    if options is None:
        return [_pair(provider) for provider in providers]
    if not isinstance(options, Sequence):
        raise OrtValueError("'provider_options' should be a sequence.")
    if len(providers) != len(options):
        raise OrtValueError("'providers' and 'provider_options' should be the same length if both are given.")
    if not all(isinstance(provider, str) for provider in providers):
        raise OrtValueError(
            "Only string values for 'providers' are supported if 'provider_options' is given."
        )
    if not all(isinstance(option, dict) for option in options):
        raise OrtValueError("'provider_options' values must be dicts.")
    return [_pair((name, option)) for name, option in zip(providers, options, strict=True)]


def _pair(provider: Any) -> tuple[str, dict[Any, Any]]:
    if isinstance(provider, str):
        return provider, {}
    if isinstance(provider, tuple) and len(provider) == 2:
        name, options = provider
        if isinstance(name, str) and isinstance(options, dict):
            return name, options
    raise OrtValueError("'providers' values must be either strings or (string, dict) tuples.")
