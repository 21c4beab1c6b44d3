"""The face detector example: on a made-up model, and on the real one against ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import tilewise as tw
from tests import small_models

ROOT = Path(__file__).parents[2]
ULTRAFACE = ROOT.parent / "shared" / "data" / "ultraface"
MODEL = ULTRAFACE / "version-RFB-320.onnx"
needs_ultraface = pytest.mark.skipif(not MODEL.is_file(), reason="../shared/data/ultraface is not here")
FACES = {"1.jpg": 44, "2.jpg": 4, "12.jpg": 5}
"""Faces that the same steps find with ONNX Runtime in place of Tilewise."""


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("face_detector", ROOT / "examples" / "face_detector.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BOXES = np.array(
    [[0.1, 0.1, 0.3, 0.5], [0.12, 0.1, 0.31, 0.52], [0.6, 0.2, 0.9, 0.8], [0.0, 0.0, 0.05, 0.05]], np.float32
)
SCORES = np.array([0.8, 0.95, 0.9, 0.3], np.float32)


@pytest.fixture(scope="module")
def made_up() -> bytes:
    """A "detector" whose answer, two faces, one of them twice, and noise, does not depend on the photo."""
    both = np.stack([1 - SCORES, SCORES], axis=1)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["both", "nothing"], ["scores"]),
        helper.make_node("Add", ["corners", "nothing"], ["boxes"]),
    ]
    constants = {"zero": np.zeros(1, np.float32), "both": both[None], "corners": BOXES[None]}
    outputs = {"scores": [1, 4, 2], "boxes": [1, 4, 4]}
    return small_models.model(nodes, {"input": [1, 3, 24, 32]}, outputs, constants).SerializeToString()


def test_one_face_is_found_once_and_noise_never(example: ModuleType, made_up: bytes) -> None:
    faces = example.FaceDetector(made_up)(Image.new("RGB", (200, 100), (10, 200, 30)))
    assert [round(face.score, 4) for face in faces] == [0.95, 0.9]
    for face, box in zip(faces, (BOXES[1], BOXES[2]), strict=True):
        corners = (face.left, face.top, face.right, face.bottom)
        np.testing.assert_allclose(corners, box * [200, 100, 200, 100], rtol=1e-6)


def test_thresholds_are_the_caller_s(example: ModuleType, made_up: bytes) -> None:
    photo = Image.new("RGB", (64, 64))
    assert len(example.FaceDetector(made_up, min_score=0.2)(photo)) == 3
    assert len(example.FaceDetector(made_up, max_overlap=0.99)(photo)) == 3
    assert example.FaceDetector(made_up, min_score=0.97)(photo) == []


def test_pixels_are_what_the_model_was_trained_on(example: ModuleType, made_up: bytes) -> None:
    pixels = example.FaceDetector(made_up).pixels(Image.new("L", (64, 48), 255))
    assert pixels.shape == (1, 3, 24, 32)
    assert pixels.dtype == np.float32
    assert (pixels == 1).all()


def test_boxes_are_drawn_where_the_faces_are(example: ModuleType) -> None:
    photo = Image.new("RGB", (200, 100))
    picture = example.draw(photo, [example.Face(0.9, 60, 40, 120, 90)])
    assert picture.size == photo.size
    assert not np.asarray(photo).any()
    drawn = np.argwhere((np.asarray(picture) == example.GREEN).all(2))
    assert drawn[:, 1].min() == 60
    assert (drawn[:, 1].max(), drawn[:, 0].max()) == (120, 90)
    assert not np.asarray(picture)[50:80, 70:110].any()


def test_as_a_command(
    example: ModuleType, made_up: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.onnx").write_bytes(made_up)
    Image.new("RGB", (200, 100), (10, 200, 30)).save(tmp_path / "photo.jpg")
    model, photo = str(tmp_path / "model.onnx"), str(tmp_path / "photo.jpg")
    assert example.main([model, photo, "--output", str(tmp_path / "faces")]) == 0
    assert "2 face(s)" in capsys.readouterr().out
    assert Image.open(tmp_path / "faces" / "photo.png").size == (200, 100)
    assert example.main([model, str(tmp_path / "missing.jpg"), "--output", str(tmp_path)]) == 1
    assert "missing.jpg" in capsys.readouterr().err
    assert example.main([photo, photo]) == 1


def test_other_models_are_refused(example: ModuleType) -> None:
    proto = small_models.model([helper.make_node("Identity", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]})
    with pytest.raises(tw.InputError, match=r"expected a shape \(1, 3, H, W\)"):
        example.FaceDetector(proto.SerializeToString())


@needs_ultraface
@pytest.mark.parametrize("name", FACES)
def test_scores_and_boxes_are_onnxruntime_s(example: ModuleType, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    detect = example.FaceDetector(MODEL)
    with Image.open(ULTRAFACE / name) as photo:
        scores, boxes = detect.candidates(photo)
        pixels = detect.pixels(photo)
        faces = detect(photo)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    want = session.run(["scores", "boxes"], {session.get_inputs()[0].name: pixels})
    assert (scores.shape, boxes.shape) == ((1, 4420, 2), (1, 4420, 4))
    np.testing.assert_allclose(scores, want[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(boxes, want[1], rtol=0, atol=1e-4)
    assert len(faces) == FACES[name]
