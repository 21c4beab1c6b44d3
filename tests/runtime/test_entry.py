"""The short way into a plan that the second call with the same shapes takes: it does what the long way does."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewise as tw
import tilewise_kernels
from tests import small_models
from tests.runtime.test_model import FORMS, WRONG, numbers
from tilewise.errors import ExecutionError, InputError
from tilewise.plan import plan as plans
from tilewise.runtime.model import MAX_PLANS, RECENT_PLANS

needs_kernels = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")
A, B = numbers(3, 4, seed=1), numbers(3, 4, seed=2)


def has_entry(model: tw.Model, **arrays: np.ndarray) -> bool:
    return model.plan({name: array.shape for name, array in arrays.items()}).entry is not None


@pytest.fixture
def pair() -> tw.Model:
    """a + b, which has been run with shapes (3, 4), so that its entry is tried first."""
    model = tw.load(small_models.pair())
    model(A, B)
    return model


@needs_kernels
def test_a_plan_of_kernels_alone_has_an_entry(pair: tw.Model) -> None:
    assert has_entry(pair, a=A, b=B)
    assert has_entry(tw.load(small_models.cnn()), image=numbers(1, 3, 8, 8))
    assert not has_entry(tw.load(small_models.positives()), x=numbers(3, 4))


@needs_kernels
def test_an_entry_takes_what_fits_and_nothing_else(pair: tw.Model) -> None:
    entry = pair.plan({"a": A.shape, "b": B.shape}).entry
    total, scaled = entry([A, B], 1)
    np.testing.assert_array_equal(total, A + B)
    np.testing.assert_array_equal(scaled, (A + B) * small_models.FACTORS)
    for arrays in ([], [A], [A, B, B], [A, B[:2]], [A, B[:, :3]], [A, B[0]], [A, B.astype(">f4")]):
        assert entry(arrays, 1) is None
    for wrong in (B.tolist(), memoryview(B), B.tobytes(), None, 1.0, np.float32(1), np.array("text")):
        assert entry([A, wrong], 1) is None
    for form in ("Fortran order", "unaligned", "subclass"):
        assert entry([A, FORMS[form](B)], 1) is None
    assert entry([A, B.view(np.int32)], 1) is None
    assert entry([A, np.zeros((3, 4), "datetime64[s]")], 1) is None  # no buffer at all


@pytest.mark.parametrize("case", WRONG)
def test_wrong_feeds_are_refused_after_right_ones(pair: tw.Model, case: str) -> None:
    feeds, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        pair.run(feeds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected 2 input"):
        pair(A)
    np.testing.assert_array_equal(pair(A, B)[0], A + B)


@pytest.mark.parametrize("form", FORMS)
def test_any_form_is_accepted_after_plain_arrays(pair: tw.Model, form: str) -> None:
    for _ in range(2):
        np.testing.assert_array_equal(pair(FORMS[form](A), B)[0], A + B)
        np.testing.assert_array_equal(pair.run({"b": FORMS[form](B), "a": A})["total"], A + B)
    np.testing.assert_array_equal(pair(A.astype(">f4"), B)[0], A + B)


def test_order_and_choice_of_outputs_after_a_first_run(pair: tw.Model) -> None:
    assert list(pair.run({"b": B, "a": A})) == ["total", "scaled"]
    assert list(pair.run({"b": B, "a": A}, outputs=["scaled"])) == ["scaled"]
    np.testing.assert_array_equal(pair.run({"b": B, "a": A})["scaled"], (A + B) * small_models.FACTORS)


def test_shapes_may_take_turns(pair: tw.Model) -> None:
    for i in range(6 * RECENT_PLANS):
        n = 1 + i % (RECENT_PLANS + 2)
        a, b = numbers(n, 4, seed=i), numbers(n, 4, seed=i + 1)
        np.testing.assert_array_equal(pair(a, b)[0], a + b)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float64", "float16"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 0)])
def test_dtypes_and_shapes(dtype: str, shape: tuple[int, ...]) -> None:
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Transpose", ["x"], ["y"]), helper.make_node("Unsqueeze", ["x", "axes"], ["z"])]
    proto = small_models.model(nodes, {"x": shape}, {"y": shape[::-1], "z": (1, *shape)}, dtype=elem)
    proto.graph.initializer.add(name="axes", dims=[1], data_type=TensorProto.INT64, int64_data=[0])
    model = tw.load(proto)
    for seed in range(3):
        x = np.asarray(np.random.default_rng(seed).integers(0, 2, shape)).astype(dtype)
        y, z = model(x)
        assert y.dtype == z.dtype == x.dtype
        np.testing.assert_array_equal(y, x.T)
        np.testing.assert_array_equal(z, x[None])


def test_outputs_that_are_views_constants_or_inputs() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Flatten", ["y"], ["flat"], axis=0),
        helper.make_node("Identity", ["c"], ["k"]),
        helper.make_node("Identity", ["x"], ["same"]),
    ]
    outputs = {"y": [2, 3], "flat": [1, 6], "k": [4], "same": [2, 3]}
    model = tw.load(small_models.model(nodes, {"x": [2, 3]}, outputs, {"c": small_models.FACTORS}))
    x = numbers(2, 3)
    for _ in range(3):
        y, flat, k, same = results = model(x)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(flat, np.maximum(x, 0).reshape(1, 6))
        np.testing.assert_array_equal(k, small_models.FACTORS)
        np.testing.assert_array_equal(same, x)
        for i, array in enumerate(results):
            assert not any(np.shares_memory(array, other) for other in (x, *results[:i]))
            array[...] = -1


def test_an_input_that_nothing_reads_is_checked_all_the_same() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = tw.load(small_models.model(nodes, {"x": [3], "unread": [2]}, {"y": [3]}))
    x = numbers(3)
    for _ in range(2):
        np.testing.assert_array_equal(model(x, numbers(2)), np.maximum(x, 0))
        with pytest.raises(InputError, match=r"input 'unread': expected shape \[2\], got \(3,\)"):
            model(x, numbers(3))


@needs_kernels
def test_memory_that_is_not_there_is_an_error_and_the_plan_stays_usable(
    pair: tw.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(plans.np, "empty", refuse)
        for _ in range(2 * plans.IDLE_CONTEXTS):
            with pytest.raises(ExecutionError, match="no memory for output 'total'"):
                pair(A, B)
    np.testing.assert_array_equal(pair(A, B)[0], A + B)


def test_a_plan_that_is_dropped_is_freed_at_once(pair: tw.Model) -> None:
    """Arenas may be large: nothing waits for the garbage collector."""
    first = weakref.ref(pair._runner.plan({"a": A, "b": B}))
    gc.disable()
    try:
        for n in range(10, 10 + MAX_PLANS):
            pair(numbers(n, 4), numbers(n, 4))
        assert first() is None
    finally:
        gc.enable()


def test_many_callers_at_once_share_an_entry_and_few_contexts_stay() -> None:
    model = tw.load(small_models.cnn(), threads=2)
    images = [numbers(1, 3, 16, 16, seed=i) for i in range(8)]
    want = [model(image) for image in images]
    with ThreadPoolExecutor(2 * plans.IDLE_CONTEXTS) as pool:
        got = list(pool.map(lambda i: model(images[i % 8]), range(400)))
    for i, result in enumerate(got):
        np.testing.assert_array_equal(result, want[i % 8])
    assert len(model._runner.plan({"image": images[0]})._idle) <= plans.IDLE_CONTEXTS
