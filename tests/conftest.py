"""What tests of several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def jit_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled kernels, empty at first: they are compiled once for all tests that take it."""
    return tmp_path_factory.mktemp("kernels")
