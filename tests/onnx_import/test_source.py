"""Where models are read from, and what a loaded one still has of its file."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewise as tw
from tests.onnx_import.models import proto
from tilewise.onnx.load import load_graph
from tilewise.onnx.source import SMALL_BYTES

RNG = np.random.default_rng(0)
FLOATS = SMALL_BYTES // 4
SIZES = (1, FLOATS, FLOATS + 1, 3 * FLOATS + 5)
"""Lengths of weights around the limits up to which they are copied at once and in one piece."""


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilewise.onnx.source.CHUNK", SMALL_BYTES)


def sums(length: int, padding: str = "", overridable: bool = False) -> onnx.ModelProto:
    """y = x + w; `padding`, a comment of the file, moves the weight in it."""
    w = numpy_helper.from_array(RNG.standard_normal(length).astype(np.float32), "w")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])]
    if overridable:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [length]))
    model = proto([helper.make_node("Add", ["x", "w"], ["y"])], inputs, initializers=[w])
    model.graph.name = "g" + padding
    return model


def weight(model: onnx.ModelProto) -> np.ndarray:
    return numpy_helper.to_array(model.graph.initializer[0])


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


X = np.arange(3, dtype=np.float32)[:, None]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, onnx.ModelProto.FromString, "path"])
def test_sources(size: int, form: Callable | str, tmp_path: Path) -> None:
    model = sums(size)
    data = model.SerializeToString()
    source = save(model, tmp_path / "m.onnx") if form == "path" else form(data)
    np.testing.assert_array_equal(tw.load(source)(X), X + weight(model))


@pytest.mark.parametrize("padding", range(8))
def test_weights_at_any_offset(padding: int, tmp_path: Path) -> None:
    model = sums(FLOATS + 1, "-" * padding)
    path = save(model, tmp_path / "m.onnx")
    loaded = tw.load(path)
    assert all(array.flags.aligned for array in loaded.graph.initializers.values())
    np.testing.assert_array_equal(loaded(X), X + weight(model))


@pytest.mark.parametrize("overridable", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_may_change_after_loading(size: int, overridable: bool, tmp_path: Path) -> None:
    model = sums(size, overridable=overridable)
    path = save(model, tmp_path / "m.onnx")
    loaded = tw.load(path)
    with open(path, "r+b") as file:
        file.write(bytes(64))
        file.truncate(100)
    np.testing.assert_array_equal(loaded(X), X + weight(model))
    if overridable:
        np.testing.assert_array_equal(
            loaded.run({"x": X, "w": 2 * weight(model)})["y"], X + 2 * weight(model)
        )


def test_bytes_may_change_after_loading() -> None:
    model = sums(FLOATS + 1)
    data = bytearray(model.SerializeToString())
    loaded = tw.load(data)
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(loaded(X), X + weight(model))


def test_a_loaded_model_holds_no_file(tmp_path: Path) -> None:
    path = save(sums(SIZES[-1]), tmp_path / "m.onnx")
    graph = load_graph(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert not graph.initializers["w"].flags.writeable
    del graph
    loaded = tw.load(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert str(path) not in {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    path.unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded))(X), loaded(X))


def test_a_pipe(tmp_path: Path) -> None:
    model = sums(FLOATS + 1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(model.SerializeToString(),))
    writer.start()
    loaded = tw.load(path)
    writer.join()
    np.testing.assert_array_equal(loaded(X), X + weight(model))


@pytest.mark.parametrize("source", [None, 3, onnx.GraphProto(), ["m.onnx"]])
def test_no_source(source: object) -> None:
    with pytest.raises(tw.InputError, match=f"path, bytes or onnx.ModelProto, got {type(source).__name__}"):
        tw.load(source)
