"""Inputs and oracles that the element-wise tests share."""

from __future__ import annotations

import math

import numpy as np
import onnx

from tests.ops.harness import LATEST
from tilewise.graph import Fact, Node
from tilewise.ops.table import make

FLOATS = ("float16", "float32", "float64", "bfloat16")
RTOL = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-11}
ATOL = {"float16": 1e-6, "bfloat16": 1e-6, "float32": 2e-7, "float64": 1e-12}

_FINITE = [0.0, 1.0, 0.5, 1.5, 2.5, 88.9, 104.5, 3e38, 1e-40]
SPECIAL = np.array([*_FINITE, *(-v for v in _FINITE), np.inf, -np.inf, np.nan], np.float32)


def dtype(name: str) -> np.dtype:
    """The NumPy dtype of this name, those of ml_dtypes included."""
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)


def normal(*shape: int, scale: float = 2.0, seed: int = 0, of: str = "float32") -> np.ndarray:
    """Normally distributed numbers; whole ones for integer dtypes."""
    values = np.random.default_rng(seed).normal(size=shape) * scale
    if of.startswith("u"):
        values = np.abs(values)
    return (np.rint(values) if "int" in of else values).astype(dtype(of))


def versions(op_type: str) -> list[int]:
    """Opsets from 7 on that changed the operator, the first one counted as 7 where it is older."""
    schemas = onnx.defs.get_all_schemas_with_history()
    return sorted({max(s.since_version, 7) for s in schemas if (s.name, s.domain) == (op_type, "")})


def infer(op_type: str, *facts: Fact | None, **attrs: object) -> list[Fact]:
    """What the operator alone infers from these facts, without the importer's checks before it."""
    inputs = [f"x{i}" if f is not None else "" for i, f in enumerate(facts)]
    return make(Node(op_type, inputs, ["y"], attrs, version=LATEST)).infer(facts)


def exact(function):
    """The function computed in float64 and rounded once to the dtype of its first operand."""

    def oracle(*inputs):
        with np.errstate(all="ignore"):
            return np.asarray(function(*(x.astype(np.float64) for x in inputs))).astype(inputs[0].dtype)

    return oracle


erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))


def softplus(x):
    return np.logaddexp(x, 0)
