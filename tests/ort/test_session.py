"""Sessions as clients use them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewise.ort
from tests.ort.models import FLOAT, INT64, add, identity, model, node, relu, value
from tilewise.ops.generate import Random

X = np.arange(-12, 12, dtype=np.float32).reshape(2, 3, 4)
ONE = np.ones((1, 2), np.float32)


def test_run(ort) -> None:
    session = ort.InferenceSession(relu(), providers=["CPUExecutionProvider"])
    (name,) = [arg.name for arg in session.get_inputs()]
    for names in (None, [], ["y"], ("y",)):
        results = session.run(names, {name: X})
        assert isinstance(results, list)
        np.testing.assert_array_equal(results[0], np.maximum(X, 0))


@pytest.mark.parametrize("kind", [str, Path])
def test_load_from_path(ort, kind, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu())
    assert ort.InferenceSession(kind(path)).run(None, {"x": X})[0].shape == X.shape


def test_outputs_survive_later_runs(ort) -> None:
    session = ort.InferenceSession(relu())
    (kept,) = session.run(None, {"x": X})
    session.run(None, {"x": np.full_like(X, 9)})
    np.testing.assert_array_equal(kept, np.maximum(X, 0))


@pytest.mark.parametrize(
    "array",
    [
        X[::-1],
        X.transpose(0, 2, 1).copy().transpose(0, 2, 1),
        np.asfortranarray(X),
        X[:0],
        X.view(np.ndarray),
    ],
)
def test_any_strides(ort, array: np.ndarray) -> None:
    array.flags.writeable = False
    np.testing.assert_array_equal(
        ort.InferenceSession(relu()).run(None, {"x": array})[0], np.maximum(array, 0)
    )


@pytest.mark.parametrize(
    ("elem", "fed", "expected"),
    [
        (FLOAT, [1, 2], np.array([1, 2], np.float32)),
        (FLOAT, [np.float64(1), np.int8(2)], np.array([1, 2], np.float32)),
        (FLOAT, ["1", "2"], np.array([1, 2], np.float32)),
        (INT64, [1.7, 2.2], np.array([1, 2], np.int64)),
        (TensorProto.BOOL, [1, 0], np.array([True, False])),
        (TensorProto.FLOAT16, [300, 2], np.array([300, 2], np.float16)),
        (TensorProto.STRING, ["a", "bé"], np.array(["a", "bé"], object)),
        (TensorProto.STRING, [1, 2], np.array(["1", "2"], object)),
        (TensorProto.STRING, np.array(["a", "bé"]), np.array(["a", "bé"], object)),
        (TensorProto.STRING, np.array([1, None], object), np.array(["1", "None"], object)),
    ],
)
def test_lists_take_the_type_of_the_input(ort, elem: int, fed, expected: np.ndarray) -> None:
    (got,) = ort.InferenceSession(identity(elem, [2])).run(None, {"x": fed})
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_nested_lists_and_lists_of_arrays(ort) -> None:
    session = ort.InferenceSession(relu())
    for fed in (X.tolist(), list(X), [list(x) for x in X]):
        np.testing.assert_array_equal(session.run(None, {"x": fed})[0], np.maximum(X, 0))


def test_empty_list(ort) -> None:
    assert ort.InferenceSession(identity(FLOAT, [None])).run(None, {"x": []})[0].shape == (0,)


@pytest.mark.parametrize("shape", [[], None])
def test_inputs_without_a_declared_shape_take_any_rank(ort, shape) -> None:
    session = ort.InferenceSession(identity(FLOAT, shape))
    for array in (np.array(1, np.float32), np.ones(2, np.float32), ONE):
        assert session.run(None, {"x": array})[0].shape == array.shape


def test_free_dims_of_one_name_may_differ(ort) -> None:
    proto = model(
        [node("Add", ["a", "b"], ["y"])], [value("a", ["n"]), value("b", ["n"])], [value("y", ["n"])]
    )
    feeds = {"a": np.ones(2, np.float32), "b": np.ones(1, np.float32)}
    np.testing.assert_array_equal(ort.InferenceSession(proto.SerializeToString()).run(None, feeds)[0], [2, 2])


@pytest.mark.parametrize(
    ("shape", "reported"), [(["N", 3, None], ["N", 3, None]), ([], []), (None, []), ([0, 2], [0, 2])]
)
def test_node_args(ort, shape, reported) -> None:
    session = ort.InferenceSession(identity(FLOAT, shape))
    for arg, name in zip((*session.get_inputs(), *session.get_outputs()), "xy", strict=True):
        assert (arg.name, arg.type, arg.shape) == (name, "tensor(float)", reported)
        assert str(arg) == f"NodeArg(name='{name}', type='tensor(float)', shape={reported})"


@pytest.mark.parametrize(
    ("elem", "name"),
    [
        (INT64, "int64"),
        (TensorProto.DOUBLE, "double"),
        (TensorProto.STRING, "string"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_type_names(ort, elem: int, name: str) -> None:
    assert ort.InferenceSession(identity(elem, [1])).get_inputs()[0].type == f"tensor({name})"


def test_output_shapes_are_completed_by_inference(ort) -> None:
    (y,) = ort.InferenceSession(add().SerializeToString()).get_outputs()
    assert y.shape == ["n", 2]


def test_metadata(ort) -> None:
    proto = add()
    proto.producer_name, proto.domain, proto.doc_string, proto.model_version = (
        "maker",
        "d.org",
        "of the model",
        7,
    )
    proto.graph.doc_string = "of the graph"
    helper.set_model_props(proto, {"names": "{0: 'cat'}", "stride": "32"})
    meta = ort.InferenceSession(proto.SerializeToString()).get_modelmeta()
    assert (meta.producer_name, meta.graph_name, meta.domain) == ("maker", "small", "d.org")
    assert (meta.description, meta.graph_description, meta.version) == ("of the model", "of the graph", 7)
    assert meta.custom_metadata_map == {"names": "{0: 'cat'}", "stride": "32"}


def test_overridable_initializers(ort) -> None:
    session = ort.InferenceSession(add(overridable=True).SerializeToString())
    assert [arg.name for arg in session.get_inputs()] == ["x"]
    (w,) = session.get_overridable_initializers()
    assert (w.name, w.shape, w.type) == ("w", [2], "tensor(float)")
    for feeds, expected in (({}, 6), ({"w": np.zeros(2, np.float32)}, 1), ({}, 6)):
        np.testing.assert_array_equal(session.run(None, {"x": ONE, **feeds})[0], np.full((1, 2), expected))


def test_old_models_have_nothing_to_override(ort) -> None:
    session = ort.InferenceSession(add(overridable=True, ir_version=3).SerializeToString())
    assert [arg.name for arg in session.get_inputs()] == ["x"]
    assert session.get_overridable_initializers() == []


def test_sequences(ort) -> None:
    session = ort.InferenceSession(
        model(
            [node("SequenceInsert", ["s", "x"], ["t"])],
            [helper.make_tensor_sequence_value_info("s", FLOAT, ["q"]), value("x", ["q"])],
            [helper.make_tensor_sequence_value_info("t", FLOAT, ["q"])],
        ).SerializeToString()
    )
    assert [(arg.name, arg.type) for arg in session.get_inputs()] == [
        ("s", "seq(tensor(float))"),
        ("x", "tensor(float)"),
    ]
    (result,) = session.run(
        None, {"s": [np.ones(2, np.float32), np.zeros(1, np.float32)], "x": np.ones(3, np.float32)}
    )
    assert isinstance(result, list)
    assert [item.tolist() for item in result] == [[1, 1], [0], [1, 1, 1]]


def test_optional_inputs(ort) -> None:
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    proto = model(
        [node("OptionalHasElement", ["x"], ["y"])],
        [helper.make_value_info("x", kind)],
        [value("y", [], TensorProto.BOOL)],
        opset=18,
    )
    session = ort.InferenceSession(proto.SerializeToString())
    (x,) = session.get_inputs()
    assert (x.type, x.shape) == ("optional(tensor(float))", [2])
    for feeds, expected in (({}, False), ({"x": None}, False), ({"x": np.ones(2, np.float32)}, True)):
        assert session.run(None, feeds)[0].item() is expected


def test_providers(ort) -> None:
    session = ort.InferenceSession(relu(), providers=[("CPUExecutionProvider", {"use_arena": 1})])
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_provider_options() == {"CPUExecutionProvider": {}}
    session.set_providers(["CPUExecutionProvider"], [{}])
    assert session.get_providers() == ["CPUExecutionProvider"]
    session.disable_fallback()
    session.enable_fallback()
    assert session.run(None, {"x": X})[0].shape == X.shape


def test_providers_that_are_not_available_are_warned_of(ort) -> None:
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available provider names"):
        session = ort.InferenceSession(relu(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unknown_providers_fall_back(ort) -> None:
    assert ort.InferenceSession(relu(), providers=["Foo"]).get_providers() == ["CPUExecutionProvider"]


def test_options_are_copied(ort) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(relu(), sess_options=options)
    options.intra_op_num_threads = 2
    assert session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("threads", [-1, 0, 1, 2])
def test_numbers_of_threads(ort, threads: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(relu(), options)
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], np.maximum(X, 0))


@pytest.mark.parametrize(
    "level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"]
)
def test_optimization_levels(ort, level: str) -> None:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.__members__[level]
    (y,) = ort.InferenceSession(add().SerializeToString(), options).run(None, {"x": ONE})
    np.testing.assert_array_equal(y, np.full((1, 2), 6))


def test_free_dimension_override(ort) -> None:
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_name("n", 4)
    session = ort.InferenceSession(add().SerializeToString(), options)
    assert [arg.shape for arg in (*session.get_inputs(), *session.get_outputs())] == [[4, 2], [4, 2]]
    assert session.run(None, {"x": np.ones((4, 2), np.float32)})[0].shape == (4, 2)


def test_optimized_model_is_written(ort, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(add().SerializeToString(), options)
    (y,) = ort.InferenceSession(options.optimized_model_filepath).run(None, {"x": ONE})
    np.testing.assert_array_equal(y, np.full((1, 2), 6))


def test_profile(ort, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.profile_file_prefix = str(tmp_path / "prof")
    session = ort.InferenceSession(relu(), options)
    session.run(None, {"x": X})
    path = session.end_profiling()
    assert os.path.basename(path).startswith("prof")
    events = json.loads(Path(path).read_text())
    (event,) = [e for e in events if e["cat"] == "Node" and e["name"] == "a_relu_kernel_time"]
    assert event["args"]["op_name"] == "Relu"
    assert event["args"]["provider"] == "CPUExecutionProvider"
    assert event["ph"] == "X"
    assert event["dur"] >= 0
    assert [e["name"] for e in events].count("model_run") == 1


@pytest.mark.parametrize(("level", "fused"), [("ORT_DISABLE_ALL", False), ("ORT_ENABLE_ALL", True)])
def test_optimization_level_decides_what_is_fused(ort, level: str, fused: bool, tmp_path: Path) -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    shapes = [value("x", [1, 3, 8, 8])], [value("y", [1, 4, 6, 6])]
    proto = model([node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])], *shapes, weights)
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "prof")
    options.graph_optimization_level = ort.GraphOptimizationLevel.__members__[level]
    session = ort.InferenceSession(proto.SerializeToString(), options)
    (y,) = session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})
    np.testing.assert_array_equal(y, np.full((1, 4, 6, 6), 27))
    events = json.loads(Path(session.end_profiling()).read_text())
    assert ("Relu" in [e["args"]["op_name"] for e in events if e["cat"] == "Node"]) is not fused


def test_no_profile_unless_asked(ort) -> None:
    assert ort.InferenceSession(relu()).end_profiling() == ""


def test_seed(ort) -> None:
    proto = model([node("RandomNormalLike", ["x"], ["y"])], [value("x", ["n"])], [value("y", ["n"])])
    x, drawn = np.zeros(8, np.float32), []
    for seed in (7, 7, 8):
        ort.set_seed(seed)
        drawn.append(ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


@pytest.fixture(autouse=True)
def _seed_only_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Random, "seeds", None)


def test_run_async(ort) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2  # ONNX Runtime needs a pool for it
    session = ort.InferenceSession(relu(), options)
    done, seen = threading.Event(), []

    def callback(results, user_data, error) -> None:
        seen.append((results, user_data, error))
        done.set()

    session.run_async(["y"], {"x": X}, callback, "mine")
    assert done.wait(10)
    ((results, user_data, error),) = seen
    assert (user_data, error) == ("mine", "")
    np.testing.assert_array_equal(results[0], np.maximum(X, 0))


def test_external_data(ort, tmp_path: Path) -> None:
    weights = {"w": np.full(2000, 5, np.float32)}
    proto = model([node("Add", ["x", "w"], ["y"])], [value("x", ["n", 2000])], [value("y", None)], weights)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    x = np.ones((1, 2000), np.float32)
    assert ort.InferenceSession(path).run(None, {"x": x})[0].sum() == 12000
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
    assert ort.InferenceSession(path.read_bytes(), options).run(None, {"x": x})[0].sum() == 12000


def test_many_threads_at_once(ort) -> None:
    session = ort.InferenceSession(relu())
    wrong = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((seed + 1, 3, 4), np.float32)
        for _ in range(20):
            if not np.array_equal(session.run(None, {"x": x})[0], np.maximum(x, 0)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_our_outputs_own_their_memory() -> None:
    session = tilewise.ort.InferenceSession(relu())
    first, second = session.run(["y", "y"], {"x": X})
    first[:] = -1
    np.testing.assert_array_equal(second, np.maximum(X, 0))


def test_our_initializers_are_overridden_by_lists() -> None:
    session = tilewise.ort.InferenceSession(add(overridable=True).SerializeToString())
    np.testing.assert_array_equal(session.run(None, {"x": ONE, "w": [2, 2]})[0], [[3, 3]])
