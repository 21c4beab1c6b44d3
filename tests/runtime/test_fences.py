"""Kernels stay inside the arrays of the caller and inside the arena; see `fences.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.ops.layout_harness import needs_kernels
from tests.runtime.fences import PAGE, fenced

pytestmark = [
    needs_kernels,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are protected as Linux does it"),
]
ROOT = Path(__file__).parents[2]


def run_python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_no_kernel_reads_or_writes_beyond_an_array():
    done = run_python("-m", "tests.runtime.fences")
    cases = done.stdout.splitlines()
    assert done.returncode == 0, f"at case {cases[-1:]}: {done.stderr[-2000:]}"
    assert cases[-1] == "all"
    assert len(cases) > 200


@pytest.mark.parametrize("at_end", [True, False])
def test_fences_hold(at_end):
    """A read of the byte beyond is fatal: else the test above would show nothing."""
    where = "a.ctypes.data + a.nbytes" if at_end else "a.ctypes.data - 1"
    code = (
        "import ctypes, numpy as np; from tests.runtime.fences import fenced;"
        f"a = fenced((3, 5), np.dtype(np.float32), {at_end}); a[...] = 1; print('inside', flush=True);"
        f"ctypes.string_at({where}, 1)"
    )
    done = run_python("-c", code)
    assert done.stdout.strip() == "inside"
    assert done.returncode < 0, done


def test_fenced_arrays_lie_against_their_fences():
    last, first = fenced((7,), np.dtype(np.float64)), fenced((7,), np.dtype(np.float64), at_end=False)
    assert (last.ctypes.data + last.nbytes) % PAGE == 0
    assert first.ctypes.data % PAGE == 0
