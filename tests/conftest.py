"""What tests of several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TILEWISE_TUNE", "off")  # what a test runs must not depend on how busy the machine is


@pytest.fixture(scope="session")
def jit_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled kernels, empty at first: they are compiled once for all tests that take it."""
    return tmp_path_factory.mktemp("kernels")
