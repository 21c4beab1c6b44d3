"""Which exception each mistake ends in, and the key words of its text, in both modules."""

from __future__ import annotations

import builtins
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewise
from tests.ort.models import FLOAT, INT64, add, model, node, relu, value
from tilewise import TilewiseError
from tilewise.ort.capi import onnxruntime_pybind11_state as state

X = np.ones((2, 3, 4), np.float32)


def expected_type(ort, name: str) -> type[BaseException]:
    return getattr(ort.capi.onnxruntime_pybind11_state, name, None) or getattr(builtins, name)


def assert_raises(ort, name: str, words: str, call: Callable[[], object]) -> None:
    with pytest.raises(expected_type(ort, name), match=words) as info:
        call()
    if ort.__name__ == "tilewise.ort" and name != "AttributeError":
        assert isinstance(info.value, TilewiseError)


RUNS = {
    "missing": ("ValueError", r"Required inputs \(\['x'\]\) are missing from input feed \(\[\]\)", {}),
    "misspelt": (
        "ValueError",
        r"Required inputs \(\['x'\]\) are missing from input feed \(\['X'\]\)",
        {"X": X},
    ),
    "extra": ("InvalidArgument", "INVALID_ARGUMENT : Invalid input name: z", {"x": X, "z": X}),
    "float64": (
        "InvalidArgument",
        r"Unexpected input data type. Actual: \(tensor\(double\)\) , expected: \(tensor\(float\)\)",
        {"x": X.astype(np.float64)},
    ),
    "strings": ("InvalidArgument", r"Actual: \(tensor\(string\)\) , expected", {"x": X.astype(str)}),
    "rank": ("InvalidArgument", "Invalid rank for input: x Got: 2 Expected: 3 Please fix", {"x": X[0]}),
    "rank of a list": ("InvalidArgument", "Invalid rank for input: x Got: 1 Expected: 3", {"x": [1, 2]}),
    "dims": (
        "InvalidArgument",
        r"Got invalid dimensions for input: x for the following indices\s+index: 1 Got: 2 Expected: 3\s+"
        r"index: 2 Got: 5 Expected: 4\s+Please fix",
        {"x": np.ones((2, 2, 5), np.float32)},
    ),
    "ragged": ("RuntimeError", "Could not create tensor from given input list", {"x": [[[1, 2]], [[1]]]}),
    "words": ("RuntimeError", "Could not create tensor from given input list", {"x": ["a"]}),
    "tuple": (
        "RuntimeError",
        "Input must be a list of dictionaries or a single numpy array for input 'x'",
        {"x": (1,)},
    ),
    "text": ("RuntimeError", "Input must be a list of dictionaries or a single numpy array", {"x": "abc"}),
    "number": ("RuntimeError", "Unable to handle object of type <class 'float'>", {"x": 1.0}),
    "dict": ("InvalidArgument", "Unexpected input data type. Actual: .*map", {"x": {"a": 1.0}}),
    "dates": ("RuntimeError", "can't be converted", {"x": np.zeros((2, 3, 4), "M8[s]")}),
    "none": ("Fail", "Missing Input: x", {"x": None}),
    "name": ("TypeError", "incompatible function arguments", {"x": X, 1: X}),
    "list": ("AttributeError", "keys", [X]),
}


@pytest.mark.parametrize(("name", "words", "feeds"), RUNS.values(), ids=RUNS)
def test_feeds(ort, name: str, words: str, feeds) -> None:
    session = ort.InferenceSession(relu())
    assert_raises(ort, name, words, lambda: session.run(None, feeds))
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], X)


@pytest.mark.parametrize(
    ("name", "words", "outputs"),
    [
        ("InvalidArgument", "Invalid output name:q", ["q"]),
        ("TypeError", "incompatible function arguments", "y"),
        ("TypeError", "incompatible function arguments", [1]),
    ],
)
def test_output_names(ort, name: str, words: str, outputs) -> None:
    session = ort.InferenceSession(relu())
    assert_raises(ort, name, words, lambda: session.run(outputs, {"x": X}))


