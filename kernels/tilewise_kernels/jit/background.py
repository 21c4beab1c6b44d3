"""Gets the compiled kernels of this process: from the cache, else from a process that compiles them.

Compiling here would hold the GIL for seconds, leave Numba in memory, and could be caught half way by a fork.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

_lock = threading.Lock()
_worker: threading.Thread | None = None
_key: bytes | None = None
_table: dict[str, int] | None = None


def request(wait: bool) -> dict[str, int] | None:
    """Addresses of the kernels; None while they are being compiled, empty where that failed.

    The first call looks into the cache and, where they are not there, has them compiled. wait: until they are there.
    """
    global _worker
    if _table is not None:
        return _table
    with _lock:
        if _key is None:
            _look_up()
        if _table is None and _worker is None:
            _worker = threading.Thread(target=_compile, name="tilewise-jit", daemon=True)
            _worker.start()
        worker = _worker
    if wait and worker is not None:
        worker.join()
    return _table


def _look_up() -> None:
    global _key, _table
    try:
        from tilewise_kernels.jit import cache, objects

        _key = objects.key()
        code = cache.read(_key)
        if code is not None:
            _table = objects.load(code)
    except Exception as error:
        _give_up(error)


def _compile() -> None:
    global _table
    try:
        from tilewise_kernels.jit import cache, objects

        assert _key is not None
        code = cache.unpack(_run_compiler(), _key)
        with _lock:  # a fork waits, so that it does not meet LLVM half way
            _table = objects.load(code)
    except Exception as error:
        _give_up(error)


def _give_up(error: Exception) -> None:
    global _table
    _table = {}
    warnings.warn(
        f"no compiled kernels, everything runs in NumPy: {type(error).__name__}: {error}",
        RuntimeWarning,
        stacklevel=2,
    )


def _run_compiler() -> bytes:
    """The content of a cache file, from a process of its own that outlives this one if need be."""
    from tilewise_kernels.registry import VECTOR_FLOATS

    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")} | {
        "PYTHONPATH": os.pathsep.join([p for p in sys.path if p] + [root]),
        "TILEWISE_PURE": "1",
        "TILEWISE_VECTOR": str(VECTOR_FLOATS),
        "NUMBA_DISABLE_INTEL_SVML": "1",
    }
    done = subprocess.run(
        [_interpreter(), "-P", "-m", "tilewise_kernels.jit.build"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"compiling them ended with status {done.returncode}: {last}")
    return done.stdout


def _interpreter() -> str:
    """Python itself; in a program that embeds it, `sys.executable` may be that program."""
    if os.path.basename(sys.executable or "").startswith("python"):
        return sys.executable
    return os.path.join(sys.exec_prefix, "bin", "python3")


def _forget_worker() -> None:
    """A forked child has no worker; its next request starts one, which finds what the parent's has made."""
    global _worker
    _worker = None
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_worker)
