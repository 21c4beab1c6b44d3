"""Kernels compiled on the machine where they run: when a run waits for them, and who compiles."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import tilewise as tw
import tilewise.ort
import tilewise_kernels
from tests import small_models
from tilewise.errors import InputError
from tilewise.ort.exceptions import InvalidArgument
from tilewise.runtime.model import Model
from tilewise_kernels import registry
from tilewise_kernels.jit import NAMES, background, cache

X = np.random.default_rng(3).standard_normal((2, 3, 13, 17), np.float32)
FEEDS = {"image": X}

PROGRAM = """
import os, sys, time
import numpy as np
import tilewise as tw
model = tw.load(sys.argv[1], jit=sys.argv[4] or None)
x = np.load(sys.argv[2])

def run(label):
    np.save(f"{sys.argv[3]}-{label}.npy", model(x))
    kernels = {step.kernel for step in model.plan({"image": x.shape}).steps}
    print(label, "jit" if "tile_gemm" in kernels else "numpy", flush=True)
    return "tile_gemm" in kernels

run("first")
child = os.fork() if sys.argv[5:] == ["fork"] else None
if sys.argv[5:]:
    end = time.monotonic() + 100
    while time.monotonic() < end and not run("child" if child == 0 else "later"):
        time.sleep(0.05)
if child == 0:
    os._exit(0)
if child:
    os.waitpid(child, 0)
print("imported", *sorted({"numba", "llvmlite"} & set(sys.modules)))
"""


class Process:
    """A new process without extension modules that runs a small CNN; its warnings are errors."""

    def __init__(self, folder: Path, cache: Path, *args: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.results = folder / "out"
        np.save(folder / "x.npy", X)
        model = small_models.save(small_models.cnn(), folder / "cnn.onnx")
        inherited = {k: v for k, v in os.environ.items() if k != "TILEWISE_JIT"}
        options = ["-W", "error::RuntimeWarning", "-W", "ignore::DeprecationWarning"]  # 3.12 warns of forks
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", PROGRAM, model, folder / "x.npy", self.results, *args],
            env=inherited | {"TILEWISE_PURE": "1", "TILEWISE_CACHE": str(cache)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def lines(self) -> list[str]:
        """What it printed, once it has ended well."""
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, err
        assert not err
        return out.splitlines()

    def check(self, *labels: str) -> None:
        want = ReferenceEvaluator(small_models.cnn()).run(None, FEEDS)[0]
        for label in labels:
            np.testing.assert_allclose(np.load(f"{self.results}-{label}.npy"), want, rtol=1e-4, atol=1e-5)


def test_runs_never_wait_for_the_compiler_and_kernels_are_taken_when_there(
    tmp_path: Path, jit_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cache"
    monkeypatch.setenv("TILEWISE_CACHE", str(place))
    with cache.lock():  # no compiler gets on while this is held
        one = Process(tmp_path / "one", place, "", "later")
        two = Process(tmp_path / "two", place, "background", "fork")
        assert [p.read_line() for p in (one, two)] == ["first numpy", "first numpy"]
    assert one.lines()[-2:] == ["later jit", "imported llvmlite"]
    lines = two.lines()
    assert {"later jit", "child jit"} <= set(lines)
    assert lines[-1] == "imported llvmlite"
    one.check("first", "later")
    two.check("first", "later", "child")
    assert sorted(p.name.partition("-")[0] for p in place.iterdir()) == ["kernels", "lock"]
    for made in place.glob("kernels-*"):  # other tests need not compile them again
        made.replace(jit_cache / made.name)


def test_waiting_for_kernels_and_doing_without(tmp_path: Path, jit_cache: Path) -> None:
    wait = Process(tmp_path / "wait", jit_cache, "wait")
    assert wait.lines() == ["first jit", "imported llvmlite"]
    kept = Process(tmp_path / "kept", jit_cache, "")
    assert kept.lines() == ["first jit", "imported llvmlite"]
    unused = tmp_path / "unused"
    off = Process(tmp_path / "off", unused, "", TILEWISE_JIT="off")
    assert off.lines() == ["first numpy", "imported"]
    assert not unused.exists()
    for process in (wait, kept, off):
        process.check("first")


# In this process, as if it had no extension modules.


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This process without extension modules, without kernels, and with an empty folder for them."""
    monkeypatch.setattr(registry, "ISA", "jit")
    monkeypatch.setattr(tilewise_kernels, "ISA", "jit")
    monkeypatch.setattr(registry, "_TABLE", {})
    for name in ("_worker", "_key", "_table"):
        monkeypatch.setattr(background, name, None)
    monkeypatch.setenv("TILEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TILEWISE_JIT", raising=False)
    return tmp_path / "cache"


