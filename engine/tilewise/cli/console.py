"""Tables and numbers as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tilewise.graph.facts import Shape

PIPE_WIDTH = 240
"""Columns of output that does not go to a terminal: lines are not to be folded there."""


def console() -> Console:
    """Where a command writes; brackets in names are never markup."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A table; headings that start with ">" are for columns of numbers, set to the right."""
    grid = Table(title=title or None, box=SIMPLE_HEAD, pad_edge=False)
    grid.title_justify, grid.title_style = "left", "bold"
    for heading in headings:
        grid.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    for row in rows:
        grid.add_row(*row)
    return grid


def show_shape(shape: Shape | None) -> str:
    if shape is None:
        return "?"
    return "x".join("?" if d is None else str(d) for d in shape) or "scalar"


def show_count(count: float | None) -> str:
    """A count with a decimal prefix: 3.49 M."""
    return "" if count is None else _scale(count, 1000, ("", " k", " M", " G", " T"))


def show_bytes(nbytes: float | None) -> str:
    return "" if nbytes is None else _scale(nbytes, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def show_ms(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:.3f} ms" if nanoseconds < 1e7 else f"{nanoseconds / 1e6:.1f} ms"


def _scale(value: float, step: int, units: Sequence[str]) -> str:
    index = 0
    while abs(value) >= step and index < len(units) - 1:
        value /= step
        index += 1
    if index == 0:
        return f"{value:g}{units[0]}"
    return f"{value:.3g}{units[index]}" if abs(value) < 999.5 else f"{value:.0f}{units[index]}"
