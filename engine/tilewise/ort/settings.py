"""What a client sets for the whole process, and what it asks of the build."""

from __future__ import annotations

import logging
import operator

import tilewise
import tilewise_kernels
from tilewise.ops import generate
from tilewise.ort.exceptions import OrtRuntimeError, OrtTypeError

API_VERSION = "1.31.1"
"""The release of ONNX Runtime whose Python API is followed; clients compare it with what they need."""

_SEVERITIES = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def set_default_logger_severity(severity: int) -> None:
    """0 (verbose) to 4 (fatal): the level of the logger "tilewise"."""
    level = _integer(severity, "set_default_logger_severity")
    if not 0 <= level < len(_SEVERITIES):
        raise OrtRuntimeError(
            f"Invalid logging severity {severity}. 0:Verbose, 1:Info, 2:Warning, 3:Error, 4:Fatal"
        )
    logging.getLogger("tilewise").setLevel(_SEVERITIES[level])


def set_default_logger_verbosity(verbosity: int) -> None:
    """Accepted; verbose messages have one level only."""
    _integer(verbosity, "set_default_logger_verbosity")


def set_seed(seed: int) -> None:
    """Random numbers of operators without a seed follow from this one, in the order in which they are drawn."""
    generate.set_seed(abs(_integer(seed, "set_seed")))


def disable_telemetry_events() -> None:
    """Nothing to switch off: nothing is ever sent."""


def enable_telemetry_events() -> None:
    """Changes nothing: nothing is ever sent."""


def get_device() -> str:
    return "CPU"


def get_version_string() -> str:
    return API_VERSION


def get_build_info() -> str:
    return f"Tilewise {tilewise.__version__}, {tilewise_kernels.ISA} kernels"


def _integer(value: object, what: str) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise OrtTypeError(
            f"{what}(): incompatible function arguments; expected an int, got {value!r}"
        ) from None
