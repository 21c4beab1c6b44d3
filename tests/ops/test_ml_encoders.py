"""Operators of ai.onnx.ml between labels, categories, maps and tensors."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.ops.harness import one_node
from tests.ops.ml_harness import DOMAIN, check_ml, check_ort, check_refused, text
from tilewise import InferenceSession, TilewiseError, load

CATS = {"cats_strings": ["a", "b", "c"], "cats_int64s": [7, 8, -9]}


@pytest.mark.parametrize("attrs", [CATS, {**CATS, "default_int64": 4, "default_string": "?"}], ids=str)
@pytest.mark.parametrize(
    "x", [text("a", "z"), text(["c", "b"], ["", "a"]), np.array([7, 0, -9]), np.zeros(0, np.int64)], ids=str
)
def test_category_mapper(x, attrs):
    check_ort("CategoryMapper", [x], attrs)


@pytest.mark.parametrize("x", [text("b", "z"), np.array([[0, 1], [2, -1]]), np.array(1)], ids=str)
@pytest.mark.parametrize("default", [{}, {"default_int64": 9, "default_string": "?"}], ids=str)
def test_label_encoder_1(x, default):
    check_ort("LabelEncoder", [x], {"classes_strings": ["a", "b"], **default})


TWO = [
    (text("Dori", "Amy", "Amy"), {"keys_strings": ["Amy", "Sally"], "values_int64s": [5, 6]}),
    (text("x", "y"), {"keys_strings": ["y"], "values_strings": ["z"], "default_string": "?"}),
    (text("x", "y"), {"keys_strings": ["y"], "values_floats": [0.5], "default_float": np.inf}),
    (np.array([[3, 1], [2, 9]]), {"keys_int64s": [9, 2, 3], "values_strings": ["n", "b", "c"]}),
    (np.array(3), {"keys_int64s": [9, 2, 3], "values_floats": [0.5, 1.5, 2.5]}),
    (np.array([3, 4]), {"keys_int64s": [4], "values_int64s": [-4], "default_int64": 0}),
    (np.float32([-0.0, 1.5, np.inf]), {"keys_floats": [0.0, 1.5], "values_strings": ["zero", "one"]}),
    (np.float32([0.1, 2]), {"keys_floats": [0.1], "values_int64s": [3]}),
]


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(("x", "attrs"), TWO)
def test_label_encoder_2(x, attrs, version):
    check_ort("LabelEncoder", [x], attrs, version=version)


@pytest.mark.parametrize("version", [2, 4])
def test_label_encoder_finds_nan_and_the_last_of_equal_keys(version):
    x = np.float32([np.nan, -np.nan, 1, 2])
    attrs = {"keys_floats": [1.0, float("nan"), 1.0], "values_int64s": [5, 6, 7]}
    expected = np.array([6, 6, 7, -1])
    check_ml("LabelEncoder", [x], attrs, version=version, oracle=lambda _: expected)
    attrs = {"keys_strings": ["a", "a"], "values_strings": ["first", "last"]}
    check_ml("LabelEncoder", [text("a")], attrs, version=version, oracle=lambda _: text("last"))


TENSORS = [
    (np.array([1, 2], np.int16), np.array([0.5]), None, np.array([0.5, -0.0])),
    (np.array([1, 2], np.int32), np.array([5], np.int32), None, np.array([5, -1], np.int32)),
    (np.array([1, 2.5]), np.array([5], np.int16), np.array([9], np.int16), np.array([5, 9], np.int16)),
    (np.float32([1, 2]), text("one"), None, text("one", "_Unused")),
    (text("1", "2"), np.array([1.5]), np.array([np.inf]), np.array([1.5, np.inf])),
]


@pytest.mark.parametrize(("x", "values", "default", "expected"), TENSORS)
def test_label_encoder_4_with_tensors(x, values, default, expected):
    tensors = {"keys_tensor": x[:1], "values_tensor": values, "default_tensor": default}
    attrs = {name: numpy_helper.from_array(a, name) for name, a in tensors.items() if a is not None}
    check_ml("LabelEncoder", [x], attrs, version=4, oracle=lambda _: expected)


HOT = [
    (np.array([1, 2, 7]), {"cats_int64s": [1, 7]}),
    (np.array([[1, 2], [7, 7]]), {"cats_int64s": [1, 7]}),
    (np.array(7), {"cats_int64s": [1, 7]}),
    (np.float32([1.5, 2, -7.9]), {"cats_int64s": [1, -7, 3]}),
    (np.array([1.0, 7]), {"cats_int64s": [1, 7], "zeros": 0}),
    (text("a", "c", "z"), {"cats_strings": ["c", "a"]}),
    (np.array([1, 7]), {"cats_int64s": [1, 7, 7]}),
]


@pytest.mark.parametrize(("x", "attrs"), HOT)
def test_one_hot_encoder(x, attrs):
    check_ort("OneHotEncoder", [x], attrs)


def test_one_hot_encoder_of_int32():
    expected = np.float32([[0, 1], [0, 0]])
    check_ml(
        "OneHotEncoder", [np.array([7, 2], np.int32)], {"cats_int64s": [1, 7]}, oracle=lambda _: expected
    )


def test_one_hot_encoder_of_nothing():
    check_ml(
        "OneHotEncoder",
        [np.zeros((0, 2), np.int64)],
        {"cats_int64s": [1, 7, 9]},
        oracle=lambda _: np.zeros((0, 2, 3), np.float32),
    )


def test_one_hot_encoder_refuses_an_unknown_category():
    model = load(one_node("OneHotEncoder", [np.array([1])], {"cats_int64s": [1], "zeros": 0}, domain=DOMAIN))
    with pytest.raises(TilewiseError, match="8"):
        model(np.array([8]))


# Maps.

ONNX_TYPES = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE, "int64": TensorProto.INT64}
ONNX_TYPES["string"] = TensorProto.STRING


def map_model(op_type: str, key: str, value: str, attrs: dict) -> onnx.ModelProto:
    tensor = helper.make_tensor_type_proto(ONNX_TYPES[value], None)
    feed = helper.make_value_info("x", helper.make_map_type_proto(ONNX_TYPES[key], tensor))
    node = helper.make_node(op_type, ["x"], ["y"], domain=DOMAIN, **attrs)
    graph = helper.make_graph([node], "map", [feed], [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def assert_map_case(op_type, key, value, attrs, x, expected):
    model = load(map_model(op_type, key, value, attrs))
    assert model.inputs[0].kind == "map"
    for m in (model, pickle.loads(pickle.dumps(model))):
        y = m(x)
        assert y.dtype == expected.dtype
        assert y.shape == expected.shape
        assert y.tolist() == expected.tolist()


VECTORS = [
    ("string", "int64", {"a": 4, "c": 8}, ["a", "c", "b", "z"], np.array([[4, 8, 0, 0]])),
    ("string", "float", {"c": 0.5}, ["a", "c"], np.float32([[0, 0.5]])),
    ("string", "double", {"c": 0.1}, ["a", "c"], np.array([[0, 0.1]])),
    ("int64", "float", {np.int64(3): np.float32(2.5)}, [3, 4], np.float32([[2.5, 0]])),
    ("int64", "double", {}, [3, 4], np.zeros((1, 2))),
    ("int64", "string", {4: "é"}, [3, 4], text(["", "é"])),
    ("string", "float", {"a": 1.0, "unknown": 2.0}, ["a"], np.float32([[1]])),
]


@pytest.mark.parametrize(("key", "value", "x", "vocabulary", "expected"), VECTORS)
def test_dict_vectorizer(key, value, x, vocabulary, expected):
    assert_map_case("DictVectorizer", key, value, {f"{key}_vocabulary": vocabulary}, x, expected)


CASTS = [
    ("float", {"cast_to": "TO_FLOAT"}),
    ("float", {"cast_to": "TO_INT64"}),
    ("float", {"cast_to": "TO_STRING"}),
    ("float", {"cast_to": "TO_FLOAT", "map_form": "SPARSE", "max_map": 5}),
    ("float", {"cast_to": "TO_INT64", "map_form": "SPARSE", "max_map": 4}),
    ("float", {"cast_to": "TO_STRING", "map_form": "SPARSE", "max_map": 6}),
]


@pytest.mark.parametrize(("value", "attrs"), CASTS)
def test_cast_map_as_in_onnxruntime(value, attrs):
    x = {3: 4.75, 0: -2.5, 1: 1e10}
    session = onnxruntime.InferenceSession(map_model("CastMap", "int64", value, attrs).SerializeToString())
    assert_map_case("CastMap", "int64", value, attrs, x, session.run(None, {"x": x})[0])


def test_cast_map_of_strings():
    x = {5: "1.5", 2: "-3"}
    assert_map_case("CastMap", "int64", "string", {}, x, np.float32([[-3, 1.5]]))
    assert_map_case("CastMap", "int64", "string", {"cast_to": "TO_STRING"}, x, text(["-3", "1.5"]))
    assert_map_case("CastMap", "int64", "string", {"cast_to": "TO_INT64"}, {1: "7"}, np.array([[7]]))
    assert_map_case("CastMap", "int64", "float", {}, {}, np.zeros((1, 0), np.float32))


@pytest.mark.parametrize("key", [-1, 3])
def test_cast_map_refuses_a_key_outside(key):
    model = load(map_model("CastMap", "int64", "float", {"map_form": "SPARSE", "max_map": 3}))
    with pytest.raises(TilewiseError, match=rf"key {key} is outside \[0, 3\)"):
        model({1: 1.0, key: 2.0})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0], "expected a mapping, got list"),
        ({"a": 1.0}, "expected Integral as key, got 'a'"),
        ({1: "a"}, "expected Real as value, got 'a'"),
        ({True: 1.0}, "expected Integral as key, got True"),
    ],
)
def test_maps_are_checked(x, message):
    model = load(map_model("CastMap", "int64", "float", {}))
    with pytest.raises(TilewiseError) as raised:
        model(x)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "labels", [{"classlabels_strings": ["a", "b"]}, {"classlabels_int64s": [3, -1]}], ids=str
)
@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (2,), (0, 2)])
def test_zip_map(shape, labels):
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    model = load(one_node("ZipMap", [x], labels, domain=DOMAIN))
    assert str(model.graph.facts.get("y0")) == "None"
    keys = next(iter(labels.values()))
    assert model(x) == [dict(zip(keys, row.tolist(), strict=True)) for row in x.reshape(-1, 2)]


def test_a_map_in_a_session():
    proto = map_model("DictVectorizer", "string", "float", {"string_vocabulary": ["a", "b"]})
    ours, theirs = (
        InferenceSession(proto.SerializeToString()),
        onnxruntime.InferenceSession(proto.SerializeToString()),
    )
    assert ours.get_inputs()[0].type == theirs.get_inputs()[0].type
    x = {"x": {"b": 2.5}}
    np.testing.assert_array_equal(ours.run(None, x)[0], theirs.run(None, x)[0])


def test_the_maps_of_a_classifier_in_a_session():
    x = np.array([[1, -2], [3, 0.5]], np.float32)
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain=DOMAIN,
            coefficients=[0.5, 0.25, -1.0, 2.0],
            intercepts=[0.5, -0.5],
            classlabels_strings=["yes", "no"],
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["maps"], domain=DOMAIN, classlabels_strings=["yes", "no"]),
    ]
    feed = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])
    outputs = [onnx.ValueInfoProto(name=name) for name in ("label", "maps")]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph(nodes, "classifier", [feed], outputs)
    data = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    ours, theirs = InferenceSession(data), onnxruntime.InferenceSession(data)
    assert [o.type for o in ours.get_outputs()] == [o.type for o in theirs.get_outputs()]
    (labels, maps), (expected, wanted) = (session.run(None, {"x": x}) for session in (ours, theirs))
    assert labels.tolist() == expected.tolist()
    for mine, other in zip(maps, wanted, strict=True):
        assert mine == pytest.approx(other, rel=1e-6)


INTS = np.array([1])
ERRORS = [
    ("CategoryMapper", [INTS], {"cats_strings": ["a"]}, 1, "as many cats_int64s as cats_strings, got [0, 1]"),
    ("LabelEncoder", [INTS], {"keys_int64s": [1]}, 2, "values_floats, values_tensor, got none"),
    (
        "LabelEncoder",
        [INTS],
        {"keys_int64s": [1], "values_floats": [1.0, 2]},
        2,
        "as many keys as values, got 1 and 2",
    ),
    (
        "LabelEncoder",
        [INTS],
        {"keys_strings": ["1"], "values_floats": [1.0]},
        2,
        "expected string like the keys",
    ),
    ("OneHotEncoder", [INTS], {}, 1, "cats_int64s, cats_strings, got none"),
    (
        "OneHotEncoder",
        [INTS],
        {"cats_strings": ["1"]},
        1,
        "expected strings like the categories, got int64[1]",
    ),
    (
        "ZipMap",
        [np.zeros((1, 3), np.float32)],
        {"classlabels_int64s": [1]},
        1,
        "expected 1 features, got float32[1, 3]",
    ),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "version", "message"), ERRORS)
def test_errors(op, inputs, attrs, version, message):
    check_refused(op, inputs, attrs, message, version=version)


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("CastMap", {"cast_to": "TO_BOOL"}, "'cast_to' = 'TO_BOOL', expected one of TO_FLOAT"),
        ("CastMap", {"map_form": "THIN"}, "'map_form' = 'THIN', expected one of DENSE, SPARSE"),
        ("CastMap", {"map_form": "SPARSE", "max_map": 0}, "'max_map' = 0, expected 1 or more"),
        ("DictVectorizer", {"string_vocabulary": ["a"]}, "expected keys of type string like the vocabulary"),
    ],
)
def test_errors_of_maps(op, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(map_model(op, "int64", "float", attrs))
    assert message in str(raised.value)
