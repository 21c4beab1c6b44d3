"""Linear models of ai.onnx.ml."""

from __future__ import annotations

import numpy as np

from tilewise.graph import Fact
from tilewise.ops.base import Array, Inputs
from tilewise.ops.ml.common import FLOAT, TRANSFORMS, Classifier, MlOp, matrix, transform


class Linear(MlOp):
    """x @ coefficients.T + intercepts, float: one row of coefficients for each of `rows` scores."""

    def _rows(self) -> int:
        raise NotImplementedError(type(self).__name__)

    def _wrong_coefficients(self) -> str | None:
        size, rows = len(self.attr("coefficients") or ()), self._rows()
        if rows < 1 or not size or size % rows:
            return f"attribute 'coefficients': expected as many for each of {rows} scores, got {size}"
        intercepts = self.attr("intercepts") or ()
        if intercepts and len(intercepts) != rows:
            return f"attribute 'intercepts': expected {rows}, got {len(intercepts)}"
        return self.choice("post_transform", "NONE", TRANSFORMS)

    def _features(self) -> int:
        return len(self.attr("coefficients")) // self._rows()

    def _scores(self, x: Array) -> Array:
        self.infer([Fact.of(x)])
        x = matrix(x)
        coefficients = np.array(self.attr("coefficients"), x.dtype).reshape(self._rows(), -1)
        return x @ coefficients.T + np.array(self.attr("intercepts") or [0], x.dtype)


class LinearRegressor(Linear):
    """float32 (N, targets) from (N, C), all of the domain's numeric types (LinearRegressor, version 1)."""

    attributes = frozenset({"coefficients", "intercepts", "post_transform", "targets"})

    def _rows(self) -> int:
        return self.attr("targets", 1)

    def unsupported(self) -> str | None:
        return self._wrong_coefficients()

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(FLOAT, (self.features(ins[0], self._features())[0], self._rows()))]

    def evaluate(self, x):
        return [transform(self._scores(x), self.attr("post_transform", "NONE"))]


class LinearClassifier(Linear, Classifier):
    """The label of the highest score, and float32 scores (N, E) (LinearClassifier, version 1).

    One row of coefficients for two classes gives the score s of the second one, and -s for the first, as in
    onnx.reference. Labels go by scores before `post_transform`; `multi_class` changes nothing, in any implementation.
    """

    attributes = frozenset(
        {
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        }
    )
    label_ints = "classlabels_ints"

    def _rows(self) -> int:
        """One for each class, or one alone for two classes, as the number of intercepts tells."""
        classes = len(self.labels)
        return 1 if classes == 2 and len(self.attr("intercepts") or ()) == 1 else classes

    def unsupported(self) -> str | None:
        return self.wrong_labels() or self._wrong_coefficients()

    def infer(self, ins: Inputs) -> list[Fact]:
        return self.answer(self.features(ins[0], self._features())[0], len(self.labels))

    def evaluate(self, x):
        scores = self._scores(x)
        if scores.shape[1] < len(self.labels):
            scores = np.concatenate([-scores, scores], axis=1)
        labels = self.labels[scores.argmax(axis=1)]
        return [labels, transform(scores, self.attr("post_transform", "NONE"))]
