"""A forest of decision trees as flat arrays, walked by all samples and trees together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tilewise.ops.base import Array

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)
"""Modes of nodes, as TreeEnsemble (version 5) numbers them, and that of a leaf."""

_COMPARE: dict[int, Callable[[Array, Array], Array]] = {
    LEQ: np.less_equal,
    LT: np.less,
    GTE: np.greater_equal,
    GT: np.greater,
    EQ: np.equal,
    NEQ: np.not_equal,
}
_BLOCK = 1 << 16
"""Pairs of sample and tree that are walked at a time."""


@dataclass(frozen=True, slots=True)
class Members:
    """Sets of values: `slots` (nodes,) numbers the sets, `values` sorted, `pairs` sorted slot * len(values) + value."""

    slots: Array
    values: Array
    pairs: Array

    @staticmethod
    def of(modes: Array, sets: list[Array]) -> Members:
        """The sets of the nodes of mode MEMBER, in the order of the nodes."""
        slots = np.cumsum(modes == MEMBER) - 1
        values = np.unique(np.concatenate([*sets, np.zeros(1)]))
        pairs = [i * len(values) + np.searchsorted(values, s) for i, s in enumerate(sets)]
        return Members(slots, values, np.unique(np.concatenate(pairs)))

    def contain(self, nodes: Array, x: Array) -> Array:
        at = np.minimum(np.searchsorted(self.values, x), len(self.values) - 1)
        wanted = self.slots[nodes] * len(self.values) + at
        found = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        return (self.values[at] == x) & (self.pairs[found] == wanted)


@dataclass(frozen=True, slots=True)
class Forest:
    """Nodes of all trees, leaves among them, and votes sorted by leaf.

    roots: (T,). features, modes, thresholds, nan_yes: (nodes,); nan_yes tells whether a NaN counts as if the
    comparison held. children: (nodes, 2), where it does not hold and where it does; those of a leaf are itself.
    starts: (nodes + 1,), the votes of a node in targets and weights. depth: levels below the highest node.
    """

    roots: Array
    features: Array
    modes: Array
    thresholds: Array
    children: Array
    nan_yes: Array
    starts: Array
    targets: Array
    weights: Array
    depth: int
    members: Members | None = None

    @property
    def features_read(self) -> int:
        """The least number of features that a sample needs."""
        read = self.features[self.modes != LEAF]
        return int(read.max()) + 1 if len(read) else 0

    def scores(self, x: Array, count: int, aggregate: str) -> Array:
        """Sums, minima or maxima of votes by target: (N, count) float64 from (N, C); 0 where none votes."""
        out = np.zeros((len(x), count))
        for rows, leaves in self._leaves(x):
            self._vote(leaves, out[rows], aggregate)
        return out / len(self.roots) if aggregate == "AVERAGE" else out

    def _leaves(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """Blocks of samples with the leaf that each reaches in each tree, (n, T)."""
        step = max(1, _BLOCK // max(1, len(self.roots)))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            yield rows, self._walk(x[rows])

    def _walk(self, x: Array) -> Array:
        nodes = np.broadcast_to(self.roots, (len(x), len(self.roots)))
        modes = np.setdiff1d(self.modes, [LEAF]).tolist()
        sample = (np.arange(len(x)) * x.shape[1])[:, None]
        flat, children, missing = x.ravel(), self.children.ravel(), bool(np.isnan(x).any())
        for _ in range(self.depth):
            read = flat.take(sample + self.features.take(nodes))
            holds = self._holds(nodes, read, modes)
            if missing:
                holds = np.where(np.isnan(read), self.nan_yes[nodes], holds)
            nodes = children.take(2 * nodes + holds)
        return nodes

    def _holds(self, nodes: Array, x: Array, modes: list[int]) -> Array:
        """Whether the comparisons of inner nodes, of these modes, hold."""
        if len(modes) == 1:
            return self._compare(modes[0], nodes, x)
        own = self.modes.take(nodes)
        holds = np.zeros(nodes.shape, bool)
        for mode in modes:
            holds |= (own == mode) & self._compare(mode, nodes, x)
        return holds

    def _compare(self, mode: int, nodes: Array, x: Array) -> Array:
        if mode == MEMBER:
            assert self.members is not None
            return self.members.contain(nodes, x)
        return _COMPARE[mode](x, self.thresholds.take(nodes))

    def _vote(self, leaves: Array, out: Array, aggregate: str) -> None:
        """Write the votes of leaves (n, T) to `out` (n, targets)."""
        first = self.starts[leaves].ravel()
        counts = self.starts[leaves + 1].ravel() - first
        votes = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        rows = np.repeat(np.repeat(np.arange(len(leaves)), leaves.shape[1]), counts)
        cells, weights = rows * out.shape[1] + self.targets[votes], self.weights[votes]
        if aggregate in ("SUM", "AVERAGE"):
            out[...] = np.bincount(cells, weights, out.size).reshape(out.shape)
            return
        least = aggregate == "MIN"
        best = np.full(out.size, np.inf if least else -np.inf)
        (np.minimum if least else np.maximum).at(best, cells, weights)
        voted = np.bincount(cells, minlength=out.size) > 0
        out[...] = np.where(voted, best, 0).reshape(out.shape)


def depth_of(modes: Array, children: Array) -> int:
    """Levels below the highest node; a ValueError where nodes form a cycle."""
    front, depth = np.arange(len(modes)), 0
    while True:
        inner = front[modes[front] != LEAF]
        if not len(inner):
            return depth
        if depth > len(modes):
            raise ValueError("expected trees, got nodes that form a cycle")
        front, depth = np.unique(children[inner]), depth + 1


def sort_votes(leaves: Array, nodes: int) -> tuple[Array, Array]:
    """The order that sorts votes by leaf, and where those of each node begin, (nodes + 1,)."""
    order = np.argsort(leaves, kind="stable")
    return order, np.searchsorted(leaves[order], np.arange(nodes + 1))
