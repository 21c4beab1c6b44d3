"""ONNX Runtime's exceptions, each a `TilewiseError`, and the table from ours to theirs."""

from __future__ import annotations

from typing import ClassVar

from tilewise.errors import (
    ExecutionError,
    InputError,
    ModelError,
    ShapeError,
    TilewiseError,
    UnsupportedError,
)


class OrtError(TilewiseError):
    """Base of the status errors. Their texts begin as ONNX Runtime's do: library, number, status."""

    code: ClassVar[int] = 1
    status: ClassVar[str] = "FAIL"

    @classmethod
    def of(cls, what: str) -> OrtError:
        """An error that says `what` after the usual beginning."""
        return cls(f"[ONNXRuntimeError] : {cls.code} : {cls.status} : {what}")


class Fail(OrtError):
    pass


class InvalidArgument(OrtError):
    code, status = 2, "INVALID_ARGUMENT"


class NoSuchFile(OrtError):
    code, status = 3, "NO_SUCHFILE"


class NoModel(OrtError):
    code, status = 4, "NO_MODEL"


class EngineError(OrtError):
    code, status = 5, "ENGINE_ERROR"


class RuntimeException(OrtError):
    code, status = 6, "RUNTIME_EXCEPTION"


class InvalidProtobuf(OrtError):
    code, status = 7, "INVALID_PROTOBUF"


class ModelLoaded(OrtError):
    code, status = 8, "MODEL_LOADED"


class NotImplemented(OrtError):
    code, status = 9, "NOT_IMPLEMENTED"


class InvalidGraph(OrtError):
    code, status = 10, "INVALID_GRAPH"


class EPFail(OrtError):
    code, status = 11, "EP_FAIL"


class OrtRuntimeError(TilewiseError, RuntimeError):
    """Where ONNX Runtime raises a RuntimeError: values that cannot become a tensor, unknown keys of options."""


class OrtTypeError(TilewiseError, TypeError):
    """Where ONNX Runtime raises a TypeError: an argument of the wrong Python type."""


class OrtValueError(TilewiseError, ValueError):
    """Where ONNX Runtime raises a ValueError: inputs that are not fed, malformed lists of providers."""


TABLE: tuple[tuple[type[TilewiseError], type[OrtError]], ...] = (
    (ShapeError, Fail),
    (ModelError, Fail),
    (UnsupportedError, NotImplemented),
    (InputError, InvalidArgument),
    (ExecutionError, Fail),
    (TilewiseError, RuntimeException),
)
"""Ours and theirs; the first row that fits counts. `tilewise.ort.loading` tells errors of a model apart."""


def status_of(error: TilewiseError) -> type[OrtError]:
    """The exception by which ONNX Runtime would report `error`."""
    return next(theirs for ours, theirs in TABLE if isinstance(error, ours))


def while_running(error: TilewiseError) -> OrtError:
    """What `run` raises for an error of a node."""
    return status_of(error).of(
        f"Non-zero status code returned while running the model. Status Message: {error}"
    )
