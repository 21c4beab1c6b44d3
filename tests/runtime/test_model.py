"""What calls of a model promise: checks of inputs, outputs of one's own, selection, pickling, plans."""

from __future__ import annotations

import gc
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import tilewise as tw
from tests import small_models
from tilewise.errors import InputError
from tilewise.plan.plan import Plan
from tilewise.runtime.model import MAX_PLANS


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.fixture
def pair() -> tw.Model:
    return tw.load(small_models.pair().SerializeToString())


@pytest.fixture(scope="module")
def cnn() -> tw.Model:
    return tw.load(small_models.cnn().SerializeToString(), threads=2)


A, B = numbers(3, 4, seed=1), numbers(3, 4, seed=2)
TOTAL, SCALED = A + B, (A + B) * small_models.FACTORS


# Loading.


def test_a_path_bytes_and_a_proto_load_alike(tmp_path: Path) -> None:
    proto = small_models.pair()
    path = small_models.save(proto, tmp_path / "pair.onnx")
    for source in (path, Path(path), proto.SerializeToString(), bytearray(proto.SerializeToString()), proto):
        np.testing.assert_array_equal(tw.load(source)(A, B)[0], TOTAL)


@pytest.mark.parametrize("source", [None, 3, ["model.onnx"], io.BytesIO(b"")])
def test_other_sources_are_refused(source: object) -> None:
    with pytest.raises(InputError, match=r"source: expected a path, bytes or onnx\.ModelProto, got"):
        tw.load(source)


@pytest.mark.parametrize("threads", [0, -3, 1.5, "2", True])
def test_wrong_threads_are_refused(threads: object) -> None:
    with pytest.raises(InputError, match="threads"):
        tw.load(small_models.pair(), threads=threads)  # type: ignore[arg-type]


def test_inputs_and_outputs_tell_name_shape_and_dtype(pair: tw.Model, cnn: tw.Model) -> None:
    assert [(i.name, i.shape, i.dtype) for i in pair.inputs] == [
        ("a", ("N", 4), np.dtype(np.float32)),
        ("b", ("N", 4), np.dtype(np.float32)),
    ]
    assert [o.name for o in pair.outputs] == ["total", "scaled"]
    assert isinstance(pair.outputs[0].dtype, np.dtype)
    assert cnn.inputs[0].shape == ("N", 3, "H", "W")
    assert cnn.outputs[0].shape == ("N", 10)


def test_a_free_dim_without_a_name_is_none() -> None:
    proto = small_models.model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": [None, 2]}, {"y": [None, 2]}
    )
    assert tw.load(proto).inputs[0].shape == (None, 2)


# Calls.


def test_call_gives_one_array_or_a_tuple(pair: tw.Model, cnn: tw.Model) -> None:
    total, scaled = pair(A, B)
    np.testing.assert_array_equal(total, TOTAL)
    np.testing.assert_array_equal(scaled, SCALED)
    assert isinstance(cnn(numbers(1, 3, 8, 8)), np.ndarray)


def test_run_gives_all_outputs_by_name_in_graph_order(pair: tw.Model) -> None:
    results = pair.run({"b": B, "a": A})
    assert list(results) == ["total", "scaled"]
    np.testing.assert_array_equal(results["scaled"], SCALED)


@pytest.mark.parametrize("names", [["scaled", "total"], ["scaled"], ("total",)])
def test_outputs_selects_and_orders(pair: tw.Model, names: list[str]) -> None:
    results = pair.run({"a": A, "b": B}, outputs=names)
    assert list(results) == list(names)
    for name, want in (("total", TOTAL), ("scaled", SCALED)):
        if name in names:
            np.testing.assert_array_equal(results[name], want)


def test_an_unknown_output_is_refused(pair: tw.Model) -> None:
    with pytest.raises(InputError, match=r"no such output.*'nope'.*'total', 'scaled'"):
        pair.run({"a": A, "b": B}, outputs=["total", "nope"])


def test_an_empty_batch_gives_empty_outputs(pair: tw.Model) -> None:
    results = pair.run({"a": A[:0], "b": B[:0]})
    assert [v.shape for v in results.values()] == [(0, 4), (0, 4)]


def test_a_shape_that_depends_on_values() -> None:
    model = tw.load(small_models.positives())
    for seed in range(5):
        x = numbers(5, 4, seed=seed)
        np.testing.assert_array_equal(model(x), np.arange(np.count_nonzero(x > 0)))


