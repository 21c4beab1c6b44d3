"""Support vector machines of ai.onnx.ml."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Array, Inputs
from tilewise.ops.ml.common import FLOAT, TRANSFORMS, Classifier, MlOp, transform

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


class Svm(MlOp):
    """Base: kernels between inputs and support vectors, float64. Without vectors, the kernel is linear."""

    def supports(self) -> int:
        """The number of support vectors."""
        raise NotImplementedError(type(self).__name__)

    def wrong_vectors(self) -> str | None:
        params = self.attr("kernel_params") or ()
        if len(params) not in (0, 3):
            return f"attribute 'kernel_params': expected gamma, coef0 and degree, got {params}"
        size, count = len(self.attr("support_vectors") or ()), self.supports()
        if count and (not size or size % count):
            return f"attribute 'support_vectors': expected {count} vectors of one length, got {size} values"
        wrong = self.choice("kernel_type", "LINEAR", _KERNELS)
        return wrong or self.choice("post_transform", "NONE", TRANSFORMS)

    def array(self, name: str) -> Array:
        return np.array(self.attr(name) or (), np.float64)

    def vectors(self) -> Array:
        return self.array("support_vectors").reshape(self.supports(), -1)

    def kernels(self, x: Array) -> Array:
        """(N, vectors) from (N, C)."""
        name, vectors = self.attr("kernel_type", "LINEAR"), self.vectors()
        gamma, coef0, degree = self.attr("kernel_params") or (0.0, 0.0, 0.0)
        products = x @ vectors.T
        if name == "LINEAR":
            return products
        if name == "RBF":
            squares = (x * x).sum(axis=1)[:, None] + (vectors * vectors).sum(axis=1)
            return np.exp(-gamma * np.maximum(squares - 2 * products, 0))
        scaled = gamma * products + coef0
        return np.power(scaled, degree) if name == "POLY" else np.tanh(scaled)


def _wide(x: Array) -> Array:
    return (x if x.ndim == 2 else x.reshape(1, -1)).astype(np.float64)


class SVMRegressor(Svm):
    """float32 (N, 1); 1 or -1 by its sign for an inlier or outlier with `one_class` (SVMRegressor, version 1)."""

    attributes = frozenset(
        {
            "coefficients",
            "kernel_params",
            "kernel_type",
            "n_supports",
            "one_class",
            "post_transform",
            "rho",
            "support_vectors",
        }
    )

    def supports(self) -> int:
        return self.attr("n_supports", 0)

    def unsupported(self) -> str | None:
        count, given = self.supports(), len(self.attr("coefficients") or ())
        if not given or (count and given != count):
            return f"attribute 'coefficients': expected {count or 'some'}, got {given}"
        if len(self.attr("rho") or ()) > 1:
            return f"attribute 'rho': expected 1, got {len(self.attr('rho'))}"
        return self.wrong_vectors()

    def infer(self, ins: Inputs) -> list[Fact]:
        count = self.vectors().shape[1] if self.supports() else len(self.attr("coefficients"))
        return [Fact(FLOAT, (self.features(ins[0], count)[0], 1))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        x = _wide(x)
        scores = (self.kernels(x) if self.supports() else x) @ self.array("coefficients")[:, None]
        scores = scores + self.array("rho").sum()
        if self.attr("one_class", 0):
            scores = np.where(scores > 0, 1.0, -1.0)
        return [transform(scores, self.attr("post_transform", "NONE"))]


class SVMClassifier(Svm, Classifier):
    """The label with the most votes of pairs, and float32 scores (SVMClassifier, version 1; libsvm).

    Scores are probabilities (N, E) where `prob_a` is given; else one for each pair of classes, for two classes
    the pair's score s as (-s, s). Without support vectors: a linear score for each class, the highest decides.
    """

    attributes = frozenset(
        {
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "kernel_params",
            "kernel_type",
            "post_transform",
            "prob_a",
            "prob_b",
            "rho",
            "support_vectors",
            "vectors_per_class",
        }
    )
    label_ints = "classlabels_ints"

    def supports(self) -> int:
        return sum(self.attr("vectors_per_class") or ())

    def unsupported(self) -> str | None:
        return self.wrong_labels() or self._wrong_sizes() or self.wrong_vectors()

    def _wrong_sizes(self) -> str | None:
        classes, size = len(self.labels), len(self.attr("coefficients") or ())
        if not self.supports():
            if not size or size % classes:
                return f"attribute 'coefficients': expected as many for each of {classes} classes, got {size}"
            return None if self.attr("rho") else "attribute 'rho': expected 1 or more, got 0"
        pairs, probable = classes * (classes - 1) // 2, bool(self.attr("prob_a"))
        wanted = {
            "vectors_per_class": classes,
            "rho": pairs,
            "coefficients": self.supports() * (classes - 1),
            **{name: pairs for name in ("prob_a", "prob_b") if probable},
        }
        for name, count in wanted.items():
            if len(self.attr(name) or ()) != count:
                return f"attribute {name!r}: expected {count}, got {len(self.attr(name) or ())}"
        return None if classes > 1 else "expected two classes or more, got 1"

    def infer(self, ins: Inputs) -> list[Fact]:
        classes = len(self.labels)
        if not self.supports():
            rows, _ = self.features(ins[0], len(self.attr("coefficients")) // classes)
            return self.answer(rows, classes)
        rows, _ = self.features(ins[0], self.vectors().shape[1])
        pairs = classes * (classes - 1) // 2
        return self.answer(rows, classes if self.attr("prob_a") or classes == 2 else pairs)

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        x = _wide(x)
        if not self.supports():
            weights = self.array("coefficients").reshape(len(self.labels), -1)
            scores = x @ weights.T + self.array("rho")[0]
            chosen = scores.argmax(axis=1)
        else:
            pairs, chosen = self._pairs(self.kernels(x))
            if self.attr("prob_a"):
                scores = self._probabilities(pairs)
            else:
                scores = np.concatenate([-pairs, pairs], axis=1) if pairs.shape[1] == 1 else pairs
        return [self.labels[chosen], transform(scores, self.attr("post_transform", "NONE"))]

    def _pairs(self, kernels: Array) -> tuple[Array, Array]:
        """Scores of each pair of classes (N, pairs), and the class that wins most, the first of equals."""
        classes, coefficients = len(self.labels), self.array("coefficients").reshape(-1, kernels.shape[1])
        ends = np.cumsum(self.attr("vectors_per_class"))
        parts = [slice(end - n, end) for end, n in zip(ends, self.attr("vectors_per_class"), strict=True)]
        votes = np.zeros((len(kernels), classes), np.int64)
        scores = np.empty((len(kernels), len(self.attr("rho"))))
        for pair, (i, j) in enumerate(combinations(range(classes), 2)):
            scores[:, pair] = (
                kernels[:, parts[i]] @ coefficients[j - 1, parts[i]]
                + kernels[:, parts[j]] @ coefficients[i, parts[j]]
                + self.attr("rho")[pair]
            )
            first = scores[:, pair] > 0
            votes[:, i] += first
            votes[:, j] += ~first
        return scores, votes.argmax(axis=1)

    def _probabilities(self, pairs: Array) -> Array:
        """Of each class, from those of each pair (N, classes)."""
        classes = len(self.labels)
        first = 1 / (1 + np.exp(pairs * self.array("prob_a") + self.array("prob_b")))
        first = np.clip(first, 1e-7, 1 - 1e-7)
        table = np.zeros((len(pairs), classes, classes))
        for pair, (i, j) in enumerate(combinations(range(classes), 2)):
            table[:, i, j], table[:, j, i] = first[:, pair], 1 - first[:, pair]
        return couple(table)


def couple(r: Array) -> Array:
    """Class probabilities (N, k) from those of pairs (N, k, k), zero on the diagonal.

    The second method of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
    coupling" (JMLR 2004), with libsvm's tolerance.
    """
    n, k, _ = r.shape
    q = -r.transpose(0, 2, 1) * r
    q[:, range(k), range(k)] = (r * r).sum(axis=1)
    p = np.full((n, k), 1 / k)
    open_rows = np.arange(n)
    for _ in range(max(100, k)):
        qo, po = q[open_rows], p[open_rows]
        qp = (qo @ po[..., None])[..., 0]
        pqp = (po * qp).sum(axis=1)
        left = np.abs(qp - pqp[:, None]).max(axis=1, initial=0) >= 0.005 / k
        open_rows, qo, po, qp, pqp = open_rows[left], qo[left], po[left], qp[left], pqp[left]
        if not len(open_rows):
            break
        for t in range(k):
            diff = (pqp - qp[:, t]) / qo[:, t, t]
            po[:, t] += diff
            pqp = (pqp + diff * (diff * qo[:, t, t] + 2 * qp[:, t])) / (1 + diff) ** 2
            qp = (qp + diff[:, None] * qo[:, t]) / (1 + diff[:, None])
            po /= 1 + diff[:, None]
        p[open_rows] = po
    return p
