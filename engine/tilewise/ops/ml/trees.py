"""Tree ensembles of ai.onnx.ml."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Array, Inputs
from tilewise.ops.ml.common import FLOAT, TRANSFORMS, Classifier, MlOp, matrix, transform
from tilewise.ops.ml.forest import LEAF, MEMBER, Forest, Members, depth_of, sort_votes

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_MODES = (
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
    "LEAF",
)
_NODES = frozenset(
    {
        "base_values",
        "base_values_as_tensor",
        "nodes_falsenodeids",
        "nodes_featureids",
        "nodes_hitrates",
        "nodes_hitrates_as_tensor",
        "nodes_missing_value_tracks_true",
        "nodes_modes",
        "nodes_nodeids",
        "nodes_treeids",
        "nodes_truenodeids",
        "nodes_values",
        "nodes_values_as_tensor",
        "post_transform",
    }
)


class Trees(MlOp):
    """Base: a forest made once for the operator, of attributes that `_build` reads."""

    def _build(self) -> Forest:
        """The forest; a ValueError says what of the attributes does not fit."""
        raise NotImplementedError(type(self).__name__)

    @cached_property
    def forest(self) -> Forest:
        return self._build()

    def wrong_forest(self) -> str | None:
        try:
            forest, targets = self.forest, self.targets()
        except ValueError as error:
            return str(error)
        if len(forest.targets) and not 0 <= forest.targets.min() <= forest.targets.max() < targets:
            return f"expected votes for targets in [0, {targets}), got {forest.targets.max()}"
        return None

    def targets(self) -> int:
        raise NotImplementedError(type(self).__name__)

    def rows(self, x: Fact | None):
        """N, of an input with as many features as the forest reads."""
        n, columns = self.features(x)
        if isinstance(columns, int) and columns < self.forest.features_read:
            raise self.fail(f"expected {self.forest.features_read} features or more, got {x}")
        return n

    def ints(self, name: str, size: int | None = None) -> Array:
        """An attribute of integers, `size` of them."""
        return _sized(name, np.array(self.attr(name) or (), np.int64), size)

    def floats(self, name: str, size: int | None = None) -> Array:
        """An attribute of floats, or float64 from its form as a tensor (version 3)."""
        tensor = self.attr(f"{name}_as_tensor")
        values = np.array(self.attr(name) or (), np.float32) if tensor is None else np.asarray(tensor).ravel()
        return _sized(name, values, size)

    def flags(self, size: int) -> Array:
        name = "nodes_missing_value_tracks_true"
        return self.ints(name, size) > 0 if self.attr(name) else np.zeros(size, bool)


class NodeTrees(Trees):
    """Trees whose nodes and leaves are listed together, named by tree and node (versions 1, 3 and 5).

    votes: the prefix of the attributes that hold the leaves' votes.
    """

    runs_deprecated = True
    votes: ClassVar[str]

    def _build(self) -> Forest:
        modes = self._modes()
        size = len(modes)
        if not size:
            raise ValueError("expected at least one node, got none")
        trees, ids = self.ints("nodes_treeids", size), self.ints("nodes_nodeids", size)
        names = Names(trees, ids)
        inner, own = modes != LEAF, np.arange(size)
        sides = [
            np.where(inner, names.find(trees, np.where(inner, self.ints(name, size), ids), name), own)
            for name in ("nodes_falsenodeids", "nodes_truenodeids")
        ]
        children = np.stack(sides, axis=1)
        features = np.where(inner, self.ints("nodes_featureids", size), 0)
        if features.min() < 0:
            raise ValueError(f"attribute 'nodes_featureids': expected indices, got {features.min()}")
        roots = _roots(trees, children[inner])
        leaves = names.find(
            self.ints(f"{self.votes}_treeids"), self.ints(f"{self.votes}_nodeids"), f"{self.votes}_nodeids"
        )
        order, starts = sort_votes(leaves, size)
        return Forest(
            roots,
            features,
            modes,
            self.floats("nodes_values", size),
            children,
            self.flags(size),
            starts,
            self.ints(f"{self.votes}_ids", len(leaves))[order],
            self.floats(f"{self.votes}_weights", len(leaves))[order].astype(np.float64),
            depth_of(modes, children),
        )

    def _modes(self) -> Array:
        names = self.attr("nodes_modes") or ()
        unknown = [name for name in names if name not in _MODES or name == "BRANCH_MEMBER"]
        if unknown:
            raise ValueError(f"attribute 'nodes_modes': {unknown[0]!r} is not known")
        return np.array([_MODES.index(name) for name in names], np.int64)

    def base(self) -> Array:
        return self.floats("base_values").astype(np.float64)


class TreeEnsembleRegressor(NodeTrees):
    """Votes of the leaves reached, added up, float32 (N, n_targets) (TreeEnsembleRegressor, versions 1, 3, 5)."""

    attributes = _NODES | {
        "aggregate_function",
        "n_targets",
        "target_ids",
        "target_nodeids",
        "target_treeids",
        "target_weights",
        "target_weights_as_tensor",
    }
    votes = "target"

    def targets(self) -> int:
        return self.attr("n_targets", 1)

    def unsupported(self) -> str | None:
        wrong = self.choice("aggregate_function", "SUM", _AGGREGATES)
        wrong = wrong or self.choice("post_transform", "NONE", TRANSFORMS) or self.wrong_forest()
        if wrong is None and len(self.base()) not in (0, self.targets()):
            return f"attribute 'base_values': expected {self.targets()}, got {len(self.base())}"
        return wrong

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(FLOAT, (self.rows(ins[0]), self.targets()))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        scores = self.forest.scores(matrix(x), self.targets(), self.attr("aggregate_function", "SUM"))
        if len(self.base()):
            scores = scores + self.base()
        return [transform(scores, self.attr("post_transform", "NONE"))]


class TreeEnsembleClassifier(NodeTrees, Classifier):
    """The label of the highest score, and float32 scores (N, E) (TreeEnsembleClassifier, versions 1, 3, 5).

    Labels go by scores before `post_transform`. Where all votes of two classes are for one, its score s decides
    alone: above 1/2 where weights are probabilities (none negative, no transform), else above 0. Votes for the
    first class then count, by custom, for the second: the scores are (1 - s, s) or (-s, s).
    """

    attributes = _NODES | {
        "class_ids",
        "class_nodeids",
        "class_treeids",
        "class_weights",
        "class_weights_as_tensor",
        "classlabels_int64s",
        "classlabels_strings",
    }
    votes = "class"
    label_ints = "classlabels_int64s"

    def targets(self) -> int:
        return len(self.labels)

    def unsupported(self) -> str | None:
        wrong = self.wrong_labels() or self.choice("post_transform", "NONE", TRANSFORMS)
        wrong = wrong or self.wrong_forest()
        if wrong is not None:
            return wrong
        sizes = (0, self.targets()) if self._voted() is None else (0, 1, 2)
        if len(self.base()) in sizes:
            return None
        return f"attribute 'base_values': expected {self.targets()}, got {len(self.base())}"

    def _voted(self) -> int | None:
        """The one of two classes that all votes are for, or None."""
        voted = np.unique(self.forest.targets)
        return int(voted[0]) if self.targets() == 2 and len(voted) == 1 else None

    def infer(self, ins: Inputs) -> list[Fact]:
        return self.answer(self.rows(ins[0]), self.targets())

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        scores, voted = self.forest.scores(matrix(x), self.targets(), "SUM"), self._voted()
        if voted is not None:
            return self._binary(scores, voted)
        if len(self.base()):
            scores = scores + self.base()
        return self._answer(scores.argmax(axis=1), scores)

    def _binary(self, scores: Array, voted: int) -> list[Array]:
        base = self.base()
        s = scores[:, voted] + (base[voted] if len(base) == 2 else base[0] if len(base) else 0)
        name = self.attr("post_transform", "NONE")
        probable = name in ("NONE", "PROBIT") and bool((self.forest.weights >= 0).all())
        other = np.zeros_like(s) if voted else 1 - s if probable else -s
        return self._answer((s > (0.5 if probable else 0)).astype(np.int64), np.stack([other, s], axis=1))

    def _answer(self, classes: Array, scores: Array) -> list[Array]:
        return [self.labels[classes], transform(scores, self.attr("post_transform", "NONE"))]


class TreeEnsemble(Trees):
    """Votes of the leaves reached, added up, (N, n_targets) in the input's type (TreeEnsemble, version 5)."""

    attributes = frozenset(
        {
            "aggregate_function",
            "leaf_targetids",
            "leaf_weights",
            "membership_values",
            "n_targets",
            "nodes_falseleafs",
            "nodes_falsenodeids",
            "nodes_featureids",
            "nodes_hitrates",
            "nodes_missing_value_tracks_true",
            "nodes_modes",
            "nodes_splits",
            "nodes_trueleafs",
            "nodes_truenodeids",
            "post_transform",
            "tree_roots",
        }
    )

    def targets(self) -> int:
        targets = self.attr("n_targets")
        return int(self.ints("leaf_targetids").max(initial=0)) + 1 if targets is None else targets

    def unsupported(self) -> str | None:
        for name, default, options in (
            ("aggregate_function", 1, _AGGREGATES),
            ("post_transform", 0, TRANSFORMS),
        ):
            if not 0 <= self.attr(name, default) < len(options):
                return f"attribute {name!r} = {self.attr(name)}, expected 0 to {len(options) - 1}"
        return self.wrong_forest()

    def _build(self) -> Forest:
        modes = np.asarray(self.attr("nodes_modes")).astype(np.int64)
        inner, targets = len(modes), self.ints("leaf_targetids")
        size = inner + len(targets)
        if inner and not LEAF > modes.max() >= modes.min() >= 0:
            raise ValueError(f"attribute 'nodes_modes': expected 0 to 6, got {modes.max()}")
        children = np.stack([self._children(side, inner, size) for side in ("false", "true")], axis=1)
        features, roots = self.ints("nodes_featureids", inner), self.ints("tree_roots")
        for name, values, bound in (("nodes_featureids", features, None), ("tree_roots", roots, inner)):
            _check_range(name, values, bound)
        splits = np.asarray(self.attr("nodes_splits")).ravel()
        weights = _sized("leaf_weights", np.asarray(self.attr("leaf_weights")).ravel(), len(targets))
        leaves = np.zeros(len(targets), np.int64)
        modes = np.concatenate([modes, leaves + LEAF])
        return Forest(
            roots,
            np.concatenate([features, leaves]),
            modes,
            np.concatenate([_sized("nodes_splits", splits, inner), leaves.astype(splits.dtype)]),
            children,
            np.concatenate([self.flags(inner), leaves > 0]),
            np.concatenate([np.zeros(inner, np.int64), np.arange(len(targets) + 1)]),
            targets,
            weights.astype(np.float64),
            depth_of(modes, children),
            self._members(modes),
        )

    def _children(self, side: str, inner: int, size: int) -> Array:
        """Children of all nodes, leaves numbered after the others."""
        ids, leaf = self.ints(f"nodes_{side}nodeids", inner), self.ints(f"nodes_{side}leafs", inner) > 0
        for values, bound in ((ids[leaf], size - inner), (ids[~leaf], inner)):
            _check_range(f"nodes_{side}nodeids", values, bound)
        return np.concatenate([np.where(leaf, ids + inner, ids), np.arange(inner, size)])

    def _members(self, modes: Array) -> Members | None:
        count = int((modes == MEMBER).sum())
        if not count:
            return None
        given = self.attr("membership_values")
        if given is None:
            raise ValueError(f"attribute 'membership_values': expected {count} sets, got none")
        values = np.asarray(given, np.float64).ravel()
        sets = [s[~np.isnan(s)] for s in np.split(values, np.nonzero(np.isnan(values))[0])]
        if len(sets) == count + 1 and not len(sets[-1]):
            sets.pop()
        if len(sets) != count:
            raise ValueError(f"attribute 'membership_values': expected {count} sets, got {len(sets)}")
        return Members.of(modes, sets)

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact((ins[0] or UNKNOWN).dtype, (self.rows(ins[0]), self.targets()))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        aggregate = _AGGREGATES[self.attr("aggregate_function", 1)]
        scores = self.forest.scores(matrix(x), self.targets(), aggregate)
        return [transform(scores, TRANSFORMS[self.attr("post_transform", 0)], x.dtype)]


