"""Which of several implementations computes a problem: a forced one, else the first that can, or its quickest rival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from tilewise.errors import InputError
from tilewise.ops.conv_problem import Problem
from tilewise.ops.lowering import Lowering, Ref

CLEAR = 1.25
"""Two costs further apart than this factor settle which of two implementations is quicker."""
MEASURED_COST, MEASURED_WEIGHTS = 1 << 24, 1 << 19
"""Up to which cost and number of weights rivals are run while a plan is made: milliseconds to run and to pack."""


class Implementation(NamedTuple):
    """A way to compute a problem: where it can, and the steps it takes.

    layout: that of x, residual and y. lower: takes the residual as a ref, or 0 where there is none.
    cost: where rivals of the same layout are to be compared with it, its multiplications of a vector, or what takes
    as long; infinite where it is not worth a trial.
    """

    name: str
    layout: str
    accepts: Callable[[Problem, Lowering], bool]
    lower: Callable[[Lowering, Problem, Ref | int], None]
    cost: Callable[[Problem], float] | None = None


def choose(implementations: Sequence[Implementation], problem: Problem, b: Lowering) -> Implementation:
    """The forced one of those that accept the problem, else the first of them or the quickest of its rivals."""
    usable = {i.name: i for i in implementations if i.accepts(problem, b)}
    forced = [name for name in b.forced if name in usable]
    first = usable[forced[0]] if forced else next(iter(usable.values()))
    if forced or first.cost is None:
        return first
    rivals = [(i.cost(problem), i) for i in usable.values() if i.cost and i.layout == first.layout]
    rivals.sort(key=lambda rival: rival[0])
    least = rivals[0][0]
    close = {i.name: partial(_lower, i, problem) for cost, i in rivals if cost <= CLEAR * least}
    if len(close) == 1 or least > MEASURED_COST or problem.weights > MEASURED_WEIGHTS:
        return rivals[0][1]
    return usable[b.quickest(str(problem), first.layout, close)]


def _lower(implementation: Implementation, problem: Problem, b: Lowering) -> None:
    implementation.lower(b, problem, b.optional(3, implementation.layout))


def parse_forced(text: str, implementations: Sequence[Implementation]) -> tuple[str, ...]:
    """The names in `TILEWISE_IMPL`, separated by commas; `InputError` for one that no implementation has."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = [i.name for i in implementations]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"TILEWISE_IMPL: no implementation {', '.join(unknown)}; known are {', '.join(known)}"
        )
    return names