def test_initializers_that_cannot_be_overridden(ort) -> None:
    x, w = np.ones((1, 2), np.float32), np.ones(2, np.float32)
    for proto in (add(), add(overridable=True, ir_version=3)):
        session = ort.InferenceSession(proto.SerializeToString())
        assert_raises(
            ort, "InvalidArgument", "Invalid input name: w", lambda s=session: s.run(None, {"x": x, "w": w})
        )


def test_override_of_another_shape(ort) -> None:
    session = ort.InferenceSession(add(overridable=True).SerializeToString())
    feeds = {"x": np.ones((1, 2), np.float32), "w": np.ones(3, np.float32)}
    assert_raises(ort, "InvalidArgument", "invalid dimensions for input: w", lambda: session.run(None, feeds))


def test_sequences(ort) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, ["q"])
    proto = model(
        [node("SequenceAt", ["s", "i"], ["y"])], [sequence, value("i", [], INT64)], [value("y", None)]
    )
    session = ort.InferenceSession(proto.SerializeToString())
    i, item = np.array(0), np.ones(2, np.float32)
    for name, words, fed in (
        ("InvalidArgument", "input with name: 's' expected to be .* received a tensor", item),
        (
            "RuntimeError",
            "should be given as array for input 's'|expected a list of arrays for input 's'",
            (item,),
        ),
        ("RuntimeError", "tensor to be added has a different data type", [np.ones(2)]),
        ("RuntimeError", "Input is not a tensor", [[1.0]]),
    ):
        assert_raises(ort, name, words, lambda fed=fed: session.run(None, {"s": fed, "i": i}))


def test_shapes_that_meet_only_when_running(ort) -> None:
    proto = model(
        [node("MatMul", ["a", "b"], ["y"])],
        [value("a", ["i", "j"]), value("b", ["k", "l"])],
        [value("y", None)],
    )
    session = ort.InferenceSession(proto.SerializeToString())
    a = np.ones((3, 2), np.float32)
    assert_raises(
        ort,
        "Fail",
        "(?s)Non-zero status code returned while running.*MatMul",
        lambda: session.run(None, {"a": a, "b": a}),
    )
    assert session.run(None, {"a": a, "b": a.T})[0].shape == (3, 3)


def test_terminated_run(ort) -> None:
    session, options = ort.InferenceSession(relu()), ort.RunOptions()
    options.terminate = True
    assert_raises(
        ort,
        "Fail",
        "Exiting due to terminate flag being set to true",
        lambda: session.run(None, {"x": X}, options),
    )


@pytest.mark.parametrize(
    ("source", "name"),
    [(None, "NoneType"), (bytearray(b"x"), "bytearray"), (onnx.ModelProto(), "ModelProto")],
)
def test_sources_of_other_types(ort, source, name: str) -> None:
    assert_raises(
        ort, "TypeError", f"Unable to load from type .*{name}", lambda: ort.InferenceSession(source)
    )


def test_missing_file(ort) -> None:
    for path in ("nowhere/m.onnx", Path("nowhere/m.onnx")):
        words = "3 : NO_SUCHFILE : Load model from nowhere/m.onnx failed:.*File doesn't exist"
        assert_raises(ort, "NoSuchFile", words, lambda path=path: ort.InferenceSession(path))


def with_(change: Callable[[onnx.ModelProto], object]) -> bytes:
    proto = onnx.load_from_string(relu())
    change(proto)
    return proto.SerializeToString()


def one(op_type: str, elem: int = FLOAT, opset: int = 17, **attrs) -> bytes:
    shape = ["n", "m"]
    proto = model(
        [node(op_type, ["x"], ["y"], **attrs)],
        [value("x", shape, elem)],
        [value("y", shape, elem)],
        opset=opset,
    )
    return proto.SerializeToString()


def two(a: onnx.ValueInfoProto, b: onnx.ValueInfoProto, out: onnx.ValueInfoProto) -> bytes:
    return model([node("Add", [a.name, b.name], [out.name])], [a, b], [out]).SerializeToString()


