"""Problem strings, one operator each, in the form that plans name convolutions by.

    KIND SIZES[_AXIS...][_FLAG...]      conv n1g1c64o64_ih56oh56kh3sh1dh1ph1_iw56ow56kw3sw1dw1pw1

SIZES: n batch, g groups, f offset groups, c channels, o output channels, m rows, k inner size or window. AXIS, one for
each spatial axis (d, h, w): i input, o output (default: i), k kernel (1), s stride (1), d dilation (1), p padding
before (0); the padding behind follows from these. KINDS in `bench.problem_models` lists the kinds and their flags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

LISTS = Path(__file__).with_name("problem_lists")
"""One text file a group: a problem a line; what follows a # is a remark."""

_HEAD = re.compile(r"(?:[a-z]\d+)+")
_AXIS = re.compile(r"(?:[ioksdp]([dhw])\d+)(?:[ioksdp]\1\d+)*")
_FLAG = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Axis:
    """A spatial axis: sizes of input, output and kernel, stride, dilation, padding before."""

    i: int
    o: int
    k: int = 1
    s: int = 1
    d: int = 1
    p: int = 0

    @property
    def extent(self) -> int:
        """What the kernel spans."""
        return (self.k - 1) * self.d + 1

    @property
    def end(self) -> int:
        """Padding behind of a window that slides over the input; ValueError where no padding gives this output."""
        end = max(0, (self.o - 1) * self.s + self.extent - self.i - self.p)
        if end >= self.extent or (self.i + self.p + end - self.extent) // self.s + 1 != self.o:
            raise ValueError(f"{self} does not add up: no padding behind gives an output of {self.o}")
        return end

    @property
    def transposed_end(self) -> tuple[int, int]:
        """Padding behind and additional output of a transposed convolution; ValueError where there are none."""
        end = (self.i - 1) * self.s + self.extent - self.p - self.o
        if -end >= max(self.s, self.d):
            raise ValueError(f"{self} does not add up: a transposed output of {self.o} is too large")
        return max(0, end), max(0, -end)


@dataclass(frozen=True)
class Problem:
    """kind: an operator. sizes: by letter. axes: the spatial ones, slowest first. flags: words."""

    text: str
    kind: str
    sizes: dict[str, int]
    axes: tuple[Axis, ...]
    flags: frozenset[str]

    def __hash__(self) -> int:
        return hash(self.text)

    def size(self, letter: str, default: int | None = None) -> int:
        value = self.sizes.get(letter, default)
        if value is None:
            raise ValueError(f"{self.text!r}: {self.kind} needs a size {letter!r}")
        return value

    @cached_property
    def taps(self) -> int:
        return prod(a.k for a in self.axes)

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct sum; 0 where an operator has no such thing."""
        n, c, o, g = (self.sizes.get(letter, 1) for letter in "ncog")
        match self.kind:
            case "conv" | "deform":
                return 2 * n * o * (c // g) * self.taps * prod(a.o for a in self.axes)
            case "convt":
                return 2 * n * c * (o // g) * self.taps * prod(a.i for a in self.axes)
            case "matmul" | "gemm":
                return 2 * n * self.size("m") * self.size("k") * o
            case _:
                return 0


def parse(text: str) -> Problem:
    """The problem that a string names; ValueError where it names none."""
    kind, _, rest = text.strip().partition(" ")
    head, *parts = rest.split("_")
    if not _HEAD.fullmatch(head):
        raise ValueError(f"{text!r}: expected KIND and sizes such as 'conv n1g1c64o64', got {head!r}")
    axes, flags, order = [], set(), ""
    for part in parts:
        if match := _AXIS.fullmatch(part):
            axes.append(_axis(text, part))
            order += match[1]
        elif _FLAG.fullmatch(part):
            flags.add(part)
        else:
            raise ValueError(f"{text!r}: {part!r} is neither an axis, such as 'ih56oh56kh3', nor a flag")
    if order not in ("", "w", "hw", "dhw"):
        raise ValueError(f"{text!r}: expected axes w, h w or d h w in this order, got {' '.join(order)}")
    return Problem(text.strip(), kind, _numbers(text, head), tuple(axes), frozenset(flags))


def _axis(text: str, part: str) -> Axis:
    values = _numbers(text, re.sub(r"([a-z])[dhw]", r"\1", part))
    if "i" not in values or 0 in (values.get(letter, 1) for letter in "iksdo"):
        raise ValueError(f"{text!r}: axis {part!r} needs an input size, and no size but p may be 0")
    return Axis(**{"o": values["i"], **values})


def _numbers(text: str, part: str) -> dict[str, int]:
    found = re.findall(r"([a-z])(\d+)", part)
    if len(dict(found)) != len(found):
        raise ValueError(f"{text!r}: a letter twice in {part!r}")
    return {letter: int(digits) for letter, digits in found}


def groups(folder: Path = LISTS) -> dict[str, list[Problem]]:
    """All problems by group."""
    return {path.stem: list(_lines(path)) for path in sorted(folder.glob("*.txt"))}


def _lines(path: Path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                yield parse(text)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
