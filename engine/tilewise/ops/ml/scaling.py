"""Operators of ai.onnx.ml that map features to features."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim
from tilewise.ops.base import Array, Inputs
from tilewise.ops.ml.common import FLOAT, MlOp, matrix

_NORMS = ("MAX", "L1", "L2")


class Binarizer(MlOp):
    """1 where an element is greater than `threshold`, else 0, in the input's type (Binarizer, version 1)."""

    attributes = frozenset({"threshold"})

    def infer(self, ins: Inputs) -> list[Fact]:
        return [(ins[0] or UNKNOWN).without_value()]

    def evaluate(self, x):
        return [(x > self.attr("threshold", 0.0)).astype(x.dtype)]


class Normalizer(MlOp):
    """Rows of (N, C), or (C,), divided by their maximum, sum of magnitudes or 2-norm (Normalizer, version 1).

    A row whose divisor is zero is left as it is. float32.
    """

    attributes = frozenset({"norm"})

    def unsupported(self) -> str | None:
        return self.choice("norm", "MAX", _NORMS)

    def infer(self, ins: Inputs) -> list[Fact]:
        self.features(ins[0])
        return [Fact(FLOAT, (ins[0] or UNKNOWN).shape)]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        rows = matrix(x)
        return [(rows / self._divisor(rows)).astype(np.float32).reshape(x.shape)]

    def _divisor(self, rows: Array) -> Array:
        if not rows.size:
            return np.ones((len(rows), 1), rows.dtype)
        norm = self.attr("norm", "MAX")
        if norm == "MAX":
            found = rows.max(axis=1, keepdims=True)
        elif norm == "L1":
            found = np.abs(rows).sum(axis=1, keepdims=True)
        else:
            found = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
        return np.where(found == 0, 1, found)


class Scaler(MlOp):
    """(x - offset) * scale, each of length 1 or C, float32 (Scaler, version 1)."""

    attributes = frozenset({"offset", "scale"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        columns = x.shape[-1] if x.shape else None
        for name in ("offset", "scale"):
            given = len(self.attr(name) or [0])
            if given != 1 and isinstance(columns, int) and given != columns:
                raise self.fail(f"attribute {name!r}: expected 1 or {columns} values for {x}, got {given}")
        return [Fact(FLOAT, x.shape)]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        wide = matrix(x).dtype
        offset, scale = np.array(self.attr("offset") or [0], wide), np.array(self.attr("scale") or [1], wide)
        y = (x.astype(wide) - offset) * scale
        return [y.astype(np.float32).reshape(x.shape)]


class Imputer(MlOp):
    """Elements equal to one value (NaN too) replaced, all alike or column by column (Imputer, version 1).

    Attributes of floats serve float inputs, those of integers the others.
    """

    attributes = frozenset(
        {"imputed_value_floats", "imputed_value_int64s", "replaced_value_float", "replaced_value_int64"}
    )

    def unsupported(self) -> str | None:
        return self.one_of("imputed_value_floats", "imputed_value_int64s")

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        floats = bool(self.attr("imputed_value_floats"))
        if x.dtype is not None and (x.dtype.kind == "f") is not floats:
            raise self.fail(f"expected {'floats' if floats else 'integers'} like the imputed values, got {x}")
        given = len(self._imputed())
        columns = x.shape[-1] if x.shape else None
        if given != 1 and isinstance(columns, int) and columns != given:
            raise self.fail(f"expected 1 or {columns} imputed values for {x}, got {given}")
        return [Fact(x.dtype, x.shape)]

    def _imputed(self) -> list:
        return self.attr("imputed_value_floats") or self.attr("imputed_value_int64s")

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        floats = x.dtype.kind == "f"
        replaced = self.attr("replaced_value_float", 0.0) if floats else self.attr("replaced_value_int64", 0)
        hit = np.isnan(x) if replaced != replaced else x == replaced
        return [np.where(hit, np.array(self._imputed(), x.dtype), x).reshape(x.shape)]


class FeatureVectorizer(MlOp):
    """Inputs side by side, float32 (N, sum of inputdimensions) (FeatureVectorizer, version 1).

    (C,) counts as (1, C), axes after the second as more columns. An input is cut or filled with zeros to its
    length in `inputdimensions`.
    """

    attributes = frozenset({"inputdimensions"})

    def unsupported(self) -> str | None:
        lengths = self.attr("inputdimensions")
        if lengths is not None and (len(lengths) != len(self.node.inputs) or min(lengths) < 0):
            return f"attribute 'inputdimensions' = {lengths}, expected a length for each input"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        rows: Dim = None
        for fact in ins:
            shape = (fact or UNKNOWN).shape
            if shape is None:
                continue
            if not shape:
                raise self.fail(f"expected inputs of shape (N, C) or (C,), got {fact}")
            n = 1 if len(shape) == 1 else shape[0]
            if isinstance(rows, int) and isinstance(n, int) and rows != n:
                raise self.fail(f"expected {rows} rows in each input, got {fact}")
            rows = n if isinstance(n, int) or rows is None else rows
        lengths = self.attr("inputdimensions")
        return [Fact(FLOAT, (rows, sum(lengths) if lengths is not None else None))]

    def evaluate(self, *inputs):
        self.infer([Fact.of(x) for x in inputs])
        tables = [x.reshape(1, -1) if x.ndim == 1 else x.reshape(len(x), -1) if x.size else x for x in inputs]
        lengths = self.attr("inputdimensions") or [x.shape[1] for x in tables]
        y = np.zeros((len(tables[0]), sum(lengths)), np.float32)
        start = 0
        for x, length in zip(tables, lengths, strict=True):
            part = x[:, :length]
            y[:, start : start + part.shape[1]] = part
            start += length
        return [y]


class ArrayFeatureExtractor(MlOp):
    """Columns of the last axis by their indices in [0, C): (..., k), or (1, k) from (C,) (version 1)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        x, indices = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        count = indices.size if indices.known_shape else None
        if x.shape is None:
            return [Fact(x.dtype)]
        if not x.shape:
            raise self.fail(f"expected an input of rank 1 or more, got {x}")
        lead = x.shape[:-1] if len(x.shape) > 1 else (1,)
        return [Fact(x.dtype, (*lead, count))]

    def evaluate(self, x, indices):
        columns = x.shape[-1]
        flat = indices.ravel()
        wrong = flat[(flat < 0) | (flat >= columns)]
        if len(wrong):
            raise ValueError(f"index {wrong[0]} is outside [0, {columns})")
        return [(x if x.ndim > 1 else x[None])[..., flat]]
