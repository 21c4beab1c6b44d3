"""ONNX Runtime as the oracle of whole models."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest magnitude of an output."""


def run_onnxruntime(model: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def assert_agree(got: Mapping[str, object], expected: Mapping[str, np.ndarray]) -> None:
    """Same names, shapes and dtypes; values finite, not all the same, and within the tolerance."""
    assert list(got) == list(expected)
    for name, want in expected.items():
        have = got[name]
        assert isinstance(have, np.ndarray)
        assert (have.dtype, have.shape) == (want.dtype, want.shape), name
        assert np.isfinite(want).all(), name
        assert want.std() > 0, name
        difference = float(np.abs(have - want).max() / np.abs(want).max())
        assert difference <= TOLERANCE, f"{name}: differs by {difference:.2e} of the largest magnitude"
