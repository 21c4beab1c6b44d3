"""The contract of an operator: inference, evaluation in NumPy, lowering to kernels.

An operator is one class; an instance is bound to one node. Its methods see facts and arrays, never the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tilewise.errors import ShapeError, Unsupported, UnsupportedError
from tilewise.graph import UNKNOWN, Fact, Node
from tilewise.graph.facts import Shape
from tilewise.graph.facts import broadcast as broadcast_dims

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering

Inputs = Sequence[Any]
"""`Fact`, or None for an input left out."""
Array = np.ndarray


class Op:
    """Base of all operators.

    attributes: the ONNX attributes that the class reads; one outside it is refused by the importer.
    foldable: False for an operator whose result is not a function of its inputs alone.
    empty_constants: True where `lower` also takes constant inputs without elements, which stand for ones left out.
    runs_deprecated: True where a version that only deprecates the operator has its form and meaning.
    control_flow: True where `evaluate` takes a first argument `call(graph, feeds) -> list` to run subgraphs.
    """

    domain: ClassVar[str] = ""
    attributes: ClassVar[frozenset[str]] = frozenset()
    foldable: ClassVar[bool] = True
    empty_constants: ClassVar[bool] = False
    runs_deprecated: ClassVar[bool] = False
    control_flow: ClassVar[bool] = False

    def __init__(self, node: Node) -> None:
        self.node = node
        self.version = node.version

    def attr(self, name: str, default: Any = None) -> Any:
        """The attribute's value, or `default` where the node does not carry it."""
        return self.node.attrs.get(name, default)

    def unsupported(self) -> str | None:
        """What of this node's form cannot be run, in words, or None; called at load, before any inference."""
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        """Facts of the outputs from the facts of the inputs (None for one left out).

        A control-flow operator gets the facts of `node.captures` after those of its inputs.
        Dims may be names or None and ranks unknown: answer as precisely as the inputs allow, with `UNKNOWN` for
        nothing. Inputs with a `.value` are constants. Raise through `fail` where the inputs cannot fit.
        """
        return [UNKNOWN] * len(self.node.outputs)

    def evaluate(self, *inputs: Any) -> Sequence[Any]:
        """The outputs, in NumPy, for every dtype that ONNX allows; inputs are never written to."""
        raise NotImplementedError(type(self).__name__)

    def lower(self, b: Lowering) -> bool:
        """Emit kernel steps for this node through `b` and return True, or return False to run `evaluate`.

        Called with all shapes known and no empty tensor among inputs and outputs.
        """
        return False

    def fail(self, what: str) -> ShapeError:
        """The error for inputs that do not fit: `raise self.fail("...")`."""
        return ShapeError(f"node {self.node.label!r} ({self.node.op_type}): {what}")

    def refuse(self, what: str) -> UnsupportedError:
        """The error for a form that is valid ONNX and not supported, found only once shapes are known."""
        return UnsupportedError([Unsupported(self.node.label, self.node.op_type, what)])

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """`axis` counted from the front; an error outside [-rank, rank)."""
        if not -rank <= axis < rank:
            raise self.fail(f"{what} {axis} is outside [-{rank}, {rank}) for rank {rank}")
        return axis % rank if rank else 0

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front; an error for one out of range or given twice."""
        out = tuple(self.axis(int(a), rank, "axis") for a in axes)
        if len(set(out)) != len(out):
            raise self.fail(f"axes {list(axes)} name one axis twice")
        return out

    def broadcast(self, *shapes: Shape | None) -> Shape | None:
        """The broadcast shape, None where a rank is unknown; an error where dims do not fit."""
        if any(s is None for s in shapes):
            return None
        try:
            return broadcast_dims(*(s for s in shapes if s is not None))
        except ValueError as error:
            raise self.fail(f"{error}; shapes {', '.join(map(str, shapes))}") from None


def values(fact: Fact | None) -> list[int] | None:
    """The content of a constant integer tensor as a list, or None where it is not known."""
    if fact is None or fact.value is None:
        return None
    return [int(v) for v in np.ravel(fact.value)]
