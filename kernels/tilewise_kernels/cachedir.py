"""The folder of files that save work to later processes of this user, used by many processes at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def folder() -> Path | None:
    """`TILEWISE_CACHE`, or `tilewise` where this system keeps caches; None for a user without a home."""
    chosen = os.environ.get("TILEWISE_CACHE")
    if chosen:
        return Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return Path(xdg, "tilewise")
    try:
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tilewise"
    except RuntimeError:
        return None


def replace(file: Path, content: bytes) -> None:
    """Write a file as a whole, so that readers meet the old content or the new; `OSError` where that fails."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix="new-", dir=file.parent)
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(file: Path, seconds: float) -> Iterator[bool]:
    """Held by one process at a time; False where no lock can be had, within `seconds` or at all."""
    handle, held = -1, False
    try:
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            held = _wait_for(handle, seconds)
        yield held
    finally:
        if handle >= 0:
            os.close(handle)


def _wait_for(handle: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
