"""Operators on strings."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tilewise import TilewiseError, load


def text(*items) -> np.ndarray:
    return np.array(items, object)


def test_string_concat():
    check("StringConcat", [text("a", "b"), text("x")], oracle=lambda *_: text("ax", "bx"))
    check(
        "StringConcat", [text(["a"], ["é"]), text("x", "")], oracle=lambda *_: text(["ax", "a"], ["éx", "é"])
    )
    check(
        "StringConcat",
        [np.array("a", object), np.array("b", object)],
        oracle=lambda *_: np.array("ab", object),
    )


SPLITS = [
    (text("a.b", "c"), {"delimiter": "."}, [["a", "b"], ["c", ""]], [2, 1]),
    (text("a..b", "."), {"delimiter": "."}, [["a", "", "b"], ["", "", ""]], [3, 2]),
    (text("  a  b c "), {}, [["a", "b", "c"]], [3]),
    (text("a b c", "d"), {"maxsplit": 1, "delimiter": ""}, [["a", "b c"], ["d", ""]], [2, 1]),
    (np.array("a b", object), {}, ["a", "b"], 2),
    (text("", ""), {}, np.zeros((2, 0), object), [0, 0]),
    (np.zeros((0, 2), object), {}, np.zeros((0, 2, 0), object), np.zeros((0, 2))),
]


@pytest.mark.parametrize(("x", "attrs", "pieces", "counts"), SPLITS)
def test_string_split(x, attrs, pieces, counts):
    expected = [np.array(pieces, object), np.array(counts, np.int64)]
    check("StringSplit", [x], attrs, outputs=2, oracle=lambda _: expected)


NORMALIZED = [
    (text("Mon", "tue", "MON"), {}, text("Mon", "tue", "MON")),
    (text("Mon", "tue", "MON"), {"stopwords": ["mon"]}, text("tue")),
    (text("Mon", "tue", "mon"), {"stopwords": ["mon"], "is_case_sensitive": 1}, text("Mon", "tue")),
    (text(["Mon", "tue"]), {"stopwords": ["TUE"], "case_change_action": "UPPER"}, text(["MON"])),
    (text("Mon"), {"case_change_action": "LOWER", "locale": "en_US"}, text("mon")),
    (text("Mon"), {"stopwords": ["mon"]}, text("")),
    (text(["Mon"]), {"stopwords": ["mon"]}, text([""])),
]


@pytest.mark.parametrize(("x", "attrs", "expected"), NORMALIZED)
def test_string_normalizer(x, attrs, expected):
    check("StringNormalizer", [x], attrs, oracle=lambda _: expected)


def test_regex_full_match():
    check("RegexFullMatch", [text(["a1", "b"], ["a22", "a2b"])], {"pattern": r"a\d+"})
    check(
        "RegexFullMatch",
        [np.zeros((0, 2), object)],
        {"pattern": "a"},
        oracle=lambda _: np.zeros((0, 2), bool),
    )


ERRORS = [
    ("RegexFullMatch", text("a"), {"pattern": "("}, "'pattern' = '('"),
    ("StringNormalizer", text(["a"], ["b"]), {}, "(C,) or (1, C), got (2, 1)"),
    ("StringNormalizer", text("a"), {"case_change_action": "TITLE"}, "'case_change_action' = 'TITLE'"),
    ("StringNormalizer", text("I"), {"case_change_action": "LOWER", "locale": "tr_TR"}, "'locale' = 'tr_TR'"),
]


@pytest.mark.parametrize(("op", "x", "attrs", "message"), ERRORS)
def test_errors(op, x, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, [x], attrs))
    assert message in str(raised.value)
