"""The reader of protobuf's wire format against Google's: the same messages, `DecodeError` for damage."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError as GoogleError
from onnx import TensorProto, helper

from tests.onnx_import.models import classifier
from tilewise.onnx import messages
from tilewise.onnx.protobuf import MAX_DEPTH, DecodeError, Message, parse

DATA = classifier().SerializeToString()


def read(data: bytes, cls: type[Message] = messages.ModelProto) -> Message:
    return parse(cls, memoryview(data))


def assert_same(ours: Message, theirs) -> None:
    """Every field that ours knows, at any depth, has the value that Google's library finds."""
    assert not ours.ONEOF or ours.WhichOneof("value") == theirs.WhichOneof("value")
    for name, kind in ours.FIELDS.values():
        a, b = getattr(ours, name), getattr(theirs, name)
        if kind.startswith("numbers "):
            np.testing.assert_array_equal(np.array(a), np.array(b, kind.removeprefix("numbers ")))
        elif kind.startswith("repeated "):
            assert len(a) == len(b), name
            for x, y in zip(a, b, strict=True):
                assert_same_value(x, y, name)
        else:
            assert ours.HasField(name) == theirs.HasField(name), name
            if ours.HasField(name):
                assert_same_value(a, b, name)


def assert_same_value(ours, theirs, name: str) -> None:
    if isinstance(ours, Message):
        assert_same(ours, theirs)
    elif isinstance(ours, float):
        assert np.float64(ours).tobytes() == np.float64(theirs).tobytes() or (
            ours != ours and theirs != theirs
        )
    elif isinstance(ours, memoryview):
        assert ours.tobytes() == theirs, name
    else:
        assert (type(ours), ours) == (type(theirs), theirs), name


def assert_as_google(data: bytes) -> None:
    """What Google's library takes, ours takes for the same; ours may skip over damage in fields that nobody reads."""
    try:
        theirs = onnx.ModelProto.FromString(data)
    except GoogleError:
        theirs = None
    if theirs is not None:
        assert_same(read(data), theirs)
    else:
        with contextlib.suppress(DecodeError):
            read(data)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, wire: int, payload: bytes = b"") -> bytes:
    tag = varint(number << 3 | wire)
    return tag + varint(len(payload)) + payload if wire == 2 else tag + payload


def everything() -> onnx.ModelProto:
    """A model with every kind of field, values at the ends of their ranges."""
    node = helper.make_node("Op", ["x", "", "ä"], ["y"], name="n", domain="d", overload="o")
    attributes = {
        "f": -1.5,
        "nan": float("nan"),
        "i": -(1 << 63),
        "s": b"\xff\x00",
        "floats": [0.0, -0.0, 3e38, 1e-45],
        "ints": [0, -1, 127, 128, (1 << 63) - 1],
        "strings": ["", "a"],
        "g": helper.make_graph([], "inner", [], []),
        "graphs": [helper.make_graph([], "a", [], []), helper.make_graph([], "b", [], [])],
        "tp": helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N", 3, None])),
        "t": helper.make_tensor("t", TensorProto.INT32, [3], [-1, 0, 1 << 30]),
    }
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    tensors = [
        helper.make_tensor("u8", TensorProto.UINT8, [2], [0, 255]),
        helper.make_tensor("f16", TensorProto.FLOAT16, [2], [0.5, -2.0]),
        helper.make_tensor("c", TensorProto.COMPLEX64, [1], [1 + 2j]),
        helper.make_tensor("d", TensorProto.DOUBLE, [2], [np.pi, np.inf]),
        helper.make_tensor("u64", TensorProto.UINT64, [2], [0, (1 << 64) - 1]),
        helper.make_tensor("i64", TensorProto.INT64, [200], list(range(-100, 100))),
        helper.make_tensor("s", TensorProto.STRING, [2], [b"", b"\xff"]),
        helper.make_tensor("raw", TensorProto.FLOAT, [2], b"12345678", raw=True),
        helper.make_tensor("none", TensorProto.FLOAT, [0], []),
    ]
    graph = helper.make_graph([node], "g", [], [], tensors, doc_string="doc")
    graph.value_info.append(helper.make_value_info("m", helper.make_map_type_proto(7, onnx.TypeProto())))
    graph.value_info.append(helper.make_tensor_value_info("scalar", 1, []))
    graph.value_info.append(helper.make_sparse_tensor_value_info("sparse", 1, [2]))
    model = helper.make_model(graph, producer_name="p", doc_string="d")
    model.metadata_props.add(key="k", value="v")
    return model


@pytest.mark.parametrize("model", [classifier(), everything()], ids=["classifier", "everything"])
def test_same_message(model: onnx.ModelProto) -> None:
    assert_same(read(model.SerializeToString()), model)


