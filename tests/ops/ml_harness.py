"""`harness.check` for ai.onnx.ml, and its oracles."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise import TilewiseError, load

DOMAIN = "ai.onnx.ml"
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def check_ml(op_type, inputs, attrs, *, version=1, outputs=1, oracle=None, **tolerance):
    """`harness.check`; by default against onnx.reference."""
    form = {"version": version, "outputs": outputs}
    return check(op_type, inputs, attrs, domain=DOMAIN, oracle=oracle, kernel=False, **form, **tolerance)


def check_ort(op_type, inputs, attrs, *, version=1, outputs=1, **tolerance):
    """`harness.check` against ONNX Runtime."""
    oracle = ort(op_type, attrs, outputs=outputs, domain=DOMAIN, version=version)
    return check_ml(op_type, inputs, attrs, version=version, outputs=outputs, oracle=oracle, **tolerance)


def check_refused(op_type, inputs, attrs, message, *, version=1, outputs=1):
    """Assert that the node is refused when it is loaded, with this in the message."""
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op_type, inputs, attrs, domain=DOMAIN, version=version, outputs=outputs))
    assert message in str(raised.value)


def transformed(scores: np.ndarray, name: str) -> np.ndarray:
    """`post_transform` of (N, E) by its textbook formula, row by row in float64."""
    rows = np.asarray(scores, np.float64)
    if name == "LOGISTIC":
        return 1 / (1 + np.exp(-rows))
    if name in ("SOFTMAX", "SOFTMAX_ZERO"):
        e = np.exp(rows)
        if name == "SOFTMAX_ZERO":
            e[rows == 0] = 0
        return e / e.sum(axis=1, keepdims=True)
    return rows


def text(*items) -> np.ndarray:
    return np.array(items, object)