def kernels(model: Model) -> set[str]:
    return {step.kernel for step in model.plan({"image": X.shape}).steps}


def fail() -> bytes:
    raise RuntimeError("no compiler today")


@pytest.mark.parametrize("make", [fail, lambda: b"", lambda: cache.pack(b"code", bytes(32))])
def test_a_compiler_that_fails_is_told_once_and_numpy_goes_on(
    bare: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], bytes]
) -> None:
    monkeypatch.setattr(background, "_run_compiler", make)
    with pytest.warns(RuntimeWarning, match="no compiled kernels, everything runs in NumPy") as caught:
        models = [tw.load(small_models.cnn(), jit="wait") for _ in range(3)]
    assert len(caught) == 1
    want = ReferenceEvaluator(small_models.cnn()).run(None, FEEDS)[0]
    for model in models:
        np.testing.assert_allclose(model(X), want, rtol=1e-4, atol=1e-5)
        assert kernels(model) == {"host"}


@pytest.mark.filterwarnings("ignore:no compiled kernels:RuntimeWarning")
def test_plans_made_meanwhile_are_replaced(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def compile_later() -> bytes:
        go_on.wait(60)
        return fail()

    monkeypatch.setattr(background, "_run_compiler", compile_later)
    model = tw.load(small_models.cnn(), jit="background")
    before = model._runner.plan(FEEDS)
    assert model._runner.plan(FEEDS) is before
    go_on.set()
    assert tilewise_kernels.prepare(wait=True)
    after = model._runner.plan(FEEDS)
    assert after is not before
    assert model._runner.plan(FEEDS) is after


def test_a_damaged_file_is_told_once_and_made_anew(
    bare: Path, jit_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Process(tmp_path / "fill", jit_cache, "wait", TILEWISE_VECTOR=str(registry.VECTOR_FLOATS)).lines()
    key = importlib.import_module("tilewise_kernels.jit.objects").key()
    good = jit_cache / cache.path(key).name
    bare.mkdir()
    (bare / good.name).write_bytes(good.read_bytes()[:-7])
    monkeypatch.setattr(background, "_run_compiler", good.read_bytes)
    with pytest.warns(RuntimeWarning) as caught:
        model = tw.load(small_models.cnn(), jit="wait")
    assert {"tile_gemm", "pad_phases", "gemv"} < kernels(model)
    assert [str(w.message).partition(" in ")[0] for w in caught] == ["ignored the cached kernels"]
    assert set(tilewise_kernels.names()) == set(NAMES)


# Who may say what.


def test_the_choice_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = small_models.cnn()
    with pytest.raises(InputError, match="jit: expected one of background, wait, off, got 'always'"):
        tw.load(proto, jit="always")
    options = tilewise.ort.SessionOptions()
    options.add_session_config_entry("tilewise.jit", "always")
    with pytest.raises(InvalidArgument, match=r"tilewise\.jit: .*got 'always'"):
        tilewise.ort.InferenceSession(proto.SerializeToString(), options)
    monkeypatch.setenv("TILEWISE_JIT", "never")
    with pytest.raises(InputError, match="TILEWISE_JIT: expected one of background, wait, off, got 'never'"):
        tw.load(proto)
    tw.load(proto, jit="off")


def test_models_and_sessions_keep_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_look_up", lambda: pytest.fail("asked for kernels"))
    options = tilewise.ort.SessionOptions()
    options.add_session_config_entry("tilewise.jit", "off")
    session = tilewise.ort.InferenceSession(small_models.cnn().SerializeToString(), options)
    model = tw.load(small_models.cnn(), jit="off")
    want = ReferenceEvaluator(small_models.cnn()).run(None, FEEDS)[0]
    for m in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(m(X), want, rtol=1e-4, atol=1e-5)
    for s in (session, pickle.loads(pickle.dumps(session))):
        np.testing.assert_allclose(s.run(None, FEEDS)[0], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", ["", "5", "32"])
def test_a_wrong_width_is_refused(width: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tilewise_kernels"],
        env=os.environ | {"TILEWISE_PURE": "1", "TILEWISE_VECTOR": width},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"TILEWISE_VECTOR={width!r}: expected 4, 8 or 16" in done.stderr
