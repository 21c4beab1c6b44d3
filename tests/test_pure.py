"""The engine without extension modules: the same results by Numba's kernels, and by NumPy alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tilewise as tw
from tests import small_models

PROGRAM = """
import sys
import numpy as np
import tilewise as tw, tilewise_kernels
if sys.argv[4] == "none":
    tilewise_kernels.registry.ISA = tilewise_kernels.ISA = "none"
model = tw.load(sys.argv[1])
feeds = dict(np.load(sys.argv[2]))
np.savez(sys.argv[3], **model.run(feeds))
print(tilewise_kernels.ISA, *sorted({step.kernel for step in model.plan({k: v.shape for k, v in feeds.items()}).steps}))
"""


@pytest.mark.parametrize("level", ["jit", "none"])
def test_results_without_extension_modules(tmp_path: Path, jit_cache: Path, level: str) -> None:
    model_path = small_models.save(small_models.cnn(), tmp_path / "cnn.onnx")
    model = tw.load(model_path)
    rng = np.random.default_rng(5)
    shapes = {i.name: [d if isinstance(d, int) else 3 for d in i.shape] for i in model.inputs}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "feeds.npz", **feeds)
    arguments = [str(model_path), str(tmp_path / "feeds.npz"), str(tmp_path / "out.npz"), level]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=os.environ | {"TILEWISE_PURE": "1", "TILEWISE_JIT": "wait", "TILEWISE_CACHE": str(jit_cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    isa, *kernels = done.stdout.split()
    assert isa == level
    assert ("tile_gemm" in kernels) is (level == "jit")
    results = np.load(tmp_path / "out.npz")
    for name, want in model.run(feeds).items():
        np.testing.assert_allclose(results[name], want, rtol=1e-4, atol=1e-5)
