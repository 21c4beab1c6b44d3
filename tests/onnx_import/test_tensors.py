"""Initializers in every form in which ONNX stores tensors."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_import.models import floats, holding, parse, proto
from tilewise import ModelError
from tilewise.onnx.load import load_graph

NUMERIC = sorted(set(TensorProto.DataType.keys()) - {"UNDEFINED", "STRING"})


def load_weight(tensor: onnx.TensorProto) -> np.ndarray:
    return load_graph(holding(tensor).SerializeToString()).initializers["w"]


def sample(elem_type: int, shape: tuple[int, ...]) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    values = np.random.default_rng(elem_type).integers(0, 2, shape) + 1
    negative = dtype.kind in "ifc" or dtype.name == "int2"
    return (values * (-1 if negative else 1)).astype(np.float32).astype(dtype)


@pytest.mark.parametrize("shape", [(3, 5), (), (1,), (0, 4), (7,)])
@pytest.mark.parametrize("name", NUMERIC)
def test_raw_data(name: str, shape: tuple[int, ...]) -> None:
    elem_type = TensorProto.DataType.Value(name)
    want = sample(elem_type, shape)
    tensor = numpy_helper.from_array(want)
    assert tensor.HasField("raw_data")
    got = load_weight(tensor)
    assert got.dtype == want.dtype
    assert got.shape == shape
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("shape", [(3, 5), (), (7,)])
@pytest.mark.parametrize("name", NUMERIC)
def test_typed_fields(name: str, shape: tuple[int, ...]) -> None:
    elem_type = TensorProto.DataType.Value(name)
    want = sample(elem_type, shape)
    tensor = helper.make_tensor("w", elem_type, shape, want.ravel())
    assert not tensor.HasField("raw_data")
    got = load_weight(tensor)
    assert got.dtype == want.dtype
    assert got.tolist() == want.tolist()


def test_negative_values_of_small_types_survive_the_int32_field() -> None:
    tensor = helper.make_tensor("w", TensorProto.INT8, (3,), np.array([-128, -1, 127], np.int8))
    assert load_weight(tensor).tolist() == [-128, -1, 127]
    tensor = helper.make_tensor("w", TensorProto.INT4, (3,), np.array([-8, -1, 7], ml_dtypes.int4))
    assert load_weight(tensor).astype(int).tolist() == [-8, -1, 7]


def test_strings_are_objects() -> None:
    got = load_weight(helper.make_tensor("w", TensorProto.STRING, (2, 1), [b"a", "\u00e9".encode()]))
    assert got.dtype == object
    assert got.tolist() == [["a"], ["\u00e9"]]


def test_string_that_is_not_utf8() -> None:
    with pytest.raises(ModelError, match=r"initializer 'w': element 0: expected UTF-8"):
        load_weight(helper.make_tensor("w", TensorProto.STRING, (1,), [b"\xff"]))


def sparse_model(indices: np.ndarray, dims: list[int], values: list[float]) -> bytes:
    model = proto([helper.make_node("Identity", ["w"], ["y"])])
    tensor = numpy_helper.from_array(np.array(values, np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(tensor, numpy_helper.from_array(indices), dims)
    )
    return model.SerializeToString()


@pytest.mark.parametrize("indices", [np.array([1, 5]), np.array([[0, 1], [1, 2]])])
def test_sparse_initializers_become_dense(indices: np.ndarray) -> None:
    graph = load_graph(sparse_model(indices, [2, 3], [1.5, 2.5]))
    np.testing.assert_array_equal(graph.initializers["w"], [[0, 1.5, 0], [0, 0, 2.5]])


@pytest.mark.parametrize(
    ("indices", "dims", "words"),
    [
        (np.array([1, 6]), [2, 3], r"sparse initializer 'w'.*indices inside dims \[2, 3\]"),
        (np.array([1, -1]), [2, 3], r"indices inside dims"),
        (np.array([[0, 1], [2, 0]]), [2, 3], r"indices inside dims"),
        (np.array([1]), [2, 3], r"indices of shape \[2\] or \[2, 2\], got \[1\]"),
        (np.array([0, 1], np.int32), [2, 3], r"int64 indices, got 1 and int32"),
        (np.array([0, 1]), [1 << 20, 1 << 20], r"at most \d+ bytes when dense"),
    ],
)
def test_bad_sparse_initializers(indices: np.ndarray, dims: list[int], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(sparse_model(indices, dims, [1.0, 2.0]))


def test_constant_nodes_become_initializers() -> None:
    graph = load_graph(
        parse(
            """g () => (float a, int64[2] b, string c, float[2] d, int64 e, string[1] f, float[1] h) {
                a = Constant <value_float = 1.5> ()
                b = Constant <value_ints = [3, 4]> ()
                c = Constant <value_string = "s"> ()
                d = Constant <value_floats = [1.0, 2.0]> ()
                e = Constant <value_int = 7> ()
                f = Constant <value_strings = ["t"]> ()
                h = Constant <value = float[1] {2.5}> ()
            }"""
        )
    )
    assert graph.nodes == []
    assert {n: (a.dtype.name, a.tolist()) for n, a in graph.initializers.items()} == {
        "a": ("float32", 1.5),
        "b": ("int64", [3, 4]),
        "c": ("object", "s"),
        "d": ("float32", [1.0, 2.0]),
        "e": ("int64", 7),
        "f": ("object", ["t"]),
        "h": ("float32", [2.5]),
    }


def test_sparse_constant() -> None:
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([3.0], np.float32), "v"),
        numpy_helper.from_array(np.array([2])),
        [4],
    )
    model = proto([helper.make_node("Constant", [], ["y"], sparse_value=sparse)])
    assert load_graph(model).initializers["y"].tolist() == [0, 0, 3, 0]


@pytest.mark.parametrize(
    ("attrs", "words"),
    [
        ({}, r"node 'k' \(Constant\): expected .* one attribute"),
        ({"value_int": 1, "value_float": 1.0}, r"attributes \['value_float', 'value_int'\]"),
        ({"value_int": 1.0}, r"'value_int' holding float"),
        ({"unheard": 1}, r"expected one of value.*got 'unheard'"),
    ],
)
def test_bad_constant_nodes(attrs: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_graph(proto([helper.make_node("Constant", [], ["y"], name="k", **attrs)]))


def damaged(**fields) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros((2, 3), np.float32))
    for name, value in fields.items():
        if name == "dims":
            tensor.dims[:] = value
        elif isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return tensor


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dims": [2, -3]}, r"initializer 'w': expected dims >= 0, got \[2, -3\]"),
        ({"dims": [1 << 40, 1 << 40]}, r"initializer 'w': expected at most \d+ elements"),
        ({"dims": [1 << 30, 4]}, r"expected 17179869184 bytes of raw_data .* got 24"),
        ({"raw_data": b"\0" * 23}, r"expected 24 bytes of raw_data for float32\[2, 3\], got 23"),
        ({"data_type": 0}, r"initializer 'w': expected an element type, got none"),
        ({"data_type": 99}, r"initializer 'w': expected a known element type, got 99"),
        ({"data_type": TensorProto.STRING}, r"expected strings in string_data, got raw_data"),
        ({"float_data": [1.0]}, r"expected one data field, got float_data and raw_data"),
        ({"data_type": TensorProto.INT4}, r"expected 3 bytes of raw_data for int4\[2, 3\], got 24"),
    ],
)
def test_bad_tensors(fields: dict, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_weight(damaged(**fields))


def test_typed_field_of_another_length() -> None:
    tensor = TensorProto(data_type=TensorProto.INT64, dims=[3], int64_data=[1, 2])
    with pytest.raises(ModelError, match=r"expected 3 values in int64_data for int64\[3\], got 2"):
        load_weight(tensor)


def test_segment_is_refused() -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32))
    tensor.segment.begin = 1
    with pytest.raises(ModelError, match="segment"):
        load_weight(tensor)


def test_initializer_must_fit_the_input_that_it_is_a_default_of() -> None:
    model = holding(numpy_helper.from_array(np.zeros((2, 3), np.float32)))
    model.graph.input.append(floats("w", 2, 4))
    with pytest.raises(ModelError, match=r"initializer 'w': expected float32\[2, 4\].* got float32\[2, 3\]"):
        load_graph(model)
