"""Every exception that Tilewise raises on purpose, all subclasses of `TilewiseError`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TilewiseError(Exception):
    """Base of all errors; its text says what, where, what was expected and what came."""


class ModelError(TilewiseError):
    """The model file or graph is malformed: truncated, cyclic, dangling names, bad external data."""


class ShapeError(ModelError):
    """Types or shapes of a node's inputs do not fit its operator."""


class InputError(TilewiseError, ValueError):
    """An argument of a call is wrong: a name, rank, shape, dtype or option."""


class ExecutionError(TilewiseError, RuntimeError):
    """A node failed while running, because of the values that reached it."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """One thing in a model that this version cannot run."""

    node: str
    op_type: str
    what: str

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.op_type}): {self.what}"


class UnsupportedError(TilewiseError):
    """The model is well-formed but uses operators, attributes, types or opsets that are not supported.

    `findings` lists all of them, in graph order.
    """

    def __init__(self, findings: Sequence[Unsupported]) -> None:
        self.findings = tuple(findings)
        lines = "\n".join(f"  {f}" for f in self.findings)
        super().__init__(f"{len(self.findings)} unsupported feature(s) in the model:\n{lines}")

    def __reduce__(self) -> tuple:
        return (type(self), (self.findings,))
