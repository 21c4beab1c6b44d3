"""Types of values as ONNX spells them, held against the constraints of an operator's schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilewise import dtypes
from tilewise.graph import Fact
from tilewise.onnx.schema import VARIADIC, Parameter

_NAMES = {"tensor": "tensor", "sequence": "seq", "optional": "optional", "map": "map"}


def type_name(fact: Fact | None) -> str | None:
    """ONNX's name of a value's type, as in `seq(tensor(float))`; None where it is not known in full."""
    if fact is None or fact.kind not in _NAMES:
        return None
    if fact.kind == "tensor":
        inner = None if fact.dtype is None else dtypes.onnx_name(fact.dtype)
    else:
        inner = type_name(fact.elem)
    if fact.kind == "map" and inner is not None:
        inner = None if fact.dtype is None else f"{dtypes.onnx_name(fact.dtype)},{inner}"
    return None if inner is None else f"{_NAMES[fact.kind]}({inner})"


def parameters(formals: Sequence[Parameter], count: int) -> Iterator[Parameter]:
    """The formal parameter of each of `count` values; the last one repeats where it is variadic."""
    for i in range(count):
        if i < len(formals):
            yield formals[i]
        elif formals and formals[-1].option == VARIADIC:
            yield formals[-1]


def wrong_types(
    formals: Sequence[Parameter], names: Sequence[str], ins: Sequence[Fact | None]
) -> Iterator[str]:
    """In words, each input whose known type its parameter does not allow."""
    for formal, name, fact in zip(parameters(formals, len(names)), names, ins, strict=False):
        found = type_name(fact)
        if found is not None and found not in formal.types:
            yield (
                f"input {name!r} ({formal.name}) of type {found} is not supported, expected "
                f"{', '.join(sorted(formal.types))}"
            )


def conflict(formals: Sequence[Parameter], names: Sequence[str], ins: Sequence[Fact | None]) -> str | None:
    """In words, the first two inputs that must have one type and do not, or None."""
    bound: dict[str, tuple[str, str]] = {}
    for formal, name, fact in zip(parameters(formals, len(names)), names, ins, strict=False):
        found = type_name(fact)
        if found is None or not formal.is_homogeneous:
            continue
        first, where = bound.setdefault(formal.type_str, (found, name))
        if first != found:
            return (
                f"inputs {where!r} and {name!r} must have one type ({formal.type_str}), "
                f"got {first} and {found}"
            )
    return None
