"""Damaged files: every one gives a `TilewiseError` or a graph, never another exception."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.onnx_import.models import classifier
from tilewise import ModelError, TilewiseError
from tilewise.graph import Graph
from tilewise.onnx.check import load_checked

DATA = classifier().SerializeToString()


@pytest.mark.parametrize("part", range(50))
def test_truncated(part: int) -> None:
    with pytest.raises(ModelError, match=r"ONNX model|opset_import|domain|function"):
        load_checked(DATA[: len(DATA) * part // 50])


def assert_graph_or_refused(data: bytes) -> None:
    """No exception but ours, and that from a check that knows what it looked at."""
    result: Graph | TilewiseError
    try:
        result = load_checked(data)
    except TilewiseError as error:
        result = error
    assert isinstance(result, Graph) or (len(str(result)) > 20 and "malformed model:" not in str(result))


@pytest.mark.parametrize("seed", range(400))
def test_flipped_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(DATA)
    for position in rng.integers(0, len(data), rng.integers(1, 4)):
        data[position] ^= 1 << int(rng.integers(0, 8))
    assert_graph_or_refused(bytes(data))


@pytest.mark.parametrize("seed", range(100))
def test_bytes_lost_or_repeated(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, length = int(rng.integers(0, len(DATA))), int(rng.integers(1, 40))
    for data in (DATA[:start] + DATA[start + length :], DATA[: start + length] + DATA[start:]):
        assert_graph_or_refused(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"\0" * 100, "100 bytes that are no protobuf message"),
        (b"PK\x03\x04" + bytes(100), "expected an ONNX model"),
        (b'{"format": "onnx"}', "expected an ONNX model"),
        (b"\x89HDF\r\n\x1a\n" * 4, "expected an ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "expected an ONNX model"),
        (np.random.default_rng(0).bytes(1000), "expected an ONNX model"),
    ],
)
def test_not_a_model(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ModelError, match=words) as caught:
            load_checked(source)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.onnx", tmp_path, "nul\0.onnx"):
        with pytest.raises(ModelError, match="readable model file at"):
            load_checked(path)


def test_names_that_are_not_utf8() -> None:
    with pytest.raises(ModelError, match="expected UTF-8 text, got the bytes"):
        load_checked(DATA.replace(b"logits", b"log\xff\xfes"))
