"""Tilewise: run ONNX models on the CPU and train small CNNs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tilewise.errors import (
    ExecutionError,
    InputError,
    ModelError,
    ShapeError,
    TilewiseError,
    Unsupported,
    UnsupportedError,
)

if TYPE_CHECKING:
    from tilewise.ort import InferenceSession
    from tilewise.runtime.model import Model, load

__version__ = "0.1.0"

__all__ = [
    "ExecutionError",
    "InferenceSession",
    "InputError",
    "Model",
    "ModelError",
    "ShapeError",
    "TilewiseError",
    "Unsupported",
    "UnsupportedError",
    "load",
]

_LAZY = {
    "load": "tilewise.runtime.model",
    "Model": "tilewise.runtime.model",
    "InferenceSession": "tilewise.ort",
}


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'tilewise' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
