"""Threads: results that do not depend on their number, many callers at once, life after fork."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import tilewise as tw
from tests import small_models
from tilewise.plan.builder import Builder

CHILD_SECONDS = 20
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def image(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3, size, size), np.float32)


def load(threads: int) -> tw.Model:
    return tw.load(small_models.cnn().SerializeToString(), threads=threads)


@pytest.mark.parametrize(("n", "size"), [(1, 7), (1, 64), (3, 33), (8, 16)])
def test_any_number_of_threads_gives_the_same_bits(n: int, size: int) -> None:
    x = image(n, size)
    want = load(1)(x)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(load(threads)(x), want)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_callers_of_one_model_get_the_same_bits(threads: int) -> None:
    model = load(threads)
    inputs = [image(1 + i % 3, 16 + 8 * (i % 2), seed=i) for i in range(12)]
    want = [model(x) for x in inputs]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda i: model(inputs[i % 12]), range(120)))
    for i, result in enumerate(got):
        np.testing.assert_array_equal(result, want[i % 12])


def test_callers_may_bring_new_shapes_at_once() -> None:
    model = load(2)
    want = {size: load(1)(image(1, size)) for size in range(6, 30)}
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda size: (size, model(image(1, size))), [*want, *want]))
    for size, result in got:
        np.testing.assert_array_equal(result, want[size])


def test_an_error_in_one_caller_does_not_disturb_others() -> None:
    model = load(2)
    x = image(2, 16)
    want = model(x)

    def call(i: int) -> bool:
        if i % 3:
            return np.array_equal(model(x), want)
        with pytest.raises(tw.TilewiseError):
            model(x[:, :2])
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(call, range(60)))


# Forks.


def in_child(work: Callable[[], bool]) -> str:
    """Run `work` in a forked child: "done", "wrong", or "hung" where it does not end in time."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            signal.alarm(CHILD_SECONDS)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hung" if os.WTERMSIG(status) == signal.SIGALRM else f"killed by {os.WTERMSIG(status)}"
    return {0: "done", 1: "wrong"}.get(os.WEXITSTATUS(status), "raised")


@contextmanager
def busy(work: Callable[[int], object]) -> Iterator[None]:
    """Another thread that calls work(0), work(1), ... meanwhile."""
    stop = threading.Event()
    counts = [0]

    def loop() -> None:
        while not stop.is_set():
            work(counts[0])
            counts[0] += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        while counts[0] < 2:
            time.sleep(0.001)
        yield
    finally:
        stop.set()
        thread.join()


@needs_fork
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_model_lives_on_after_fork_in_child_and_parent(threads: int) -> None:
    model = load(threads)
    x, y = image(2, 32), image(2, 24)
    want_x, want_y = model(x), load(1)(y)
    for _ in range(3):
        assert (
            in_child(lambda: np.array_equal(model(x), want_x) and np.array_equal(model(y), want_y)) == "done"
        )
        np.testing.assert_array_equal(model(x), want_x)


@needs_fork
def test_a_child_may_fork_again() -> None:
    model = load(2)
    x = image(2, 32)
    want = model(x)

    def grandchild() -> bool:
        return np.array_equal(model(x), want) and in_child(lambda: np.array_equal(model(x), want)) == "done"

    assert in_child(grandchild) == "done"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_while_another_thread_is_running_the_model() -> None:
    model = load(2)
    x, y = image(2, 32), image(1, 16, seed=1)
    want = model(x)
    with busy(lambda _: model(y)):
        for _ in range(20):
            assert in_child(lambda: np.array_equal(model(x), want)) == "done"
            np.testing.assert_array_equal(model(x), want)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_while_another_thread_is_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, planning, go_on = os.getpid(), threading.Event(), threading.Event()

    class Slow(Builder):
        """Stops amid a plan until it is told to go on, but not in the child."""

        def build(self) -> Builder:
            if os.getpid() == parent:
                planning.set()
                go_on.wait()
            return super().build()

    model = load(2)
    x, y = image(2, 32), image(1, 16)
    want_x, want_y = model(x), load(1)(y)
    monkeypatch.setattr("tilewise.runtime.model.Builder", Slow)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(model, y)
        planning.wait()
        known = in_child(lambda: np.array_equal(model(x), want_x))
        new = in_child(lambda: np.array_equal(model(y), want_y))
        go_on.set()
        np.testing.assert_array_equal(other.result(), want_y)
    assert (known, new) == ("done", "done")
