"""Which of several implementations computes a problem: a forced one, else the first that can, or its quickest rival."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from tilewise.errors import InputError
from tilewise.ops.conv_problem import Problem
from tilewise.ops.layout import BLOCKED, PLAIN, blocked_floats
from tilewise.ops.lowering import Lowering, Ref

CLEAR = 1.25
"""Two costs further apart than this factor settle which of two implementations is quicker."""
MEASURED_COST, MEASURED_WEIGHTS = 1 << 24, 1 << 19
"""Up to which cost and number of weights rivals are run while a plan is made: milliseconds to run and to pack."""

CONVERSION_COST = 0.6
"""What brings a float from one layout to the other, in multiplications of a vector."""
LAYOUTS = (PLAIN, BLOCKED)


class Implementation(NamedTuple):
    """A way to compute a problem: where it can, and the steps it takes.

    layout: that of x, residual and y. lower: takes the residual as a ref, or 0 where there is none.
    cost: where rivals are to be compared with it, its multiplications of a vector, or what takes as long; infinite
    where it is not worth a trial.
    """

    name: str
    layout: str
    accepts: Callable[[Problem, Lowering], bool]
    lower: Callable[[Lowering, Problem, Ref | int], None]
    cost: Callable[[Problem], float] | None = None


def choose(implementations: Sequence[Implementation], problem: Problem, b: Lowering) -> Implementation:
    """The forced one of those that accept the problem, else the first of them or the quickest of its rivals.

    One alone that would have to bring x into blocked layout and y out of it does so where this pays.
    """
    usable = {i.name: i for i in implementations if i.accepts(problem, b)}
    forced = [name for name in b.forced if name in usable]
    if not (forced or b.chained or b.lies_blocked(0) or _pays_conversion(usable.values(), problem, b)):
        usable = {name: i for name, i in usable.items() if i.layout == PLAIN}
    first = usable[forced[0]] if forced else next(iter(usable.values()))
    if forced or first.cost is None:
        return first
    same = [(i.cost, i) for i in usable.values() if i.cost and i.layout == first.layout]
    if len(same) == 1:
        return first
    rivals = sorted(((cost(problem), i) for cost, i in same), key=lambda rival: rival[0])
    least = rivals[0][0]
    close = {i.name: partial(_lower, i, problem) for cost, i in rivals if cost <= CLEAR * least}
    if len(close) == 1 or least > MEASURED_COST or problem.weights > MEASURED_WEIGHTS:
        return rivals[0][1]
    return usable[b.quickest(str(problem), first.layout, close)]


def _pays_conversion(usable: Iterable[Implementation], problem: Problem, b: Lowering) -> bool:
    """True where blocked layout is quicker than plain by more than the way into it and out of it takes."""
    costs = {layout: [i.cost(problem) for i in usable if i.cost and i.layout == layout] for layout in LAYOUTS}
    if not (costs[PLAIN] and costs[BLOCKED]):
        return False
    moved = sum(blocked_floats(f.shape) for f in (b.ins[0], *b.ins[3:], *b.outs) if f is not None)
    return min(costs[BLOCKED]) + CONVERSION_COST * moved < min(costs[PLAIN])


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
