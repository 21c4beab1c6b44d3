"""Operators of ai.onnx.ml between labels, categories, maps and tensors. A map is a Python dict."""

from __future__ import annotations

import numpy as np

from tilewise import dtypes
from tilewise.graph import UNKNOWN, Fact, Map
from tilewise.ops.base import Array, Inputs
from tilewise.ops.ml.common import FLOAT, INT64, MlOp, positions, strings

STRING = dtypes.STRING


class Lookup(MlOp):
    """Base: each element replaced by the value of its key."""

    def tables(self, dtype: np.dtype) -> tuple[Array, Array, object]:
        """Keys, values and the default, for inputs of this type."""
        raise NotImplementedError(type(self).__name__)

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        if x.dtype is None:
            return [Fact(None, x.shape)]
        keys, values, _ = self.tables(x.dtype)
        if keys.dtype != x.dtype:
            raise self.fail(f"expected {dtypes.onnx_name(keys.dtype)} like the keys, got {x}")
        return [Fact(values.dtype, x.shape)]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        keys, values, default = self.tables(x.dtype)
        at = positions(x, keys)
        out = np.full(x.shape, default, values.dtype)
        out[at >= 0] = values[at[at >= 0]]
        return [out]


class CategoryMapper(Lookup):
    """Strings to int64 and back, by two lists of one length (CategoryMapper, version 1)."""

    attributes = frozenset({"cats_int64s", "cats_strings", "default_int64", "default_string"})

    def unsupported(self) -> str | None:
        sizes = [len(self.attr(name) or ()) for name in ("cats_int64s", "cats_strings")]
        return None if sizes[0] == sizes[1] else f"expected as many cats_int64s as cats_strings, got {sizes}"

    def tables(self, dtype):
        ints, texts = (
            np.array(self.attr("cats_int64s") or (), np.int64),
            strings(self.attr("cats_strings") or []),
        )
        if dtype == STRING:
            return texts, ints, self.attr("default_int64", -1)
        return ints, texts, self.attr("default_string", "_Unused")


_KINDS = {"strings": STRING, "int64s": INT64, "floats": FLOAT}
_SINGULAR = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}


class LabelEncoder(Lookup):
    """Elements replaced by the value of their key, the last of equal keys (LabelEncoder, versions 1, 2 and 4).

    Zeros are equal, and a NaN finds a NaN key. Version 1: strings to their index in `classes_strings`, and back.
    """

    attributes = frozenset(
        {
            "classes_strings",
            "default_float",
            "default_int64",
            "default_string",
            "default_tensor",
            "keys_floats",
            "keys_int64s",
            "keys_strings",
            "keys_tensor",
            "values_floats",
            "values_int64s",
            "values_strings",
            "values_tensor",
        }
    )

    def unsupported(self) -> str | None:
        if self.version < 2:
            return None
        for side in ("keys", "values"):
            wrong = self.one_of(*(f"{side}_{kind}" for kind in (*_KINDS, "tensor")))
            if wrong:
                return wrong
        keys, values = self._side("keys")[0], self._side("values")[0]
        if len(keys) != len(values):
            return f"expected as many keys as values, got {len(keys)} and {len(values)}"
        return None

    def _side(self, side: str) -> tuple[Array, str]:
        """Keys or values, and how the attribute is called."""
        for kind, dtype in _KINDS.items():
            given = self.attr(f"{side}_{kind}")
            if given:
                return strings(given) if dtype == STRING else np.array(given, dtype), kind
        return np.asarray(self.attr(f"{side}_tensor")).ravel(), "tensor"

    def tables(self, dtype):
        if self.version < 2:
            texts = strings(self.attr("classes_strings") or [])
            index = np.arange(len(texts))
            if dtype == STRING:
                return texts, index, self.attr("default_int64", -1)
            return index, texts, self.attr("default_string", "_Unused")
        keys, (values, kind) = self._side("keys")[0], self._side("values")
        return keys, values, self._default(values, kind)

    def _default(self, values: Array, kind: str) -> object:
        tensor = self.attr("default_tensor")
        if tensor is not None and kind == "tensor":
            return np.asarray(tensor).reshape(-1)[0]
        unset = {"O": "_Unused", "f": -0.0}.get(values.dtype.kind, -1)
        return self.attr(_SINGULAR[kind], unset) if kind in _SINGULAR else unset