class Names:
    """Nodes by the numbers of their tree and of themselves in it."""

    def __init__(self, trees: Array, ids: Array) -> None:
        self._trees, self._radix = np.unique(trees), int(ids.max()) + 1
        keys = self._keys(trees, ids)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        twice = np.nonzero(self._sorted[1:] == self._sorted[:-1])[0]
        if ids.min() < 0 or len(twice):
            at = self._order[twice[0]] if len(twice) else ids.argmin()
            raise ValueError(f"expected each node of a tree once, got tree {trees[at]}, node {ids[at]}")

    def find(self, trees: Array, ids: Array, what: str) -> Array:
        """Positions of nodes; a ValueError for one that is not there."""
        _sized(what, ids, len(trees))
        keys = self._keys(trees, ids)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        wrong = np.nonzero(self._sorted[at] != keys)[0]
        if len(wrong):
            i = wrong[0]
            raise ValueError(f"attribute {what!r}: tree {trees[i]} has no node {ids[i]}")
        return self._order[at]

    def _keys(self, trees: Array, ids: Array) -> Array:
        at = np.minimum(np.searchsorted(self._trees, trees), len(self._trees) - 1)
        known = (self._trees[at] == trees) & (ids >= 0) & (ids < self._radix)
        return np.where(known, at * self._radix + ids, -1)


def _roots(trees: Array, children: Array) -> Array:
    """For each tree the first node that is nobody's child."""
    orphan = np.ones(len(trees), bool)
    orphan[children] = False
    found, first = np.unique(trees[orphan], return_index=True)
    lost = np.setdiff1d(trees, found)
    if len(lost):
        raise ValueError(f"expected trees, got nodes of tree {lost[0]} that form a cycle")
    return np.nonzero(orphan)[0][first]


def _sized(name: str, values: Array, size: int | None) -> Array:
    if size is not None and len(values) != size:
        raise ValueError(f"attribute {name!r}: expected {size}, got {len(values)}")
    return values


def _check_range(name: str, values: Array, bound: int | None) -> None:
    if len(values) and (values.min() < 0 or (bound is not None and values.max() >= bound)):
        wrong = values.min() if values.min() < 0 else values.max()
        raise ValueError(f"attribute {name!r}: {wrong} is outside [0, {'...' if bound is None else bound})")
