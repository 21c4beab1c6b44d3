"""The same client code on both modules: what holds for ONNX Runtime must hold for `tilewise.ort`."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture(params=["onnxruntime", "tilewise.ort"])
def ort(request: pytest.FixtureRequest) -> ModuleType:
    module = (
        pytest.importorskip(request.param)
        if request.param == "onnxruntime"
        else importlib.import_module(request.param)
    )
    if request.param == "onnxruntime":
        module.set_default_logger_severity(4)
    return module