class OneHotEncoder(MlOp):
    """float32 (..., categories): 1 at the category of each element (OneHotEncoder, version 1).

    Floats count as integers, cut towards zero. An unknown element is all zeros, or an error where `zeros` is 0.
    """

    attributes = frozenset({"cats_int64s", "cats_strings", "zeros"})

    def unsupported(self) -> str | None:
        return self.one_of("cats_int64s", "cats_strings")

    def infer(self, ins: Inputs) -> list[Fact]:
        x, texts = ins[0] or UNKNOWN, self.attr("cats_strings")
        if x.dtype is not None and x.dtype.hasobject is not bool(texts):
            raise self.fail(f"expected {'strings' if texts else 'numbers'} like the categories, got {x}")
        count = len(texts or self.attr("cats_int64s"))
        return [Fact(FLOAT, None if x.shape is None else (*x.shape, count))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        texts = self.attr("cats_strings")
        cats = strings(texts) if texts else np.array(self.attr("cats_int64s"), np.int64)
        at = positions(x if texts else x.astype(np.int64), cats)
        if not self.attr("zeros", 1) and (at < 0).any():
            raise ValueError(f"{x[at < 0][0]!r} is not among the categories")
        return [(at[..., None] == np.arange(len(cats))).astype(np.float32)]


class ZipMap(MlOp):
    """A list with a map from class labels to the scores of each row of (N, E), or of (E,) (ZipMap, version 1)."""

    attributes = frozenset({"classlabels_int64s", "classlabels_strings"})

    def unsupported(self) -> str | None:
        return self.one_of("classlabels_int64s", "classlabels_strings")

    def _labels(self) -> list:
        return self.attr("classlabels_int64s") or self.attr("classlabels_strings")

    def infer(self, ins: Inputs) -> list[Fact]:
        self.features(ins[0], len(self._labels()))
        key = INT64 if self.attr("classlabels_int64s") else STRING
        return [Fact(kind="sequence", elem=Fact(key, kind="map", elem=Fact(FLOAT, ())))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        rows = x.reshape(-1, len(self._labels())).tolist()
        return [[dict(zip(self._labels(), row, strict=True)) for row in rows]]


class DictVectorizer(MlOp):
    """The values of a map at the places of their keys in a vocabulary, (1, V) (DictVectorizer, version 1).

    Keys that the map has not are 0 or "". As in ONNX Runtime, keys that the vocabulary has not are passed over.
    """

    attributes = frozenset({"int64_vocabulary", "string_vocabulary"})

    def unsupported(self) -> str | None:
        return self.one_of("int64_vocabulary", "string_vocabulary")

    def _vocabulary(self) -> list:
        return self.attr("int64_vocabulary") or self.attr("string_vocabulary")

    def infer(self, ins: Inputs) -> list[Fact]:
        x = ins[0] or UNKNOWN
        key = INT64 if self.attr("int64_vocabulary") else STRING
        if x.dtype is not None and x.dtype != key:
            raise self.fail(f"expected keys of type {dtypes.onnx_name(key)} like the vocabulary, got {x}")
        return [Fact((x.elem or UNKNOWN).dtype, (1, len(self._vocabulary())))]

    def evaluate(self, x):
        vocabulary, dtype = self._vocabulary(), value_dtype(x)
        y = _blank((1, len(vocabulary)), dtype, "")
        for i, key in enumerate(vocabulary):
            if key in x:
                y[0, i] = x[key]
        return [y]


_CASTS = {"TO_FLOAT": FLOAT, "TO_STRING": STRING, "TO_INT64": INT64}
_FORMS = ("DENSE", "SPARSE")


class CastMap(MlOp):
    """The values of a map with integer keys, by ascending key, (1, n) (CastMap, version 1).

    SPARSE: n is `max_map` and a value stands at its key; other places are 0, or "0.f" as in ONNX Runtime. Floats
    become strings with six decimals.
    """

    attributes = frozenset({"cast_to", "map_form", "max_map"})

    def unsupported(self) -> str | None:
        wrong = self.choice("cast_to", "TO_FLOAT", tuple(_CASTS)) or self.choice("map_form", "DENSE", _FORMS)
        if wrong is None and self.attr("max_map", 1) < 1:
            return f"attribute 'max_map' = {self.attr('max_map')}, expected 1 or more"
        return wrong

    def _length(self) -> int | None:
        return self.attr("max_map", 1) if self.attr("map_form", "DENSE") == "SPARSE" else None

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(_CASTS[self.attr("cast_to", "TO_FLOAT")], (1, self._length()))]

    def evaluate(self, x):
        keys, length = sorted(x), self._length()
        if length is not None and keys and not 0 <= keys[0] <= keys[-1] < length:
            wrong = keys[0] if keys[0] < 0 else keys[-1]
            raise ValueError(f"key {wrong} is outside [0, {length}), the places of a sparse map")
        dtype = _CASTS[self.attr("cast_to", "TO_FLOAT")]
        y = _blank((1, len(keys) if length is None else length), dtype, "0.f")
        for i, key in enumerate(keys):
            y[0, i if length is None else key] = _cast(x[key], dtype)
        return [y]


def value_dtype(x: dict) -> np.dtype:
    """The type of a map's values; a map that an operator has made holds float32."""
    return x.dtype if isinstance(x, Map) else FLOAT


def _blank(shape: tuple[int, ...], dtype: np.dtype, text: str) -> Array:
    return np.full(shape, text, STRING) if dtype.hasobject else np.zeros(shape, dtype)


def _cast(value: float | str, dtype: np.dtype) -> object:
    if dtype.hasobject:
        return value if isinstance(value, str) else f"{value:f}"
    return (
        float(value) if dtype.kind == "f" else int(float(value)) if isinstance(value, float) else int(value)
    )