def in_domain(proto: onnx.ModelProto, declared: bool) -> None:
    proto.graph.node[0].domain = "foo.bar"
    if declared:
        proto.opset_import.add(domain="foo.bar", version=1)


def cycle() -> bytes:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"])]
    return model(nodes, [value("x", [1])], [value("b", [1])]).SerializeToString()


def short_weight() -> bytes:
    proto = add()
    proto.graph.initializer[0].raw_data = b"123"
    return proto.SerializeToString()


LOADS = {
    "truncated": ("InvalidProtobuf", "INVALID_PROTOBUF : .*rotobuf parsing failed", relu()[:-20]),
    "garbage": ("InvalidProtobuf", "rotobuf parsing failed", b"hello world" * 20),
    "empty": ("InvalidArgument", "No graph was found in the protobuf", b""),
    "no graph": ("InvalidArgument", "No graph was found", onnx.ModelProto(ir_version=8).SerializeToString()),
    "no opset": ("Fail", "opset", with_(lambda m: m.ClearField("opset_import"))),
    "future opset": ("Fail", "(?i)opset 99", with_(lambda m: setattr(m.opset_import[0], "version", 99))),
    "future IR": ("Fail", "(?i)IR version:? 99", with_(lambda m: setattr(m, "ir_version", 99))),
    "unknown operator": ("InvalidGraph", "No Op registered for Foo with domain_version of 17", one("Foo")),
    "unknown domain": (
        "Fail",
        "foo.bar:Relu.* is not a registered function/op",
        with_(lambda m: in_domain(m, True)),
    ),
    "undeclared domain": (
        "InvalidGraph",
        "No opset import for domain 'foo.bar'",
        with_(lambda m: in_domain(m, False)),
    ),
    "later operator": ("InvalidGraph", "No Op registered for Mish with domain_version of 17", one("Mish")),
    "old operator": ("NotImplemented", r"Could not find an implementation for Relu\b", one("Relu", opset=5)),
    "unknown attribute": (
        "InvalidGraph",
        "Unrecognized attribute: foo for operator Relu",
        one("Relu", foo=1),
    ),
    "attribute type": (
        "InvalidGraph",
        "Mismatched attribute type in 'a_softmax : axis'",
        one("Softmax", axis=1.5),
    ),
    "missing attribute": ("InvalidGraph", "Required attribute 'to' is missing", one("Cast")),
    "too few inputs": ("InvalidGraph", r"has input size 1 not in range", one("Add")),
    "no op_type": ("InvalidGraph", "Field 'op_type' of 'node' is required to be non-empty", one("")),
    "deprecated": ("InvalidGraph", "is deprecated in domain_version of 17", one("Upsample")),
    "type not allowed": (
        "InvalidGraph",
        r"(?s)Elu.*tensor\(int32\)|tensor\(int32\).*Elu",
        one("Elu", TensorProto.INT32),
    ),
    "types differ": (
        "Fail",
        r"tensor\(float\) and tensor\(int64\)",
        two(value("a", [1]), value("b", [1], INT64), value("y", [1])),
    ),
    "declared type": (
        "Fail",
        "a_relu",
        with_(lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", INT64)),
    ),
    "shapes differ": ("Fail", r"a_add", two(value("a", [2]), value("b", [3]), value("y", [2]))),
    "bad perm": ("Fail", "a_transpose", one("Transpose", perm=[0, 5])),
    "cycle": ("Fail", "This is an invalid model. .*cycl", cycle()),
    "made twice": (
        "Fail",
        "(?s)invalid model.*[('\"]y[)'\"]",
        with_(lambda m: m.graph.node.append(node("Abs", ["x"], ["y"]))),
    ),
    "untyped input": ("Fail", "[('\"]x[)'\"]", with_(lambda m: m.graph.input[0].ClearField("type"))),
    "short weight": ("Fail", "'w'.*3", short_weight()),
}


@pytest.mark.parametrize(("name", "words", "data"), LOADS.values(), ids=LOADS)
def test_models(ort, name: str, words: str, data: bytes, tmp_path: Path) -> None:
    assert_raises(ort, name, words, lambda: ort.InferenceSession(data))
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert_raises(ort, name, words, lambda: ort.InferenceSession(str(path)))


def test_external_data(ort, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(add(), folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (folder / "w.bin").write_bytes(b"123")
    assert_raises(ort, "Fail", "w", lambda: ort.InferenceSession(folder / "m.onnx"))
    (folder / "w.bin").unlink()
    assert_raises(ort, "Fail", r"w\.bin", lambda: ort.InferenceSession(folder / "m.onnx"))
    escaping = onnx.load(folder / "m.onnx", load_external_data=False)
    escaping.graph.initializer[0].external_data[0].value = "../w.bin"
    (tmp_path / "w.bin").write_bytes(np.ones(2, np.float32).tobytes())
    (folder / "m.onnx").write_bytes(escaping.SerializeToString())
    assert_raises(ort, "Fail", r"\.\./w\.bin", lambda: ort.InferenceSession(folder / "m.onnx"))


def test_options_of_another_type(ort) -> None:
    assert_raises(
        ort,
        "TypeError",
        "incompatible constructor arguments",
        lambda: ort.InferenceSession(relu(), sess_options=5),
    )
    session = ort.InferenceSession(relu())
    assert_raises(ort, "TypeError", "incompatible function arguments", lambda: session.run(None, {"x": X}, 5))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "words", "providers", "options"),
    [
        ("RuntimeError", "Unknown Provider Type: Foo", ["Foo"], None),
        ("ValueError", "'providers' values must be either strings", [5], None),
        ("ValueError", "same length", ["CPUExecutionProvider"], []),
        ("ValueError", "Only string values", [("CPUExecutionProvider", {})], [{}]),
        ("ValueError", "must be dicts", ["CPUExecutionProvider"], [5]),
    ],
)
def test_providers_without_fallback(ort, name: str, words: str, providers, options) -> None:
    assert_raises(
        ort, name, words, lambda: ort.InferenceSession(relu(), None, providers, options, enable_fallback=0)
    )


def test_exceptions_are_distinct_types(ort) -> None:
    names = (
        "EPFail EngineError Fail InvalidArgument InvalidGraph InvalidProtobuf ModelLoaded NoModel NoSuchFile"
    )
    theirs = ort.capi.onnxruntime_pybind11_state
    types = [getattr(theirs, name) for name in (*names.split(), "NotImplemented", "RuntimeException")]
    for one_type in types:
        assert issubclass(one_type, Exception)
        assert [other for other in types if issubclass(other, one_type)] == [one_type]
        assert re.search("boom", str(one_type("boom")))


def test_ours_are_tilewise_errors_that_pickle() -> None:
    error = state.InvalidArgument.of("why")
    assert isinstance(error, TilewiseError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (
        state.InvalidArgument,
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : why",
    )


def test_ours_name_every_unsupported_node() -> None:
    nodes = [node("Foo", ["x"], ["a"]), node("Bar", ["a"], ["y"])]
    proto = model(nodes, [value("x", [1])], [value("y", [1])])
    with pytest.raises(TilewiseError, match=r"(?s)a_foo.*a_bar"):
        tilewise.InferenceSession(proto.SerializeToString())


def test_damage_that_the_diagnosis_itself_meets() -> None:
    """Text that is not UTF-8, and a version beyond 32 bits."""
    for data in (
        relu().replace(b"a_relu", b"a_\xa7elu"),
        with_(lambda m: setattr(m.opset_import[0], "version", 1 << 40)),
    ):
        with pytest.raises(TilewiseError):
            tilewise.InferenceSession(data)


def test_what_only_passes_find() -> None:
    node_ = helper.make_node("Gradient", ["x"], ["g"], domain="ai.onnx.preview.training", xs=["x"], y="y")
    proto = model([node("Erf", ["x"], ["y"]), node_], [value("x", [1])], [value("g", [1])])
    proto.opset_import.add(domain="ai.onnx.preview.training", version=1)
    with pytest.raises(state.NotImplemented, match="a_erf"):
        tilewise.InferenceSession(proto.SerializeToString())
