"""Tensor data in files beside the model, memory-mapped, and never outside the model's directory."""

from __future__ import annotations

import os
import stat

import numpy as np

from tilewise.errors import ModelError
from tilewise.onnx.fields import text
from tilewise.onnx.messages import TensorProto


class ExternalFiles:
    """The external data of one model.

    model: path of the model file, or None for one that came as bytes.
    base_dir: the directory that locations are relative to; by default that of `model`.
    A location must stay inside that directory, symbolic links resolved. Where the model file itself is a link
    (as in download caches), the directory that it points into is allowed too.
    """

    def __init__(
        self, model: str | os.PathLike[str] | None = None, base_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self._roots: list[str] = []
        self._maps: dict[str, np.ndarray] = {}
        self._base: str | None = None
        if base_dir is not None:
            self._base = os.fspath(base_dir)
            self._roots = [os.path.realpath(self._base)]
        elif model is not None:
            self._base = os.path.dirname(os.path.abspath(model))
            self._roots = [os.path.realpath(self._base), os.path.dirname(os.path.realpath(model))]

    def read(self, tensor: TensorProto, nbytes: int, what: str) -> np.ndarray:
        """The bytes of `tensor` as a read-only array of `nbytes` uint8, a view of the mapped file.

        `ModelError` for a location that escapes or is missing, a bad offset or length, or a short file.
        """
        entries = {text(e.key, what): text(e.value, f"{what}: {e.key}") for e in tensor.external_data}
        location = entries.get("location", "")
        path = self._resolve(location, what)
        offset = _integer(entries.get("offset", "0"), f"{what}: offset in {location!r}")
        length = _integer(entries.get("length", str(nbytes)), f"{what}: length in {location!r}")
        if length != nbytes:
            raise ModelError(f"{what}: expected a length of {nbytes} bytes in {location!r}, got {length}")
        content = self._map(path, what)
        if offset + nbytes > content.size:
            raise ModelError(
                f"{what}: expected {nbytes} bytes at offset {offset} of {path!r}, got a file of "
                f"{content.size} bytes"
            )
        return content[offset : offset + nbytes]

    def _resolve(self, location: str, what: str) -> str:
        if self._base is None:
            raise ModelError(
                f"{what}: expected a model loaded from a path or with base_dir, since its data is external "
                f"({location!r}); got bytes"
            )
        if not location or os.path.isabs(location) or "\0" in location:
            raise ModelError(f"{what}: expected the relative path of a file, got location {location!r}")
        path = os.path.realpath(os.path.join(self._base, location))
        if not any(os.path.commonpath([root, path]) == root for root in self._roots):
            raise ModelError(
                f"{what}: expected external data inside {self._roots[0]!r}, got {location!r}, "
                f"which is {path!r}"
            )
        return path

    def _map(self, path: str, what: str) -> np.ndarray:
        content = self._maps.get(path)
        if content is None:
            try:
                status = os.stat(path)
                if not stat.S_ISREG(status.st_mode):
                    raise ModelError(f"{what}: expected a regular file at {path!r}, got something else")
                content = (
                    np.asarray(np.memmap(path, np.uint8, "r")) if status.st_size else np.empty(0, np.uint8)
                )
            except (OSError, ValueError) as error:
                raise ModelError(f"{what}: expected external data in {path!r}: {error}") from error
            self._maps[path] = content
        return content


def _integer(value: str, what: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 19:
        raise ModelError(f"{what}: expected a number >= 0, got {value[:40]!r}")
    return int(value)
