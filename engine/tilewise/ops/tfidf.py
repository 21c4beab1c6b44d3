"""Counts of n-grams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Array, Inputs, Op

_MODES = ("TF", "IDF", "TFIDF")


@dataclass(frozen=True, slots=True)
class Level:
    """The tree of all n-grams at one depth: `edges` are parent * radix + item, sorted; a node is its position.

    columns: the output column of the n-gram that ends in each node, -1 where none does.
    """

    edges: Array
    columns: Array


class TfIdfVectorizer(Op):
    """How often each n-gram of a pool occurs in (C,) or in the rows of (N, C) (ONNX TfIdfVectorizer, opset 9).

    Items of one occurrence are 1 to max_skip_count + 1 places apart, all alike. A weight belongs to an output
    column, as in onnx.reference and ONNX Runtime; ONNX's text gives it to the n-gram of that position in
    the pool, which is the same where `ngram_indexes` counts up from 0. Output: float32, (columns,) or (N, columns).
    """

    attributes = frozenset(
        {
            "max_gram_length",
            "max_skip_count",
            "min_gram_length",
            "mode",
            "ngram_counts",
            "ngram_indexes",
            "pool_int64s",
            "pool_strings",
            "weights",
        }
    )

    def unsupported(self) -> str | None:
        mode = self.attr("mode", "TF")
        if mode not in _MODES:
            return f"attribute 'mode' = {mode!r}, expected one of {', '.join(_MODES)}"
        if bool(self.attr("pool_int64s")) == bool(self.attr("pool_strings")):
            return "expected one of the attributes 'pool_int64s' and 'pool_strings'"
        low, high, skip = (
            self.attr(name) for name in ("min_gram_length", "max_gram_length", "max_skip_count")
        )
        if not 1 <= low <= high:
            return f"expected 1 <= min_gram_length <= max_gram_length, got {low} and {high}"
        if skip < 0:
            return f"attribute 'max_skip_count' = {skip}, expected 0 or more"
        return self._wrong_tables()

    def _wrong_tables(self) -> str | None:
        starts, indexes = self.attr("ngram_counts"), self.attr("ngram_indexes")
        size = len(self._pool())
        if not starts or sorted(starts) != starts or starts[0] < 0 or starts[-1] > size:
            return f"attribute 'ngram_counts' = {starts}, expected ascending positions in a pool of {size}"
        sizes = np.diff([*starts, size])
        if any(length % n for n, length in enumerate(sizes.tolist(), 1)):
            return f"attribute 'ngram_counts' = {starts} does not divide a pool of {size} into n-grams"
        count = sum(length // n for n, length in enumerate(sizes.tolist(), 1))
        if not indexes or min(indexes) < 0 or len(indexes) < count:
            return f"attribute 'ngram_indexes': expected {count} columns, got {indexes}"
        weights = self.attr("weights") or ()
        if weights and len(weights) <= max(indexes):
            return f"attribute 'weights': expected {max(indexes) + 1}, got {len(weights)}"
        return None

    def _pool(self) -> list:
        return self.attr("pool_int64s") or self.attr("pool_strings")

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        wants_text = bool(self.attr("pool_strings"))
        if x.dtype is not None and x.dtype.hasobject is not wants_text:
            raise self.fail(f"expected {'strings' if wants_text else 'integers'} as in the pool, got {x}")
        if x.shape is None:
            return [Fact(np.dtype(np.float32))]
        if len(x.shape) > 2:
            raise self.fail(f"expected an input of shape (C,) or (N, C), got {x}")
        return [Fact(np.dtype(np.float32), (*x.shape[:-1], max(self.attr("ngram_indexes")) + 1))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        rows = x if x.ndim == 2 else x.reshape(1, -1)
        tokens = np.array([self._numbers.get(item, -1) for item in rows.ravel().tolist()], np.int64)
        tokens = tokens.reshape(rows.shape)
        width = max(self.attr("ngram_indexes")) + 1
        counts = np.zeros(len(rows) * width, np.int64)
        for distance in range(1, min(self.attr("max_skip_count") + 1, max(rows.shape[1], 1)) + 1):
            for n, columns in enumerate(_walk(tokens, self._levels, len(self._numbers), distance), 1):
                # A single item is nowhere skipped, and counted once.
                if n >= self.attr("min_gram_length") and (n > 1 or distance == 1):
                    row, place = np.nonzero(columns >= 0)
                    np.add.at(counts, row * width + columns[row, place], 1)
        return [self._weighted(counts.reshape(len(rows), width)).reshape(*x.shape[:-1], width)]

    @cached_property
    def _numbers(self) -> dict:
        """The items of the pool, numbered."""
        return {item: i for i, item in enumerate(dict.fromkeys(self._pool()))}

    def _grams(self) -> list[tuple[Array, Array]]:
        """The n-grams used, (count, n), and their columns, by n from 1 on."""
        pool = np.array([self._numbers[item] for item in self._pool()], np.int64)
        starts = [*self.attr("ngram_counts"), len(pool)]
        indexes = np.array(self.attr("ngram_indexes"), np.int64)
        grams, first = [], 0
        for n in range(1, min(self.attr("max_gram_length") + 1, len(starts))):
            table = pool[starts[n - 1] : starts[n]].reshape(-1, n)
            used = len(table) if n >= self.attr("min_gram_length") else 0
            grams.append((table[:used], indexes[first : first + used]))
            first += len(table)
        return grams

    @cached_property
    def _levels(self) -> list[Level]:
        grams, radix = self._grams(), len(self._numbers)
        parents = [np.zeros(len(table), np.int64) for table, _ in grams]
        levels = []
        for depth in range(len(grams)):
            keys = [parents[i] * radix + grams[i][0][:, depth] for i in range(depth, len(grams))]
            edges = np.unique(np.concatenate(keys))
            for i, key in enumerate(keys, depth):
                parents[i] = np.searchsorted(edges, key)
            columns = np.full(len(edges), -1, np.int64)
            columns[parents[depth]] = grams[depth][1]
            levels.append(Level(edges, columns))
        return levels

    def _weighted(self, counts: Array) -> Array:
        mode, weights = self.attr("mode", "TF"), self.attr("weights")
        if mode == "IDF":
            counts = np.minimum(counts, 1)
        y = counts.astype(np.float32)
        return y * np.array(weights[: y.shape[1]], np.float32) if weights and mode != "TF" else y


def _walk(tokens: Array, levels: list[Level], radix: int, distance: int) -> Iterator[Array]:
    """For n = 1, 2, ...: the column of the n-gram from each place of each row of `tokens`, -1 for none.

    Items of an n-gram are `distance` apart; it ends where a row does.
    """
    nodes = np.zeros_like(tokens)
    for n, level in enumerate(levels):
        places = tokens.shape[1] - n * distance
        if places <= 0 or not len(level.edges):
            return
        parents, items = nodes[:, :places], tokens[:, n * distance :]
        keys = np.where((parents < 0) | (items < 0), -1, parents * radix + items)
        nodes = np.minimum(np.searchsorted(level.edges, keys), len(level.edges) - 1)
        nodes = np.where(level.edges[nodes] == keys, nodes, -1)
        yield np.where(nodes < 0, -1, level.columns[nodes])
