"""Shapes of inputs from the command line, and random arrays of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tilewise.errors import InputError
from tilewise.graph import UNKNOWN, Fact, Graph


def input_facts(graph: Graph) -> dict[str, Fact]:
    """What the model declares of its inputs, in graph order."""
    return {name: graph.facts.get(name, UNKNOWN) for name in graph.inputs}


def split_named(text: str, names: Sequence[str], option: str) -> tuple[str | None, str]:
    """NAME=REST as (NAME, REST); (None, text) where the text names no input."""
    for name in names:
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    head, equals, _ = text.partition("=")
    if equals and "/" not in head and "." not in head:
        raise InputError(f"{option} {text}: no input {head!r}; the model has {', '.join(names) or 'none'}")
    return None, text


def only_input(names: Sequence[str], option: str, text: str) -> str:
    """The name of a model's one input; an error telling how to name one of several."""
    if len(names) != 1:
        raise InputError(
            f"{option} {text}: say which input, as NAME={text}; the model has {', '.join(names) or 'none'}"
        )
    return names[0]


def parse_shapes(options: Sequence[str], facts: Mapping[str, Fact]) -> dict[str, tuple[int, ...]]:
    """Shapes by input name from `--shape` options, checked against what the model declares."""
    shapes: dict[str, tuple[int, ...]] = {}
    names = list(facts)
    for option in options:
        name, text = split_named(option, names, "--shape")
        name = name or only_input(names, "--shape", text)
        try:
            shape = tuple(int(part) for part in text.split(",")) if text else ()
        except ValueError:
            raise InputError(f"--shape {option}: expected integers separated by commas") from None
        if min(shape, default=0) < 0:
            raise InputError(f"--shape {option}: dims are at least 0")
        check_shape(name, shape, facts[name])
        shapes[name] = shape
    return shapes


def check_shape(name: str, shape: tuple[int, ...], fact: Fact) -> None:
    """`InputError` where the shape contradicts the declared one."""
    declared = fact.shape
    if declared is None:
        return
    fits = len(shape) == len(declared) and all(
        not isinstance(d, int) or d == s for s, d in zip(shape, declared, strict=True)
    )
    if not fits:
        raise InputError(f"--shape: input {name!r} is {fact}, {shape} does not fit")


def complete_shapes(
    facts: Mapping[str, Fact], given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """A shape for every input: the given one, or the declared one.

    A free dim is what a dim of that name is in a given shape, else 1.
    """
    dims: dict[str, int] = {}
    for name, shape in given.items():
        for size, dim in zip(shape, facts[name].shape or (), strict=False):
            if isinstance(dim, str):
                dims.setdefault(dim, size)
    shapes = {}
    for name, fact in facts.items():
        if name in given:
            shapes[name] = given[name]
        elif fact.shape is None:
            raise InputError(f"input {name!r} has no declared rank: give --shape {name}=D,D,...")
        else:
            shapes[name] = tuple(
                d if isinstance(d, int) else dims.get(d, 1) if d is not None else 1 for d in fact.shape
            )
    return shapes


def random_array(name: str, fact: Fact, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal floats; bytes over their whole range; other integers 0 or 1, which do for indices and masks."""
    dtype = fact.dtype
    if dtype is None or fact.kind != "tensor" or dtype.kind in "OUS":
        raise InputError(f"input {name!r} is {fact}: random numbers are made for numeric tensors only")
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iu":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape, np.float32).astype(dtype)
