"""The executor by itself: every task is run once, however many there are, and workers stay where they may run."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tilewise_kernels
from tilewise.ops.lowering import float_bits

if not tilewise_kernels.NATIVE:
    pytest.skip("needs the extension modules", allow_module_level=True)

ROOT = Path(__file__).parents[2]


def products(w: np.ndarray, x: np.ndarray, y: np.ndarray, grain: int) -> tuple[list[int], list[int]]:
    """The step and arguments of y[row] = sum_k w[row, k] * x[k], `grain` rows a task."""
    rows, k = w.shape
    args = [x.ctypes.data, w.ctypes.data, y.ctypes.data, 0, 1, rows, k, grain, float_bits(1.0), 0, 0, 0, 0, 0]
    return [tilewise_kernels.address("gemv"), 0, -(-rows // grain)], args


def run(steps: list[tuple[list[int], list[int]]], threads: int) -> None:
    code: list[int] = []
    args: list[int] = []
    for (kernel, _, tasks), own in steps:
        code += [kernel, len(args), tasks]
        args += own
    tilewise_kernels.run(np.array(code, np.int64), np.array(args, np.int64), threads)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 64, 1001])
def test_every_task_is_run_once(tasks: int, threads: int) -> None:
    rng = np.random.default_rng(tasks)
    w, x = rng.standard_normal((4 * tasks - 1, 5), np.float32), rng.standard_normal(5, np.float32)
    y = np.full(4 * tasks + 1, np.nan, np.float32)
    run([products(w, x, y[:-2], 4)], threads)
    np.testing.assert_allclose(y[:-2], w.astype(np.float64) @ x, rtol=1e-5, atol=1e-6)
    assert np.isnan(y[-2:]).all()


def test_each_step_sees_all_of_the_step_before() -> None:
    """A chain of y = 2 x, 64 tasks a step: one that starts too early, or is left out, shows in the end."""
    steps, last = 24, np.ones(1, np.float32)
    columns = [last]
    chain = []
    for _ in range(steps):
        weights = np.full((256, len(columns[-1])), 2 / len(columns[-1]), np.float32)
        columns.append(np.zeros(256, np.float32))
        chain.append((weights, columns[-2], columns[-1]))
    for threads in (2, 3):
        for _ in range(20):
            for _, _, y in chain:
                y.fill(0)
            run([products(w, x, y, 4) for w, x, y in chain], threads)
            np.testing.assert_array_equal(columns[-1], np.full(256, 2.0**steps, np.float32))


def test_more_steps_than_a_claim_can_count() -> None:
    """The count of steps within a claim starts anew after 2**15; nothing is lost or run twice then."""
    w = np.arange(32, dtype=np.float32).reshape(32, 1)
    x, y = np.full(1, 3, np.float32), np.zeros((100, 32), np.float32)
    steps = [products(w, x, row, 4) for row in y]
    for _ in range(700):
        run(steps, 2)
    np.testing.assert_array_equal(y, np.broadcast_to(3 * w[:, 0], (100, 32)))


def test_more_tasks_than_one_opening_holds() -> None:
    rows = (1 << 24) + 40
    w = (np.arange(rows) % 1000).astype(np.float32).reshape(rows, 1)
    y = np.full(rows, -1, np.float32)
    run([products(w, np.ones(1, np.float32), y, 1)], 2)
    np.testing.assert_array_equal(y, w[:, 0])


def test_more_programs_at_once_than_there_are_slots() -> None:
    w, x = np.arange(256, dtype=np.float32).reshape(256, 1), np.full(1, 2, np.float32)

    def work(_: int) -> bool:
        y = np.zeros(256, np.float32)
        run([products(w, x, y, 4)] * 50, 2)
        return np.array_equal(y, 2 * w[:, 0])

    with ThreadPoolExecutor(80) as pool:
        assert all(pool.map(work, range(240)))


PLACES = """
import os, sys, time
import numpy as np
import tilewise as tw
from tests import small_models

cpus = set(sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
os.sched_setaffinity(0, cpus)
others = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
model = tw.load(small_models.cnn(), threads=3)
images = [np.random.default_rng(i).standard_normal((1, 3, 64, 64), np.float32) for i in range(40)]
want = [tw.load(small_models.cnn(), threads=1)(image) for image in images]
assert all(np.array_equal(model(image), result) for image, result in zip(images, want))
for _ in range(1000):  # a worker may be about to move
    masks = [os.sched_getaffinity(int(task)) for task in set(os.listdir("/proc/self/task")) - others]
    if all(mask == cpus for mask in masks):
        break
    time.sleep(0.01)
assert len(masks) >= 3 and all(mask == cpus for mask in masks), masks
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs Linux")
@pytest.mark.parametrize("cpus", [1, 64])
def test_workers_share_any_cpus_and_keep_them_all(cpus: int) -> None:
    """Also where all threads share one CPU. Workers may run afterwards wherever the process may."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    env = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-c", PLACES, str(cpus)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
