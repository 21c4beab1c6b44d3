"""Choices between implementations that were measured on this machine, kept in a file for all later processes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path

from tilewise_kernels.cachedir import locked, replace

MAX_BYTES = 1 << 20
MAX_CHOICES = 4096
"""Problems kept at most, for a process that meets ever new shapes."""
LOCK_SECONDS = 0.2


class Kept:
    """Names of implementations by problem, in a file of JSON; the choice that was kept first stays.

    made_for: all that the choices depend on beside the problem; a file made for anything else is not read.
    Where nothing can be written, nothing is kept. A file that cannot be used is replaced, with one warning.
    """

    def __init__(self, folder: Path, made_for: str) -> None:
        self.made_for = made_for
        self.file = folder / f"choices-{hashlib.sha256(made_for.encode()).hexdigest()[:16]}.json"
        self._choices: dict[str, str] | None = None
        self._warned = False

    def find(self, problem: str, names: Collection[str]) -> str | None:
        """The choice kept for a problem, if it is one of `names`."""
        if self._choices is None:
            self._choices = self._read()
        name = self._choices.get(problem)
        return name if name in names else None

    def writable(self) -> bool:
        """True where one more choice can be kept."""
        if self._choices is not None and len(self._choices) >= MAX_CHOICES:
            return False
        with self._locked() as locked:
            return locked

    def keep(self, problem: str, name: str, names: Collection[str]) -> str | None:
        """The choice that is kept for a problem from now on: `name`, or what another process was first to keep.

        None where it could not be kept.
        """
        with self._locked() as locked:
            if not locked:
                return None
            self._choices = self._read()
            earlier = self.find(problem, names)
            if earlier is not None:
                return earlier
            try:
                self._write({**self._choices, problem: name})
            except OSError:
                return None
            self._choices[problem] = name
            return name

    def _read(self) -> dict[str, str]:
        try:
            return self._parse(_read_file(self.file))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, RecursionError) as error:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"ignored the kept choices in {self.file}: {error}", RuntimeWarning, stacklevel=2
                )
            return {}

    def _parse(self, content: bytes) -> dict[str, str]:
        report = json.loads(content)
        if not isinstance(report, dict) or report.get("made_for") != self.made_for:
            raise ValueError(f"not made for {self.made_for}")
        choices = report.get("choices")
        if not isinstance(choices, dict) or not all(isinstance(name, str) for name in choices.values()):
            raise ValueError("expected the name of an implementation for every problem")
        return choices

    def _write(self, choices: dict[str, str]) -> None:
        content = json.dumps({"made_for": self.made_for, "choices": choices}, indent=1)
        replace(self.file, content.encode() + b"\n")

    def _locked(self) -> AbstractContextManager[bool]:
        return locked(self.file.parent / "choices.lock", LOCK_SECONDS)


def _read_file(file: Path) -> bytes:
    """The content of a regular file: reading a pipe would not end."""
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError("not a regular file")
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    return content
