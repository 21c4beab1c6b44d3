"""Arithmetic, comparison and logic of two and of many tensors, against NumPy and `onnx.reference`."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from tests.ops.elementwise_cases import FLOATS, RTOL, SPECIAL, dtype, exact, infer, normal, versions
from tests.ops.harness import check
from tilewise import TilewiseError, UnsupportedError
from tilewise.graph import Fact

F32 = np.dtype("float32")
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
COMPARISONS = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
LOGIC = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
VARIADIC = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

SHAPES = [
    ((), ()),
    ((1,), ()),
    ((), (3,)),
    ((1, 1), (1,)),
    ((7,), (7,)),
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), ()),
    ((1,), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((2, 3, 40), (40,)),
    ((3,), (50, 3)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 7, 6), (3, 1, 1)),
    ((2, 3, 7, 6), (2, 3, 1, 1)),
    ((2, 3, 9, 8), (2, 1, 9, 8)),
    ((5, 1), (1, 6)),
    ((1, 60), (70, 1)),
    ((2, 1, 3, 1, 2), (1, 4, 1, 5, 1)),
    ((2, 1, 3, 1, 2, 1, 2, 1), (3, 1, 2, 1, 2, 1, 2)),
    ((3, 1, 700), (1, 41, 1)),
    ((300, 5, 11), (5, 1)),
    ((300, 5, 11), (300, 1, 11)),
]


@pytest.mark.parametrize("op", ["Sub", "Less"])
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_broadcasting(op, a, b):
    check(op, [normal(*a), normal(*b, seed=1)], rtol=0, atol=0, kernel=True)


@pytest.mark.parametrize(("a", "b"), [((0, 3), (3,)), ((2, 0), (1, 0)), ((0,), ())])
def test_empty(a, b):
    check("Add", [normal(*a), normal(*b)])


def test_too_many_loops_run_on_the_host():
    a, b = normal(2, 1, 2, 1, 2, 1, 2, 1, 2), normal(1, 3, 1, 3, 1, 3, 1, 3, 1)
    check("Mul", [a, b], kernel=False)


@pytest.mark.parametrize("op", [*ARITHMETIC, *COMPARISONS])
def test_special_values(op):
    a, b = SPECIAL[:, None], SPECIAL[None, :]
    function = {**ARITHMETIC, **COMPARISONS}[op]
    with np.errstate(all="ignore"):
        expected = function(a, b)
    check(op, [a, b], oracle=lambda a, b: expected, rtol=0, atol=0, kernel=True)


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("of", FLOATS)
def test_arithmetic_of_floats(op, of):
    a, b = normal(3, 4, of=of), normal(4, seed=1, of=of)
    check(op, [a, b], oracle=exact(ARITHMETIC[op]), rtol=RTOL[of], kernel=None)


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("of", INTEGERS)
def test_arithmetic_of_integers(op, of):
    a = np.array([[0, 1, 7, 100], [120, 5, 90, 3]], of)
    b = np.array([1, 2, 3, 100], of)
    expected = {"Div": [[0, 0, 2, 1], [120, 2, 30, 0]]}.get(op)
    oracle = ARITHMETIC[op] if expected is None else lambda a, b: np.array(expected, of)
    check(op, [a, b], oracle=oracle, kernel=of in ("int32", "int64") and op != "Div")


@pytest.mark.parametrize("of", ["int8", "int32", "int64"])
def test_integer_division_rounds_toward_zero(of):
    a, b = np.array([7, -7, 7, -7, 6, -6], of), np.array([2, 2, -2, -2, -3, 3], of)
    check("Div", [a, b], oracle=lambda a, b: np.array([3, -3, -3, 3, -2, -2], of))


@pytest.mark.parametrize("of", ["int32", "int64"])
def test_integers_wrap(of):
    big = np.array([np.iinfo(of).max, np.iinfo(of).min], of)
    check("Add", [big, np.array([1, -1], of)], oracle=lambda a, b: a[::-1].copy(), kernel=True)


@pytest.mark.parametrize(
    ("op", "opset"), [(op, v) for op in [*ARITHMETIC, "Less", "Greater", "LessOrEqual"] for v in versions(op)]
)
def test_versions(op, opset):
    check(op, [normal(2, 3), normal(3, seed=1)], opset=opset, constants=[1], kernel=True)


def test_one_value_on_both_sides():
    x = normal(64, 33)
    check("Mul", [x, x], kernel=True)


class TestPow:
    SPECIAL_X = np.float32([0.0, -0.0, 1, -1, 2, -2, 0.5, np.inf, -np.inf, np.nan, 1e-40, -3e38])
    SPECIAL_Y = np.float32([0.0, 1, -1, 2, 3, -3, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30, 33554431])

    def test_special_values(self):
        x, y = self.SPECIAL_X[:, None], self.SPECIAL_Y[None, :]
        check("Pow", [x, y], oracle=exact(np.power), rtol=1e-6, atol=0, kernel=True)

    @pytest.mark.parametrize("y", SPECIAL_Y.tolist())
    def test_constant_exponents(self, y):
        check(
            "Pow", [self.SPECIAL_X, np.float32(y)], constants=[1], oracle=exact(np.power), atol=0, kernel=True
        )

    @pytest.mark.parametrize("y", [np.int64([2]), np.int32(3), np.float64(-1), np.uint8([1]), np.int64(5)])
    def test_constant_exponents_of_other_types(self, y):
        oracle = exact(np.power)
        check("Pow", [normal(3, 5), np.asarray(y)], constants=[1], oracle=oracle, atol=1e-7, kernel=True)

    def test_exponent_that_enlarges_the_result(self):
        check("Pow", [normal(1, 5), np.full((3, 1), 2, np.float32)], constants=[1], kernel=True)
        check("Pow", [normal(1, 5), np.full((1, 1, 1), 2, np.float32)], constants=[1], kernel=True)

    @pytest.mark.parametrize("of", [*FLOATS, "int32", "int64"])
    @pytest.mark.parametrize("exponent", ["float32", "float64", "int32", "int64", "uint8"])
    def test_types(self, of, exponent):
        x, y = np.array([1, 2, 3, 4]).astype(dtype(of)), np.array([0, 3, 2, 1], exponent)
        check("Pow", [x, y], oracle=exact(np.power))

    def test_integers_to_negative_powers(self):
        x, y = np.array([1, -1, 2, 3]), np.array([-1, -3, -1, -2])
        check("Pow", [x, y], oracle=lambda x, y: np.array([1, -1, 0, 0]))

    @pytest.mark.parametrize("opset", versions("Pow"))
    def test_versions(self, opset):
        check("Pow", [np.abs(normal(2, 3)), normal(3)], opset=opset, rtol=1e-6, kernel=True)


class TestMod:
    @pytest.mark.parametrize("of", ["int8", "int32", "int64", "float32", "float16"])
    @pytest.mark.parametrize("fmod", [0, 1])
    def test_signs(self, of, fmod):
        a, b = np.array([7, -7, 7, -7, 6]).astype(of), np.array([3, 3, -3, -3, -3]).astype(of)
        expected = [[1, 2, -2, -1, 0], [1, -1, 1, -1, 0]][fmod]
        check("Mod", [a, b], {"fmod": fmod}, oracle=lambda a, b: np.array(expected).astype(of))

    def test_special_values(self):
        a = np.float32([1, -1, np.inf, 1, np.nan, 0, 5])
        b = np.float32([np.inf, np.inf, 1, 0, 1, 3, -np.inf])
        floored = np.float32([1, np.inf, np.nan, np.nan, np.nan, 0, -np.inf])
        truncated = np.float32([1, -1, np.nan, np.nan, np.nan, 0, 5])
        check("Mod", [a, b], {"fmod": 0}, oracle=lambda a, b: floored)
        check("Mod", [a, b], {"fmod": 1}, oracle=lambda a, b: truncated)

    @pytest.mark.parametrize("opset", versions("Mod"))
    def test_versions(self, opset):
        check("Mod", [np.arange(12).reshape(3, 4), np.array([5, 3, 2, 7])], opset=opset)


class TestBits:
    @pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
    @pytest.mark.parametrize("of", INTEGERS)
    def test_bitwise(self, op, of):
        check(op, [np.array([[12, 7], [0, 127]], of), np.array([10, 3], of)])

    @pytest.mark.parametrize("of", ["uint8", "uint16", "uint32", "uint64"])
    @pytest.mark.parametrize("opset", versions("BitShift"))
    def test_shift(self, of, opset):
        x, y = np.array([16, 4, 1, 255], of), np.array([1, 2, 0, 3], of)
        check("BitShift", [x, y], {"direction": "RIGHT"}, opset=opset)
        check("BitShift", [x, y], {"direction": "LEFT"}, opset=opset)

    def test_signed_shift_keeps_the_sign(self):
        x, y = np.array([-8, -8, -1, 64, 8], np.int8), np.array([1, 9, -1, 1, -2], np.int8)
        check("BitShift", [x, y], {"direction": "RIGHT"}, oracle=lambda x, y: np.int8([-4, -1, -1, 32, 0]))
        check("BitShift", [x, y], {"direction": "LEFT"}, oracle=lambda x, y: np.int8([-16, 0, 0, -128, 0]))

    def test_direction_is_checked(self):
        with pytest.raises(UnsupportedError, match=r"direction.*'LEFT' or 'RIGHT'.*'UP'"):
            check("BitShift", [np.uint8([1]), np.uint8([1])], {"direction": "UP"}, oracle=lambda x, y: x)


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("of", [*FLOATS, *INTEGERS])
def test_comparisons(op, of):
    a, b = normal(5, 6, of=of), normal(6, seed=3, of=of)
    a[:, 0] = b[0]
    check(op, [a, b], oracle=COMPARISONS[op], kernel=of in ("float32", "float64", "int32", "int64"))


@pytest.mark.parametrize("op", COMPARISONS)
def test_comparisons_do_not_swap_sides(op):
    a, b = normal(40, 1), normal(1, 50, seed=1)
    check(op, [a, b], oracle=COMPARISONS[op], kernel=True)


def test_equal_of_strings():
    a, b = np.array([["a", "b"], ["", "b"]], object), np.array(["a", "b"], object)
    check("Equal", [a, b], oracle=lambda a, b: np.array([[True, True], [False, True]]))


@pytest.mark.parametrize("op", [*LOGIC, "Equal"])
@pytest.mark.parametrize(("a", "b"), SHAPES[:12])
def test_logic(op, a, b):
    x, y = np.asarray(normal(*a) > 0), np.asarray(normal(*b, seed=1) > 0)
    check(op, [x, y], oracle={**LOGIC, "Equal": np.equal}[op], kernel=True)


class TestVariadic:
    @pytest.mark.parametrize("op", [*VARIADIC, "Mean"])
    @pytest.mark.parametrize(
        "shapes",
        [
            [()],
            [(3,)],
            [(2, 3), (2, 3)],
            [(2, 3), (3,)],
            [(3,), (2, 1), (4, 1, 1)],
            [(), (), (5,)],
            [(1,), (1,), (1,), (1,)],
            [(2, 40), (40,), (), (3, 1, 1)],
        ],
    )
    def test_broadcasting(self, op, shapes):
        inputs = [normal(*s, seed=i) for i, s in enumerate(shapes)]

        def oracle(*xs):
            total = reduce(VARIADIC.get(op, np.add), xs)
            return (total / len(xs) if op == "Mean" else total).astype(np.float32)

        check(op, inputs, oracle=oracle, rtol=1e-6, kernel=True)

    def test_one_value_several_times(self):
        x, y = normal(30, 40), normal(40, seed=1)
        check("Sum", [x, y, x, x], oracle=lambda *xs: reduce(np.add, xs), kernel=True)

    @pytest.mark.parametrize("op", ["Max", "Min"])
    def test_nan_wins(self, op):
        a = np.float32([np.nan, 1, np.nan, 2, np.inf])
        b = np.float32([1, np.nan, np.nan, 3, -np.inf])
        check(op, [a, b], oracle=VARIADIC[op], kernel=True)

    @pytest.mark.parametrize("op", ["Max", "Min"])
    @pytest.mark.parametrize("of", [*INTEGERS, *FLOATS])
    def test_types(self, op, of):
        inputs = [normal(2, 3, seed=i, of=of) for i in range(3)]
        check(op, inputs, oracle=lambda *xs: reduce(VARIADIC[op], xs))

    @pytest.mark.parametrize("op", ["Sum", "Mean"])
    @pytest.mark.parametrize("of", FLOATS)
    def test_sums(self, op, of):
        inputs = [normal(2, 3, seed=i, of=of) for i in range(3)]
        divisor = 3 if op == "Mean" else 1
        check(op, inputs, oracle=exact(lambda *xs: sum(xs) / divisor), rtol=RTOL[of], atol=1e-6)

    @pytest.mark.parametrize(("op", "opset"), [(op, v) for op in [*VARIADIC, "Mean"] for v in versions(op)])
    def test_versions(self, op, opset):
        check(op, [normal(2, 3, seed=i) for i in range(3)], opset=opset, kernel=True)


class TestInference:
    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            ((2, "N"), ("N",), (2, "N")),
            (("N", 1), (1, 4), ("N", 4)),
            (("N", 3), ("M", 3), (None, 3)),
            (("N", 3), (5, 1), (5, 3)),
            (None, (3,), None),
            ((), (), ()),
        ],
    )
    def test_symbolic(self, a, b, expected):
        (z,) = infer("Add", Fact(F32, a), Fact(None, b))
        assert z.shape == expected
        assert z.dtype == F32
        assert infer("Less", Fact(F32, a), Fact(F32, b))[0].dtype == bool

    def test_shapes_that_do_not_fit(self):
        with pytest.raises(TilewiseError, match=r"Add.*dims 3 and 4.*\(2, 3\), \(4,\)"):
            infer("Add", Fact(F32, (2, 3)), Fact(F32, (4,)))

    @pytest.mark.parametrize("op", ["Add", "Less", "Max", "PRelu"])
    def test_mixed_types(self, op):
        with pytest.raises(TilewiseError, match=rf"{op}.*one type, got float32\[3\], float64\[3\]"):
            infer(op, Fact(F32, (3,)), Fact(np.dtype("float64"), (3,)))

    @pytest.mark.parametrize("op", ["Add", "And", "Sum"])
    def test_left_out_operand(self, op):
        with pytest.raises(TilewiseError, match=rf"{op}.*input 1 is missing"):
            infer(op, Fact(np.dtype(bool) if op == "And" else F32, (3,)), None)

    def test_wrong_type(self):
        with pytest.raises(TilewiseError, match=r"And.*input 0: expected .*bool, got float32\[3\]"):
            infer("And", Fact(F32, (3,)), Fact(F32, (3,)))
