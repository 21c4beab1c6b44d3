"""What is not imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tilewise_kernels
from tests import small_models

COMPILERS = {"numba", "llvmlite", "Cython"}


def imported(code: str, *args: str) -> set[str]:
    """Top-level packages in `sys.modules` after a new process has run `code`."""
    report = f"import sys\n{code}\nprint('|', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", report, *args], capture_output=True, text=True, check=True, timeout=300
    )
    return {name.partition(".")[0] for name in done.stdout.rpartition("|")[2].split()}


def test_importing_tilewise_imports_neither_onnx_nor_a_compiler() -> None:
    modules = imported("import tilewise")
    assert "tilewise" in modules
    assert not modules & (COMPILERS | {"onnx", "google", "scipy", "PIL", "rich"})


def test_help_imports_nothing_heavy() -> None:
    code = "from tilewise.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    modules = imported(code)
    assert "argparse" in modules
    assert not modules & (COMPILERS | {"onnx", "google", "numpy", "tilewise_kernels", "PIL", "rich"})


@pytest.mark.skipif(
    not tilewise_kernels.NATIVE, reason="without extension modules kernels are compiled at run time"
)
def test_running_a_model_needs_neither_onnx_nor_a_compiler(tmp_path: Path) -> None:
    path = small_models.save(small_models.cnn(), tmp_path / "cnn.onnx")
    code = "import numpy, tilewise\ntilewise.load(sys.argv[1])(numpy.zeros((1, 3, 8, 8), numpy.float32))"
    modules = imported(code, path)
    assert "tilewise_kernels" in modules
    assert not modules & (COMPILERS | {"onnx", "google", "ml_dtypes", "scipy", "PIL", "rich"})
