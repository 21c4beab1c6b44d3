"""The strided copy and gather kernels against NumPy, on random views."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tilewise_kernels
from tilewise.graph import Node
from tilewise.ops.lowering import Buffer, Lowering, Ref
from tilewise.ops.strided import Layout, copy, fill

pytestmark = pytest.mark.skipif(not tilewise_kernels.has("strided_copy"), reason="no extension modules")


def run(b: Lowering) -> None:
    """Run the steps, their tasks from last to first: no task may need another."""
    for step in b.steps:
        args = [a.buffer.array.ctypes.data + a.offset if isinstance(a, Ref) else a for a in step.args]
        for task in reversed(range(step.tasks)):
            one_task(step.kernel, np.array(args, np.int64), task)


def one_task(kernel: str, args: np.ndarray, task: int) -> None:
    executor = importlib.import_module("tilewise_kernels._executor")
    executor.call(tilewise_kernels.address(kernel), args, task, task + 1)


def layout(array: np.ndarray) -> Layout:
    return Layout.of(Ref(Buffer(array.nbytes, "const", array=array)), array.dtype, array.shape)


def lowering() -> Lowering:
    return Lowering(Node("Test", [], []), [], [], None)


def random_view(rng: np.random.Generator, shape: list[int], dtype: str):
    """A function that makes a view of `shape` and the base it takes, with random order of axes, steps and margins."""
    order = rng.permutation(len(shape))
    inverse = np.argsort(order)
    steps = rng.choice([1, 1, 1, 2, 3, -1, -2], len(shape))
    margins = rng.integers(0, 3, (len(shape), 2)) * rng.integers(0, 2, (len(shape), 1))
    sizes = [(shape[a] - 1) * abs(steps[a]) + 1 + margins[a].sum() for a in order]
    base = rng.integers(0, 255, sizes).astype(dtype)
    index = tuple(slice(margins[a][0], sizes[i] - margins[a][1]) for i, a in enumerate(order))
    turns = tuple(slice(None, None, steps[a]) for a in order)
    return base, lambda x: x[index][turns].transpose(inverse)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "complex128"])
@pytest.mark.parametrize("seed", range(40))
def test_random_views(dtype, seed):
    rng = np.random.default_rng(seed)
    shape = rng.choice([1, 2, 3, 4, 5, 8, 17, 33, 70], rng.integers(1, 5)).tolist()
    while np.prod(shape) > 60000:
        shape[rng.integers(len(shape))] = 3
    src, see = random_view(rng, shape, dtype)
    if rng.integers(4) == 0:
        see = spread(see, shape, int(rng.integers(len(shape))))
    dst, place = random_view(rng, shape, dtype)
    if seed % 2:
        dst, place = np.zeros(shape, dtype), lambda x: x
    expected = dst.copy()
    place(expected)[...] = see(src)
    b = lowering()
    to, origin = layout(dst), layout(src)
    copy(b, to.seen(place(to.array)), origin.seen(see(origin.array)))
    run(b)
    np.testing.assert_array_equal(dst, expected)


def spread(see, shape: list[int], axis: int):
    """The same view with its first slice of `axis` everywhere along it."""
    return lambda x: np.broadcast_to(see(x)[(slice(None),) * axis + (slice(0, 1),)], shape)


@pytest.mark.parametrize("shape", [(1,), (5,), (3, 70000), (70000, 3), (2, 3, 4), (300, 500)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "complex128"])
def test_fill(shape, dtype):
    y, value = np.zeros(shape, dtype), np.array(7, dtype)
    b = lowering()
    fill(b, layout(y), layout(value).ref)
    run(b)
    assert (y == 7).all()