def test_an_input_is_read_on_the_host_first_and_by_kernels_later() -> None:
    """A sequence is made in NumPy; the input that it holds is still there for the kernels after it."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["both"]),
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("SequenceAt", ["both", "second"], ["y"]),
        helper.make_node("Identity", ["x"], ["z"]),
    ]
    proto = small_models.model(
        nodes, {"x": [5]}, {"positive": [5], "y": [5], "z": [5]}, {"second": np.array(1)}
    )
    x = numbers(5)
    results = tw.load(proto).run({"x": x})
    np.testing.assert_array_equal(results["positive"], np.maximum(x, 0))
    np.testing.assert_array_equal(results["y"], x)
    np.testing.assert_array_equal(results["z"], x)


# Inputs are checked.

WRONG = {
    "missing": ({"a": A}, r"missing \['b'\].*the model has \['a', 'b'\]"),
    "unknown": ({"a": A, "b": B, "c": B}, r"unknown \['c'\].*the model has \['a', 'b'\]"),
    "both": ({"a": A, "B": B}, r"missing \['b'\]; unknown \['B'\]"),
    "rank": ({"a": A[0], "b": B}, r"input 'a': expected rank 2 \[N, 4\], got 1 \(4,\)"),
    "dim": ({"a": A, "b": B[:, :3]}, r"input 'b': expected shape \[N, 4\], got \(3, 3\) \(axis 1\)"),
    "named dim": ({"a": A, "b": B[:2]}, r"input 'b': dim 'N' \(axis 0\) is 2, but 3 in input 'a'"),
    "wider dtype": ({"a": A.astype(np.float64), "b": B}, r"input 'a': expected dtype float32, got float64"),
    "integers": ({"a": A, "b": B.astype(np.int32)}, r"input 'b': expected dtype float32, got int32"),
    "list": ({"a": A.tolist(), "b": B}, r"input 'a': expected a NumPy array, got list"),
    "number": ({"a": 1.0, "b": B}, r"input 'a': expected a NumPy array, got float"),
    "none": ({"a": A, "b": None}, r"input 'b': expected a NumPy array, got NoneType"),
    "no mapping": ([A, B], r"feeds: expected a mapping"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_feeds_are_refused_and_the_model_stays_usable(pair: tw.Model, case: str) -> None:
    feeds, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        pair.run(feeds)  # type: ignore[arg-type]
    np.testing.assert_array_equal(pair(A, B)[0], TOTAL)


def test_a_wrong_number_of_arguments_is_refused(pair: tw.Model) -> None:
    with pytest.raises(InputError, match=r"expected 2 input\(s\) \['a', 'b'\], got 1"):
        pair(A)


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same array at an address that is not a multiple of its item size."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


FORMS = {
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "unaligned": unaligned,
    "read-only": read_only,
    "subclass": lambda a: a.view(np.memmap),
}


@pytest.mark.parametrize("form", FORMS)
def test_strides_alignment_and_read_only_arrays_are_accepted(
    pair: tw.Model, cnn: tw.Model, form: str
) -> None:
    image = numbers(2, 3, 10, 12)
    a, b, fed = FORMS[form](A), FORMS[form](B), FORMS[form](image)
    np.testing.assert_array_equal(pair(a, b)[1], SCALED)
    np.testing.assert_array_equal(cnn(fed), cnn(image))
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(fed, image)


def test_a_broadcast_view_is_accepted(pair: tw.Model) -> None:
    row = np.broadcast_to(A[0], (3, 4))
    np.testing.assert_array_equal(pair(row, B)[0], A[0] + B)


# Outputs own their memory.


def test_later_runs_never_change_earlier_outputs(cnn: tw.Model, pair: tw.Model) -> None:
    for model, feeds in (
        (cnn, lambda s: [numbers(2, 3, 8, 8, seed=s)]),
        (pair, lambda s: [numbers(3, 4, seed=s), B]),
    ):
        first = model(*feeds(1))
        arrays = first if isinstance(first, tuple) else (first,)
        copies = [a.copy() for a in arrays]
        for seed in range(2, 12):
            model(*feeds(seed))
        for array, copy in zip(arrays, copies, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_writing_to_outputs_changes_no_later_run(cnn: tw.Model) -> None:
    image = numbers(1, 3, 8, 8)
    first = cnn(image)
    want = first.copy()
    first[...] = np.nan
    np.testing.assert_array_equal(cnn(image), want)


def passing(outputs: list[tuple[str, str]], constants: dict[str, np.ndarray]) -> tw.Model:
    """A model that only hands x and constants on, as pairs (output, what it is)."""
    nodes = [helper.make_node("Identity", [source], [name]) for name, source in outputs]
    return tw.load(small_models.model(nodes, {"x": [4]}, {name: [4] for name, _ in outputs}, constants))


def test_outputs_share_memory_with_nothing() -> None:
    model = passing([("y", "x"), ("z", "y"), ("k", "c")], {"c": small_models.FACTORS})
    x = numbers(4)
    results = list(model.run({"x": x}).values())
    for i, array in enumerate(results):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in (x, *results[i + 1 :]))
        array[...] = -1
    y, z, k = model.run({"x": x}).values()
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z, x)
    np.testing.assert_array_equal(k, small_models.FACTORS)


def test_an_input_that_is_an_output_is_copied() -> None:
    proto = small_models.model([helper.make_node("Identity", ["x"], ["y"])], {"x": [4]}, {"y": [4], "x": [4]})
    x = numbers(4)
    results = tw.load(proto).run({"x": x})
    assert not np.shares_memory(results["x"], x)
    np.testing.assert_array_equal(results["x"], x)


def test_inputs_are_never_written_to(pair: tw.Model) -> None:
    a, b = A.copy(), B.copy()
    pair(a, b)
    np.testing.assert_array_equal(a, A)
    np.testing.assert_array_equal(b, B)


# Pickling.

CHILD = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    model, image = pickle.load(file)
with open(sys.argv[2], "wb") as file:
    pickle.dump((model(image), model.threads), file)
"""