NAME_AS_NUMBER = field(2, 0, b"\x05")
DIMS_PACKED = field(1, 2, b"\x02\x80\x01") + field(1, 0, b"\x07")
FLOATS_UNPACKED = field(4, 5, b"\0\0\x80?") + field(4, 2, b"\0\0\0@\0\0\x80?") + field(4, 5, b"\0\0\0@")
NEGATIVE = field(5, 2, varint((1 << 64) - 1) + varint((1 << 32) - 1) + varint(1 << 31))
TENSOR_TYPE, SEQUENCE_TYPE = field(1, 2, field(1, 0, b"\x01")), field(4, 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        field(7, 2, field(2, 2, b"a")) + field(7, 2, field(10, 2, b"b")) + field(7, 2, field(2, 2, b"c")),
        field(7, 2, NAME_AS_NUMBER),
        field(7, 2, field(2, 2, b"\xff\xfe")),
        field(7, 2, field(5, 2, DIMS_PACKED + FLOATS_UNPACKED + NEGATIVE)),
        field(7, 2, field(11, 2, field(2, 2, TENSOR_TYPE + SEQUENCE_TYPE))),
        field(7, 2, field(11, 2, field(2, 2, SEQUENCE_TYPE + TENSOR_TYPE + TENSOR_TYPE))),
        field(7, 2, field(1, 2, field(5, 2, field(20, 0, b"\x63")))),
        field(7, 2, field(1, 2, field(5, 2, field(20, 0, b"\x01") + field(20, 0, b"\x63")))),
        field(1, 0, varint((1 << 64) - 3)) + field(5, 0, varint(1 << 63)),
        field(1, 0, b"\x83\x80\x00"),
        b"\x88\x00\x03",
        field(100, 3) + field(1, 0, b"\x05") + field(100, 4) + field(1, 0, b"\x03"),
        field(100, 3) + field(101, 3) + field(5, 2, b"abc") + field(101, 4) + field(100, 4),
        field(100, 1, bytes(8)) + field(100, 5, bytes(4)) + field(100, 2, b"xyz") + field(1, 0, b"\x02"),
    ],
)
def test_odd_forms(data: bytes) -> None:
    assert_same(read(data), onnx.ModelProto.FromString(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80", "end inside"),
        (b"\x08", "end inside"),
        (b"\x08\x80", "end inside"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x0d\0\0", "4 bytes where 2 are left"),
        (b"\x09" + bytes(7), "8 bytes where 7 are left"),
        (b"\x3a\x05ab", "5 bytes where 2 are left"),
        (b"\x3a", "end inside"),
        (b"\x3a" + varint((1 << 63) + 1), "bytes where 0 are left"),
        (b"\x3a" + varint((1 << 64) - 1) + b"ab", "bytes where 2 are left"),
        (field(7, 2, field(2, 2, b"name")[:-1]) + b"aaaa", "4 bytes where 3 are left"),
        (field(7, 2, b"\x80") + b"\x01", "end inside"),
        (b"\x00\x00", "field number 0"),
        (varint(1 << 32 | 8) + b"\x00", "field number"),
        (b"\x0e", "wire type 6"),
        (b"\x0f", "wire type 7"),
        (field(100, 4), "wire type 4"),
        (field(100, 3), "end inside"),
        (field(100, 3) + field(101, 4), "end of group 101 inside group 100"),
        (field(100, 3) * (MAX_DEPTH + 1), "inside each other"),
        (field(7, 2, field(5, 2, field(4, 2, bytes(5)))), "5 bytes of packed float32"),
        (field(7, 2, field(5, 2, field(7, 2, b"\x01\x80"))), "end inside"),
        (field(7, 2, field(5, 2, field(7, 2, b"\x80" * 10 + b"\x01"))), "more than 10 bytes"),
    ],
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(GoogleError):
        onnx.ModelProto.FromString(data)
    with pytest.raises(DecodeError, match=words):
        read(data)


def test_depth() -> None:
    data = field(4, 2)
    for _ in range(500):
        data = field(4, 2, field(1, 2, data))
    data = field(7, 2, field(11, 2, field(2, 2, data)))
    with pytest.raises(GoogleError):
        onnx.ModelProto.FromString(data)
    with pytest.raises(DecodeError, match="inside each other"):
        read(data)


@pytest.mark.parametrize("seed", range(300))
def test_damage(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = (DATA, everything().SerializeToString())[seed % 2]
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 6))):
        start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 9))
        match int(rng.integers(0, 4)):
            case 0:
                data[start] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[start : start + length] = rng.bytes(length)
            case 2:
                del data[start : start + length]
            case _:
                data[start:start] = data[: start + length][-length:]
    assert_as_google(bytes(data))
