"""Object code kept on disk, in a file for each version of the kernels, of the compilers and of the CPU.

A file is native code: only one that the user or root owns, and that no one else may write, is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

from tilewise_kernels.cachedir import folder, locked, replace

MAGIC = b"TILEWISE OBJECT1"
HEADER = struct.Struct("<16s32s32sQ")
"""Magic, key, SHA-256 of the code, its length in bytes."""
MAX_BYTES = 1 << 26
MAX_FILES = 32
LOCK_SECONDS = 60


def key(*parts: str) -> bytes:
    """A digest of `parts`, of Numba's version and of the sources of the kernels."""
    digest = hashlib.sha256()
    for part in (*parts, f"Numba {importlib.metadata.version('numba')}"):
        digest.update(part.encode() + b"\0")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes() + b"\0")
    return digest.digest()


def path(key: bytes) -> Path | None:
    place = folder()
    return place / f"kernels-{key.hex()[:32]}" if place is not None else None


def read(key: bytes) -> bytes | None:
    """The code kept under `key`; None, with a warning where a file is there that cannot be used."""
    file = path(key)
    if file is None:
        return None
    try:
        return unpack(_read_own(file), key)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"ignored the cached kernels in {file}: {error}", RuntimeWarning, stacklevel=2)
        return None


def _read_own(file: Path) -> bytes:
    """The content of a regular file that no other user can have written."""
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise ValueError(f"it belongs to user {status.st_uid}, not to {os.geteuid()}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError(f"other users may write it (mode {stat.S_IMODE(status.st_mode):o})")
        return stream.read(MAX_BYTES)


def pack(code: bytes, key: bytes) -> bytes:
    """The content of a file."""
    return HEADER.pack(MAGIC, key, hashlib.sha256(code).digest(), len(code)) + code


def unpack(content: bytes, key: bytes) -> bytes:
    """The code in `content`; `ValueError` says what is wrong with it."""
    if len(content) < HEADER.size:
        raise ValueError(f"{len(content)} bytes long, its header alone has {HEADER.size}")
    magic, found, digest, length = HEADER.unpack_from(content)
    code = content[HEADER.size :]
    if magic != MAGIC:
        raise ValueError("not a file of kernels")
    if found != key:
        raise ValueError("made by another version or for another CPU")
    if length != len(code):
        raise ValueError(f"{len(code)} bytes of code, expected {length}")
    if digest != hashlib.sha256(code).digest():
        raise ValueError("the checksum does not match")
    return code


def store(code: bytes, key: bytes) -> bool:
    """Keep `code` under `key`, all at once; False where the folder cannot be written."""
    file = path(key)
    if file is None:
        return False
    try:
        replace(file, pack(code, key))
        _prune(file.parent)
    except OSError:
        return False
    return True


def _prune(place: Path) -> None:
    """Drop all but the latest files; others may do so at the same time."""
    ages = []
    for file in (*place.glob("kernels-*"), *place.glob("new-*")):
        with contextlib.suppress(FileNotFoundError):
            ages.append((file.stat().st_mtime_ns, file))
    for _, old in sorted(ages)[:-MAX_FILES]:
        old.unlink(missing_ok=True)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Held by one process at a time, for so long that it cannot still be compiling; no lock where none can be made."""
    place = folder()
    if place is None:
        yield
        return
    with locked(place / "lock", LOCK_SECONDS):
        yield
