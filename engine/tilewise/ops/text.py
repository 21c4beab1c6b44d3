"""Operators on strings, held as arrays of `object`."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from tilewise import dtypes
from tilewise.graph import UNKNOWN, Fact
from tilewise.ops.base import Array, Inputs, Op

_CASES: dict[str, Callable[[str], str]] = {"NONE": str, "LOWER": str.lower, "UPPER": str.upper}
_OWN_CASE_RULES = ("tr", "az", "lt")
"""Languages whose upper and lower case differ from Unicode's default."""


def _strings(items: list, shape: tuple[int, ...]) -> Array:
    out = np.empty(len(items), object)
    out[:] = items
    return out.reshape(shape)


class StringConcat(Op):
    """Each string of the first input before that of the second, broadcast (ONNX StringConcat, opset 20)."""

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(dtypes.STRING, self.broadcast(*((f or UNKNOWN).shape for f in ins)))]

    def evaluate(self, x, y):
        return [np.asarray(np.add(x, y), object)]


class StringNormalizer(Op):
    """Strings without stop words, in lower or upper case: (C) or (1, C) (ONNX StringNormalizer, opset 10).

    One empty string is left where every one is dropped.
    """

    attributes = frozenset({"case_change_action", "is_case_sensitive", "locale", "stopwords"})

    def unsupported(self) -> str | None:
        action, locale = self.attr("case_change_action", "NONE"), self.attr("locale", "")
        if action not in _CASES:
            return f"attribute 'case_change_action' = {action!r}, expected one of {', '.join(_CASES)}"
        if action != "NONE" and locale[:2].lower() in _OWN_CASE_RULES:
            return f"attribute 'locale' = {locale!r}, whose rules of case are not known"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        shape = (ins[0] or UNKNOWN).shape
        if shape is None:
            return [Fact(dtypes.STRING)]
        if len(shape) not in (1, 2) or (len(shape) == 2 and isinstance(shape[0], int) and shape[0] != 1):
            raise self.fail(f"expected an input of shape (C,) or (1, C), got {shape}")
        return [Fact(dtypes.STRING, (None,) if len(shape) == 1 else (1, None))]

    def evaluate(self, x):
        self.infer([Fact.of(x)])
        fold: Callable[[str], str] = str if self.attr("is_case_sensitive", 0) else str.lower
        dropped = {fold(word) for word in self.attr("stopwords") or ()}
        change = _CASES[self.attr("case_change_action", "NONE")]
        kept = [change(word) for word in x.ravel().tolist() if fold(word) not in dropped] or [""]
        return [_strings(kept, (len(kept),) if x.ndim == 1 else (1, len(kept)))]


class StringSplit(Op):
    """Pieces between `delimiter` or white space, filled up with empty ones, and counts (ONNX StringSplit, opset 20)."""

    attributes = frozenset({"delimiter", "maxsplit"})

    def infer(self, ins: Inputs) -> list[Fact]:
        shape = (ins[0] or UNKNOWN).shape
        pieces = Fact(dtypes.STRING, None if shape is None else (*shape, None))
        return [pieces, Fact(np.dtype(np.int64), shape)]

    def evaluate(self, x):
        limit = self.attr("maxsplit")
        split = [s.split(self.attr("delimiter") or None, -1 if limit is None else limit) for s in x.ravel()]
        counts = np.array([len(pieces) for pieces in split], np.int64)
        width = int(counts.max(initial=0))
        flat = [piece for pieces in split for piece in (*pieces, *[""] * (width - len(pieces)))]
        return [_strings(flat, (*x.shape, width)), counts.reshape(x.shape)]


class RegexFullMatch(Op):
    """Whether each whole string matches `pattern`, a Python regular expression (ONNX RegexFullMatch, opset 20)."""

    attributes = frozenset({"pattern"})

    def unsupported(self) -> str | None:
        try:
            re.compile(self.attr("pattern", ""))
        except re.error as error:
            return f"attribute 'pattern' = {self.attr('pattern')!r}: {error}"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        return [Fact(np.dtype(bool), (ins[0] or UNKNOWN).shape)]

    def evaluate(self, x):
        match = re.compile(self.attr("pattern", "")).fullmatch
        return [np.array([match(s) is not None for s in x.ravel()], bool).reshape(x.shape)]
