"""Whole models against ONNX Runtime: within 1e-4 of each output's largest magnitude."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tilewise
from bench.models import LIGHT, SHARED, light_model, random_inputs
from tests.models.oracle import assert_agree, run_onnxruntime

FILES = ("models/mobilenetv2.onnx", "models/efficientnet_b0.onnx")
DETECTOR = SHARED / "ultraface" / "version-RFB-320.onnx"
PHOTOS = ("1.jpg", "2.jpg", "12.jpg")


def found(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.relative_to(SHARED)} is not beside the project")
    return path


@pytest.mark.parametrize("name", LIGHT)
def test_light_models_with_random_weights(name: str) -> None:
    model = light_model(name)
    show_logits(model.graph)
    feeds = random_inputs(model, seed=1)
    data = model.SerializeToString()
    expected = run_onnxruntime(data, feeds)
    assert_agree(tilewise.load(data).run(feeds), expected)


def show_logits(graph: onnx.GraphProto) -> None:
    """Make the input of a last Softmax an output too: with random weights the softmax may be all 0 and 1."""
    if graph.node[-1].op_type == "Softmax":
        graph.output.add(name=graph.node[-1].input[0])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("threads", [1, 2])
def test_files(file: str, threads: int) -> None:
    path = found(SHARED / file)
    feeds = random_inputs(onnx.load(path))
    assert_agree(tilewise.load(path, threads=threads).run(feeds), run_onnxruntime(path.read_bytes(), feeds))


@pytest.mark.parametrize("photo", PHOTOS)
def test_face_detector(photo: str) -> None:
    image = pytest.importorskip("PIL.Image")
    model = tilewise.load(found(DETECTOR))
    pixels = np.asarray(
        image.open(found(DETECTOR.with_name(photo))).convert("RGB").resize((320, 240)), np.float32
    )
    x = np.ascontiguousarray(((pixels - 127) / 128).transpose(2, 0, 1)[None])
    got = model.run({model.inputs[0].name: x})
    assert_agree(got, run_onnxruntime(DETECTOR.read_bytes(), {model.inputs[0].name: x}))
    assert got["scores"][0, :, 1].max() > 0.9  # there is a face on each photo
