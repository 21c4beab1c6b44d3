"""Where a model comes from: a path, bytes or an `onnx.ModelProto`, read without copying what is large."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tilewise.errors import InputError, ModelError
from tilewise.graph import Graph
from tilewise.onnx.external import ExternalFiles
from tilewise.onnx.messages import ModelProto
from tilewise.onnx.protobuf import DecodeError, parse
from tilewise.ops.lowering import aligned, empty_aligned

if TYPE_CHECKING:
    import onnx

Source: TypeAlias = "str | os.PathLike | bytes | bytearray | memoryview | onnx.ModelProto"

CHUNK = 8 << 20
"""Bytes of a file that are copied at a time."""
SMALL_BYTES = 1 << 16
"""Up to this size the pages of the file that an array lies on are not worth giving back."""


def read(source: Any, base_dir: str | os.PathLike | None) -> tuple[ModelProto, str, ExternalFiles]:
    """The model as a message, how errors call it, and its external data.

    Its raw data are views of the file, which is mapped, or of the bytes; an `onnx.ModelProto` is taken as it is.
    `ModelError` for what cannot be read or decoded, `InputError` for a source of another type.
    """
    if is_model_proto(source):
        return source, "model", ExternalFiles(base_dir=base_dir)
    if isinstance(source, bytes | bytearray | memoryview):
        return _parse(memoryview(bytes(source)), "model"), "model", ExternalFiles(base_dir=base_dir)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source: expected a path, bytes or onnx.ModelProto, got {type(source).__name__}")
    path = os.fspath(source)
    try:
        data = _content(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"expected a readable model file at {path!r}: {error}") from error
    return _parse(data, path), path, ExternalFiles(path, base_dir)


def is_model_proto(source: object) -> bool:
    """True for an `onnx.ModelProto`, without importing `onnx`."""
    return getattr(getattr(source, "DESCRIPTOR", None), "full_name", "") == "onnx.ModelProto"


def _content(path: str) -> memoryview:
    """The bytes of a file, mapped where it is a regular one."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return memoryview(file.read())
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _parse(data: memoryview, where: str) -> ModelProto:
    if not data:
        raise ModelError(f"{where}: expected an ONNX model, got an empty file")
    try:
        return parse(ModelProto, data)
    except DecodeError as error:
        raise ModelError(
            f"{where}: expected an ONNX model, got {len(data)} bytes that are no protobuf message "
            f"(truncated, corrupted or of another format): {error}"
        ) from None


def own(array: np.ndarray) -> np.ndarray:
    """`array`, or a copy where it is a view of a model's bytes or mapped file.

    What has been copied from a map leaves the memory of the process at once.
    """
    root: Any = array
    while isinstance(root, np.ndarray):
        root = root.base
    if not isinstance(root, memoryview):
        return array
    if array.nbytes <= SMALL_BYTES:
        return array.copy()
    if isinstance(root.obj, mmap.mmap) and array.flags.c_contiguous:
        return _moved(array, root.obj)
    return aligned(array)


def _moved(array: np.ndarray, file: mmap.mmap) -> np.ndarray:
    copy = empty_aligned(array.shape, array.dtype)
    old, new = (a.reshape(-1).view(np.uint8) for a in (array, copy))
    start = old.ctypes.data - np.frombuffer(file, np.uint8).ctypes.data
    for first in range(0, old.size, CHUNK):
        last = min(first + CHUNK, old.size)
        new[first:last] = old[first:last]
        page = (start + first) // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_DONTNEED, page, start + last - page)
    return copy


def detach(graphs: Iterable[Graph]) -> None:
    """Replace the initializers by what `own` makes of them, one shared by several graphs once."""
    made: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for graph in graphs:
        for name, array in graph.initializers.items():
            if id(array) not in made:
                made[id(array)] = array, own(array)
            graph.initializers[name] = made[id(array)][1]