def test_a_model_pickles_to_another_process(cnn: tw.Model, tmp_path: Path) -> None:
    image = numbers(2, 3, 9, 9)
    sent, returned = tmp_path / "sent", tmp_path / "returned"
    want = cnn(image)
    sent.write_bytes(pickle.dumps((cnn, image)))
    subprocess.run([sys.executable, "-c", CHILD, str(sent), str(returned)], check=True, timeout=120)
    result, threads = pickle.loads(returned.read_bytes())
    assert threads == cnn.threads
    np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize("make", [small_models.pair, small_models.positives])
def test_a_copy_by_pickle_works_alike(make) -> None:
    model = tw.load(make())
    copy = pickle.loads(pickle.dumps(model))
    feeds = {info.name: numbers(3, 4) for info in model.inputs}
    for name, value in model.run(feeds).items():
        np.testing.assert_array_equal(copy.run(feeds)[name], value)
    assert [i.name for i in copy.inputs] == [i.name for i in model.inputs]


# Plans.


def alive_plans() -> int:
    gc.collect()
    return sum(isinstance(thing, Plan) for thing in gc.get_objects())


def test_plans_are_bounded_and_come_back(pair: tw.Model) -> None:
    before = alive_plans()
    for n in range(1, 3 * MAX_PLANS):
        pair(numbers(n, 4), numbers(n, 4))
    assert alive_plans() - before <= MAX_PLANS
    for n in (1, 3 * MAX_PLANS, 2):
        a = numbers(n, 4, seed=n)
        np.testing.assert_array_equal(pair(a, a)[0], a + a)


def test_plan_tells_steps_and_memory_before_any_run() -> None:
    model = tw.load(small_models.cnn())
    plan = model.plan({"image": (2, 3, 8, 8)})
    assert {"conv1", "conv2", "fc"} <= {step.node for step in plan.steps}
    assert all(step.kernel and step.tasks >= 1 for step in plan.steps)
    small, large = (model.plan({"image": (n, 3, 32, 32)}).peak_bytes for n in (1, 4))
    assert 0 < small < large


def test_no_two_live_buffers_of_a_plan_overlap(cnn: tw.Model) -> None:
    plan = cnn.plan({"image": (2, 3, 16, 16)})
    rows = plan.arena
    assert all(row.offset + row.nbytes <= plan.peak_bytes for row in rows)
    for i, a in enumerate(rows):
        for b in rows[i + 1 :]:
            apart_in_time = a.last < b.first or b.last < a.first
            apart_in_space = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
            assert apart_in_time or apart_in_space, (a, b)


def test_plan_refuses_what_it_cannot_plan(cnn: tw.Model) -> None:
    with pytest.raises(InputError, match=r"input 'image': a shape of integers is needed"):
        cnn.plan()
    with pytest.raises(InputError, match=r"no such input.*nope"):
        cnn.plan({"image": (1, 3, 8, 8), "nope": (1,)})


def test_results_agree_with_the_reference(cnn: tw.Model) -> None:
    from onnx.reference import ReferenceEvaluator

    image = numbers(2, 3, 12, 10)
    want = ReferenceEvaluator(onnx.load_from_string(small_models.cnn().SerializeToString())).run(
        None, {"image": image}
    )
    np.testing.assert_allclose(cnn(image), want[0], rtol=1e-4, atol=1e-5)
