"""What operators of ai.onnx.ml share: rows of features, class labels, transforms of scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from tilewise import dtypes
from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim
from tilewise.ops.base import Array, Op

FLOAT, INT64 = np.dtype(np.float32), np.dtype(np.int64)


class MlOp(Op):
    """Base of the domain's operators."""

    domain = "ai.onnx.ml"

    def choice(self, name: str, default: str, options: tuple[str, ...]) -> str | None:
        """What is wrong with an attribute that must be one of `options`, in words."""
        value = self.attr(name, default)
        if value in options:
            return None
        return f"attribute {name!r} = {value!r}, expected one of {', '.join(options)}"

    def one_of(self, *names: str) -> str | None:
        """What is wrong where not exactly one of these attributes is set, in words."""
        given = [name for name in names if self._is_set(name)]
        if len(given) == 1:
            return None
        return f"expected one of the attributes {', '.join(names)}, got {' and '.join(given) or 'none'}"

    def _is_set(self, name: str) -> bool:
        value = self.attr(name)
        return value is not None and len(value) > 0

    def features(self, x: Fact | None, count: int | None = None) -> tuple[Dim, Dim]:
        """N and C of an input (N, C), or (C,) for one row; an error where it has not `count` features."""
        x = x or UNKNOWN
        if x.shape is None:
            return None, None
        if len(x.shape) not in (1, 2):
            raise self.fail(f"expected an input of shape (N, C) or (C,), got {x}")
        rows, found = (1, *x.shape)[-2:]
        if count is not None and isinstance(found, int) and found != count:
            raise self.fail(f"expected {count} features, got {x}")
        return rows, found


class Classifier(MlOp):
    """Base of operators that answer with the label of a class and float32 scores (N, E).

    label_ints: the attribute that holds integer labels; others are in `classlabels_strings`.
    """

    label_ints: ClassVar[str]

    def wrong_labels(self) -> str | None:
        return self.one_of(self.label_ints, "classlabels_strings")

    @property
    def labels(self) -> Array:
        """(E,), int64 or strings."""
        ints = self.attr(self.label_ints)
        return np.array(ints, np.int64) if ints else strings(self.attr("classlabels_strings"))

    def answer(self, rows: Dim, columns: Dim) -> list[Fact]:
        return [Fact(self.labels.dtype, (rows,)), Fact(FLOAT, (rows, columns))]


def strings(items: list[str]) -> Array:
    out = np.empty(len(items), dtypes.STRING)
    out[:] = items
    return out


def matrix(x: Array) -> Array:
    """(N, C) in the precision to compute in: float64 for float64 and integers, else float32."""
    wide = np.float64 if x.dtype.kind in "iu" or x.dtype == np.float64 else np.float32
    return (x if x.ndim == 2 else x.reshape(1, -1)).astype(wide, copy=False)


def _softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_zero(scores: Array) -> Array:
    """Softmax that leaves scores of zero at about zero."""
    top = scores.max(axis=-1, keepdims=True)
    e = np.where(np.abs(scores) > 1e-7, np.exp(scores - top), scores * np.exp(-top))
    total = e.sum(axis=-1, keepdims=True)
    return np.where(total == 0, 0.5, e / np.where(total == 0, 1, total))


def _logistic(scores: Array) -> Array:
    e = np.exp(-np.abs(scores))
    return np.where(scores < 0, e, 1) / (1 + e)


def _probit(scores: Array) -> Array:
    """The quantile of the normal distribution, by Winitzki's approximation of the inverse error function."""
    x = 2 * scores - 1
    log = np.log((1 - x) * (1 + x))
    half = 2 / (np.pi * 0.147) + log / 2
    root = np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    return np.where(log == -np.inf, np.inf, root) * np.sign(x) * np.sqrt(2)


_TRANSFORMS: dict[str, Callable[[Array], Array]] = {
    "NONE": lambda scores: scores,
    "SOFTMAX": _softmax,
    "LOGISTIC": _logistic,
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}
TRANSFORMS = tuple(_TRANSFORMS)
"""Names in the order in which TreeEnsemble numbers them."""


def transform(scores: Array, name: str, dtype: np.dtype = FLOAT) -> Array:
    """Scores (N, E) after `post_transform`, along E where it joins the scores of a row."""
    return _TRANSFORMS[name](scores).astype(dtype) if scores.size else scores.astype(dtype)


def positions(x: Array, keys: Array) -> Array:
    """For each item of `x` its last position in `keys` (K,), -1 where it has none; NaN finds NaN."""
    if keys.dtype.hasobject:
        table = {key: i for i, key in enumerate(keys.tolist())}
        found = [table.get(item, -1) for item in x.ravel().tolist()]
        return np.array(found, np.int64).reshape(x.shape)
    if not len(keys):
        return np.full(x.shape, -1, np.int64)
    order = np.argsort(keys, kind="stable")
    last = np.searchsorted(keys[order], x, side="right") - 1
    nearest = keys[order][last]
    same = (nearest == x) | ((nearest != nearest) & (x != x))
    return np.where((last >= 0) & same, order[last], -1)
