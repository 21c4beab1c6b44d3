"""Tensor data outside the model file: where it may lie, and what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewise
from tests.onnx_import.models import holding
from tilewise import ModelError
from tilewise.onnx.load import load_graph

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def external(location: str, elem_type: int = TensorProto.FLOAT, **entries: object) -> onnx.ModelProto:
    tensor = TensorProto(data_type=elem_type, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return holding(tensor)


def save(directory: Path, model: onnx.ModelProto) -> Path:
    path = directory / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("offset", [0, 3, 4096])
def test_data_is_mapped(tmp_path: Path, offset: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(b"\0" * offset + WEIGHT.tobytes() + b"rest")
    path = save(tmp_path, external("data/w.bin", offset=offset, length=24))
    got = load_graph(path).initializers["w"]
    np.testing.assert_array_equal(got, WEIGHT)
    assert isinstance(root(got), np.memmap)
    np.testing.assert_array_equal(tilewise.load(path)(), WEIGHT)


def root(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return array


def test_length_and_offset_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    np.testing.assert_array_equal(load_graph(save(tmp_path, external("w.bin"))).initializers["w"], WEIGHT)


def test_packed_types(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes([0x21, 0x43, 0x65]))
    got = load_graph(save(tmp_path, external("w.bin", TensorProto.UINT4))).initializers["w"]
    assert got.astype(int).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_base_dir_serves_models_without_a_path(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    model = external("w.bin")
    for source in (model, model.SerializeToString()):
        np.testing.assert_array_equal(load_graph(source, base_dir=tmp_path).initializers["w"], WEIGHT)
        with pytest.raises(ModelError, match=r"initializer 'w'.*path or with base_dir.*'w.bin'"):
            load_graph(source)


def test_download_cache_of_links(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    (blobs / "1").write_bytes(external("w.bin").SerializeToString())
    (blobs / "2").write_bytes(WEIGHT.tobytes())
    (snapshot / "model.onnx").symlink_to(blobs / "1")
    (snapshot / "w.bin").symlink_to(blobs / "2")
    got = load_graph(snapshot / "model.onnx").initializers["w"]
    np.testing.assert_array_equal(got, WEIGHT)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A model's directory with a secret beside it, and links to it inside."""
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "models-secret").mkdir()
    (tmp_path / "models-secret" / "w.bin").write_bytes(WEIGHT.tobytes())
    directory = tmp_path / "models"
    directory.mkdir()
    (directory / "link.bin").symlink_to(tmp_path / "secret.bin")
    (directory / "out").symlink_to(tmp_path)
    (directory / "sub").mkdir()
    (directory / "short.bin").write_bytes(b"\0" * 23)
    (directory / "w.bin").write_bytes(WEIGHT.tobytes())
    (directory / "empty.bin").touch()
    return directory


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "sub/../../secret.bin", "link.bin", "out/secret.bin", "../models-secret/w.bin"],
)
def test_escaping_locations(model_dir: Path, location: str) -> None:
    with pytest.raises(ModelError, match=r"initializer 'w': expected external data inside .*models', got"):
        load_graph(save(model_dir, external(location)))


def test_absolute_locations(model_dir: Path) -> None:
    for path in (model_dir.parent / "secret.bin", model_dir / "w.bin"):
        with pytest.raises(ModelError, match=r"initializer 'w': expected the relative path"):
            load_graph(save(model_dir, external(str(path))))


@pytest.mark.parametrize(
    ("location", "entries", "words"),
    [
        ("missing.bin", {}, r"initializer 'w': expected external data in .*missing\.bin.*No such file"),
        ("", {}, r"relative path of a file, got location ''"),
        ("w.bin\0", {}, r"relative path of a file"),
        ("sub", {}, r"expected a regular file at .*sub'"),
        ("w.bin/x", {}, r"expected external data in"),
        ("short.bin", {}, r"expected 24 bytes at offset 0 of .*short\.bin', got a file of 23 bytes"),
        ("empty.bin", {}, r"expected 24 bytes at offset 0 of .*empty\.bin', got a file of 0 bytes"),
        ("w.bin", {"offset": 1}, r"expected 24 bytes at offset 1 of .*got a file of 24 bytes"),
        ("w.bin", {"offset": 10**18}, r"expected 24 bytes at offset 1000000000000000000"),
        ("w.bin", {"offset": -4}, r"offset in 'w\.bin': expected a number >= 0, got '-4'"),
        ("w.bin", {"length": -24}, r"length in 'w\.bin': expected a number >= 0, got '-24'"),
        ("w.bin", {"offset": "9" * 5000}, r"offset in 'w\.bin': expected a number"),
        ("w.bin", {"offset": "ten"}, r"expected a number >= 0, got 'ten'"),
        ("w.bin", {"length": 20}, r"expected a length of 24 bytes in 'w\.bin', got 20"),
    ],
)
def test_bad_external_data(model_dir: Path, location: str, entries: dict, words: str) -> None:
    path = save(model_dir, external(location, **entries))
    with pytest.raises(ModelError, match=words) as caught:
        load_graph(path)
    assert str(path) in str(caught.value)


def test_pipes_are_not_opened(model_dir: Path) -> None:
    os.mkfifo(model_dir / "pipe")
    with pytest.raises(ModelError, match="regular file"):
        load_graph(save(model_dir, external("pipe")))


def test_claimed_size_is_not_allocated(model_dir: Path) -> None:
    model = external("w.bin")
    model.graph.initializer[0].dims[:] = [1 << 40]
    with pytest.raises(ModelError, match=r"expected 4398046511104 bytes at offset 0"):
        load_graph(save(model_dir, model))


def test_strings_are_never_external(model_dir: Path) -> None:
    with pytest.raises(ModelError, match="strings inside the model"):
        load_graph(save(model_dir, external("w.bin", TensorProto.STRING)))


def test_attribute_tensors_may_be_external(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    model = external("w.bin")
    tensor = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    np.testing.assert_array_equal(load_graph(save(tmp_path, model)).initializers["w"], WEIGHT)
