"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import small_models
from tests.cli.tool import Tool


@pytest.fixture
def tilewise(capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(capsys)


@pytest.fixture
def pair(tmp_path: Path) -> str:
    return small_models.save(small_models.pair(), tmp_path / "pair.onnx")


@pytest.fixture
def cnn(tmp_path: Path) -> str:
    return small_models.save(small_models.cnn(), tmp_path / "cnn.onnx")


@pytest.fixture
def unsupported(tmp_path: Path) -> str:
    return small_models.save(small_models.unsupported(), tmp_path / "unsupported.onnx")
