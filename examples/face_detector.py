"""Find faces on photos with an UltraFace model (RFB-320, slim-320 and their kin) and draw boxes around them.

    python examples/face_detector.py version-RFB-320.onnx photo.jpg ... --output faces/

The model takes one image, 1x3xHxW, RGB, (x - 127) / 128, and answers with `scores` 1xNx2 (background, face)
and `boxes` 1xNx4 (left, top, right, bottom as fractions of the image). What it leaves to its caller, the
choice of one box for each face, is done here by a second, tiny ONNX model: the operator NonMaxSuppression.

Model and photos: https://github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB (MIT).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont, ImageOps

import tilewise as tw

MAX_FACES = 200
GREEN, DARK = (64, 220, 130), (12, 32, 24)


@dataclass(frozen=True)
class Face:
    """A face's probability and its corners in pixels of the photo."""

    score: float
    left: float
    top: float
    right: float
    bottom: float


class FaceDetector:
    """Photos in, faces out; both models are loaded once.

    min_score: faces of a lower probability are left out.
    max_overlap: of two boxes whose intersection over union is greater, only the more probable one is kept.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        min_score: float = 0.7,
        max_overlap: float = 0.3,
        threads: int | None = None,
    ) -> None:
        self.model = tw.load(model, threads=threads)
        self.choose = tw.load(suppression(min_score, max_overlap), threads=threads)
        (image,) = self.model.inputs
        if (
            image.shape is None
            or len(image.shape) != 4
            or not all(isinstance(d, int) for d in image.shape[1:])
        ):
            raise tw.InputError(f"input {image.name!r}: expected a shape (1, 3, H, W), got {image.shape}")
        self.height, self.width = image.shape[2:]

    def __call__(self, photo: Image.Image) -> list[Face]:
        """Faces by falling probability."""
        scores, boxes = self.candidates(photo)
        chosen = self.choose(boxes, np.ascontiguousarray(scores[:, :, 1:].transpose(0, 2, 1)))
        scale = np.array([photo.width, photo.height] * 2, np.float32)
        return [Face(float(scores[0, i, 1]), *(boxes[0, i] * scale).tolist()) for _, _, i in chosen]

    def candidates(self, photo: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        """The model's own answer: scores (1, N, 2) and boxes (1, N, 4)."""
        answer = self.model.run({self.model.inputs[0].name: self.pixels(photo)}, ["scores", "boxes"])
        return np.asarray(answer["scores"]), np.asarray(answer["boxes"])

    def pixels(self, photo: Image.Image) -> np.ndarray:
        """The photo as the model takes it, (1, 3, H, W) float32."""
        small = photo.convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
        return ((np.asarray(small, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


def suppression(min_score: float, max_overlap: float) -> bytes:
    """An ONNX model from `boxes` (1, N, 4) and `scores` (1, 1, N) to chosen (batch, class, box) indices."""
    constants: dict[str, np.ndarray] = {
        "max_faces": np.array([MAX_FACES], np.int64),
        "max_overlap": np.array([max_overlap], np.float32),
        "min_score": np.array([min_score], np.float32),
    }
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", *constants], ["chosen"])],
        "suppression",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, "N", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, "N"]),
        ],
        [helper.make_tensor_value_info("chosen", TensorProto.INT64, ["faces", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 11)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def draw(photo: Image.Image, faces: Sequence[Face]) -> Image.Image:
    """A copy of the photo with a box and a probability for each face."""
    picture = photo.convert("RGB")
    pen = ImageDraw.Draw(picture)
    unit = max(picture.size) / 720
    stroke = max(2, round(2 * unit))
    for face in reversed(faces):
        font = ImageFont.load_default(max(9.0, min(14 * unit, 0.32 * (face.right - face.left))))
        pen.rectangle((face.left, face.top, face.right, face.bottom), outline=GREEN, width=stroke)
        label = f"{100 * face.score:.0f} %"
        left, top, right, bottom = pen.textbbox((0, 0), label, font)
        pad = max(1, stroke // 2)
        y = max(0.0, face.top - (bottom - top) - 2 * pad)
        pen.rectangle(
            (face.left, y, face.left + (right - left) + 2 * pad, y + (bottom - top) + 2 * pad), GREEN
        )
        pen.text((face.left + pad - left, y + pad - top), label, DARK, font)
    return picture


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw boxes around the faces on photos.")
    parser.add_argument("model", metavar="MODEL", help="an UltraFace model, such as version-RFB-320.onnx")
    parser.add_argument("photos", metavar="PHOTO", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("faces"), metavar="DIR", help="where pictures go")
    parser.add_argument(
        "--min-score", type=float, default=0.7, help="least probability of a face (default: 0.7)"
    )
    parser.add_argument(
        "--max-overlap", type=float, default=0.3, help="greatest overlap of two (default: 0.3)"
    )
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(argv)
    try:
        detect = FaceDetector(args.model, args.min_score, args.max_overlap, args.threads)
        args.output.mkdir(parents=True, exist_ok=True)
        for path in args.photos:
            photo = ImageOps.exif_transpose(Image.open(path))
            faces = detect(photo)
            target = args.output / f"{path.stem}.png"
            draw(photo, faces).save(target)
            print(f"{path}: {len(faces)} face(s), drawn in {target}")
    except (tw.TilewiseError, OSError) as error:
        print(f"face_detector: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
