"""Regions of interest: pooling under them, and choosing among them."""

from __future__ import annotations

import numpy as np

from tilewise.graph import UNKNOWN, Fact
from tilewise.graph.facts import Dim, merge_dims
from tilewise.ops.base import Array, Inputs, Op
from tilewise.ops.lowering import Lowering, chunks

MOST_SAMPLES = 1 << 20
"""Samples of a bin along one axis; more is no region of an image."""

GRAIN = 16384
"""Samples of a task, about."""


def contradicts(fact: Fact, *dims: int | None) -> bool:
    """True where the shape is known not to be `dims`, of which None is any."""
    if fact.shape is None:
        return False
    if len(fact.shape) != len(dims):
        return True
    pairs = zip(fact.shape, dims, strict=True)
    return any(isinstance(d, int) and want is not None and d != want for d, want in pairs)


def expect_regions(op: Op, ins: Inputs, columns: int) -> tuple[Fact, Dim]:
    """The fact of x (N, C, H, W) and the number of its rois (R, columns)."""
    x, rois = ins[0] or UNKNOWN, ins[1] or UNKNOWN
    if contradicts(x, None, None, None, None):
        raise op.fail(f"expected x (N, C, H, W), got {x}")
    if contradicts(rois, None, columns):
        raise op.fail(f"expected rois (R, {columns}), got {rois}")
    return x, None if rois.shape is None else rois.shape[0]


class RoiAlign(Op):
    """y[r, c] = bins of bilinear samples of x[batch[r], c] under rois[r] (ONNX RoiAlign, opset 10, 16, 22).

    x (N, C, H, W) of floats, rois (R, 4) as x1, y1, x2, y2, batch (R,) int64; y (R, C, output_height,
    output_width). A sample more than one element outside x is 0. As in ONNX Runtime and the operator's test
    data, the maximum is taken over the four weighted neighbours of every sample. The kernel answers NaN where
    NumPy raises: for a batch index outside [0, N) and for a region of more than MOST_SAMPLES samples a bin.
    """

    attributes = frozenset(
        {
            "coordinate_transformation_mode",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        }
    )

    @property
    def size(self) -> tuple[int, int]:
        return int(self.attr("output_height", 1)), int(self.attr("output_width", 1))

    @property
    def maximum(self) -> bool:
        return self.attr("mode", "avg") == "max"

    @property
    def half_pixel(self) -> bool:
        default = "half_pixel" if self.version >= 16 else "output_half_pixel"
        return self.attr("coordinate_transformation_mode", default) == "half_pixel"

    def unsupported(self) -> str | None:
        for name, known in (
            ("mode", ("avg", "max")),
            ("coordinate_transformation_mode", ("half_pixel", "output_half_pixel")),
        ):
            value = self.attr(name, known[0])
            if value not in known:
                return f"attribute {name}={value!r} (known: {', '.join(known)})"
        return None

    def infer(self, ins: Inputs) -> list[Fact]:
        x, R = expect_regions(self, ins, 4)
        batch = ins[2] or UNKNOWN
        if contradicts(batch, None):
            raise self.fail(f"expected batch_indices (R,), got {batch}")
        if batch.shape is not None:
            if isinstance(R, int) and isinstance(batch.shape[0], int) and batch.shape[0] != R:
                raise self.fail(f"expected as many batch_indices as rois, got {batch} and {ins[1]}")
            R = merge_dims(R, batch.shape[0])
        if min(self.size) < 1:
            raise self.fail(f"expected output_height and output_width of at least 1, got {self.size}")
        return [Fact(x.dtype, (R, None if x.shape is None else x.shape[1], *self.size))]

    def evaluate(self, x, rois, batch):
        if len(batch) and not (batch.min() >= 0 and batch.max() < len(x)):
            raise ValueError(f"expected batch_indices in [0, {len(x)}), got {batch.min()} to {batch.max()}")
        wide = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        y = np.empty((len(rois), x.shape[1], *self.size), wide)
        for r, (roi, image) in enumerate(zip(rois.astype(wide), batch, strict=True)):
            y[r] = self._align(x[image].astype(wide, copy=False), roi)
        return [y.astype(x.dtype, copy=False)]

    def _align(self, x: Array, roi: Array) -> Array:
        """One region of x (C, H, W)."""
        shift = 0.5 if self.half_pixel else 0.0
        left, top, right, bottom = roi * roi.dtype.type(self.attr("spatial_scale", 1.0)) - roi.dtype.type(
            shift
        )
        height, width = bottom - top, right - left
        if not self.half_pixel:
            height, width = max(height, 1), max(width, 1)
        rows = self._samples(top, height, self.size[0], x.shape[1])
        columns = self._samples(left, width, self.size[1], x.shape[2])
        count = rows[0].shape[1] * columns[0].shape[1]
        if not count:
            return np.zeros((len(x), *self.size), x.dtype)
        inside = rows[4][:, :, None, None] & columns[4]
        terms = []
        for y_at, y_weight in zip(rows[:2], rows[2:4], strict=True):
            for x_at, x_weight in zip(columns[:2], columns[2:4], strict=True):
                taps = x[:, y_at[:, :, None, None], x_at]
                terms.append(np.where(inside, y_weight[:, :, None, None] * x_weight * taps, 0))
        if self.maximum:
            return np.maximum.reduce(terms).max(axis=(2, 4))
        return np.add.reduce(terms).sum(axis=(2, 4)) / x.dtype.type(count)

    def _samples(self, start, size, bins: int, length: int) -> tuple[Array, ...]:
        """Both neighbours, both weights and which are inside, (bins, samples), along one axis of `length`."""
        step = size / start.dtype.type(bins)
        ratio = self.attr("sampling_ratio", 0)
        wanted = np.ceil(step) if ratio <= 0 else ratio
        if not wanted < MOST_SAMPLES:
            raise ValueError(f"expected a region of an image, got a side of {size}")
        samples = max(int(wanted), 0)
        at = start + np.arange(bins, dtype=start.dtype)[:, None] * step
        at = at + (np.arange(samples, dtype=start.dtype) + start.dtype.type(0.5)) * step / max(samples, 1)
        inside = (at >= -1) & (at <= length)
        at = np.where(inside, np.maximum(at, 0), 0)
        low = np.minimum(at.astype(np.int64), length - 1)
        weight = np.where(low >= length - 1, 0, at - low).astype(start.dtype)
        return low, np.minimum(low + 1, length - 1), 1 - weight, weight, inside

    def lower(self, b: Lowering) -> bool:
        if any(f.dtype != "float32" for f in b.ins[:2]):
            return False
        N, C, H, W = b.ins[0].shape
        R = b.outs[0].shape[0]
        oH, oW = self.size
        ratio = int(self.attr("sampling_ratio", 0))
        run = min(C, max(1, GRAIN // (oH * oW * max(ratio, 2) ** 2)))
        options = (ratio, int(self.maximum), int(self.half_pixel), float(self.attr("spatial_scale", 1.0)))
        refs = (b.output(), b.input(0), b.input(1), b.input(2))
        b.step("roi_align", R * chunks(C, run), *refs, N, C, H, W, oH, oW, run, *options)
        return True


class MaxRoiPool(Op):
    """y[r, c] = maximum of x[rois[r, 0], c] in each of the bins of a region (ONNX MaxRoiPool, opset 1, 22).

    x (N, C, H, W) of floats, rois (R, 5) as image, x1, y1, x2, y2; y (R, C, *pooled_shape). Corners are rounded
    to whole elements, half away from zero; an empty bin is 0 (Girshick, Fast R-CNN, 2015).
    """

    attributes = frozenset({"pooled_shape", "spatial_scale"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x, R = expect_regions(self, ins, 5)
        size = self.attr("pooled_shape") or []
        if len(size) != 2 or min(size) < 1:
            raise self.fail(f"expected pooled_shape of two values of at least 1, got {size}")
        return [Fact(x.dtype, (R, None if x.shape is None else x.shape[1], *map(int, size)))]

    def evaluate(self, x, rois):
        images = rois[:, 0].astype(np.int64)
        if len(rois) and not (images.min() >= 0 and images.max() < len(x)):
            raise ValueError(f"expected images in [0, {len(x)}), got {images.min()} to {images.max()}")
        corners = rois[:, 1:].astype(np.float32) * np.float32(self.attr("spatial_scale", 1.0))
        corners = np.trunc(corners + np.copysign(np.float32(0.5), corners)).astype(np.int64)
        oH, oW = map(int, self.attr("pooled_shape"))
        y = np.zeros((len(rois), x.shape[1], oH, oW), x.dtype)
        for r, (left, top, right, bottom) in enumerate(corners.tolist()):
            for ph, rows in enumerate(bins(top, bottom, oH, x.shape[2])):
                band = x[images[r], :, rows]
                for pw, columns in enumerate(bins(left, right, oW, x.shape[3])):
                    patch = band[:, :, columns]
                    if patch.size:
                        y[r, :, ph, pw] = patch.max(axis=(1, 2))
        return [y]

    def lower(self, b: Lowering) -> bool:
        if not b.is_dtype("float32"):
            return False
        N, C, H, W = b.ins[0].shape
        R, _, oH, oW = b.outs[0].shape
        scale = float(self.attr("spatial_scale", 1.0))
        b.step("roi_max_pool", R, b.output(), b.input(0), b.input(1), N, C, H, W, oH, oW, scale)
        return True


def bins(first: int, last: int, count: int, size: int) -> list[slice]:
    """The elements of `count` bins over first..last, clipped to an axis of `size`."""
    step = np.float32(max(last - first + 1, 1)) / np.float32(count)
    k = np.arange(count, dtype=np.float32)
    starts = np.clip(np.floor(k * step).astype(np.int64) + first, 0, size)
    stops = np.clip(np.ceil((k + 1) * step).astype(np.int64) + first, 0, size)
    return [slice(a, b) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]


class NonMaxSuppression(Op):
    """Boxes by falling score, without those that overlap a better one of their class (ONNX, opset 10, 11).

    boxes (N, S, 4) of float32 as y1, x1, y2, x2, any two opposite corners, or with center_point_box as x, y,
    width, height; scores (N, classes, S); y (selected, 3) int64 as image, class, box. A box is left out where its
    score is not above score_threshold, or its intersection over union with a chosen one above iou_threshold.
    """

    attributes = frozenset({"center_point_box"})

    def infer(self, ins: Inputs) -> list[Fact]:
        boxes, scores = ins[0] or UNKNOWN, ins[1] or UNKNOWN
        if contradicts(boxes, None, None, 4):
            raise self.fail(f"expected boxes (N, S, 4), got {boxes}")
        if contradicts(scores, None, None, None):
            raise self.fail(f"expected scores (N, classes, S), got {scores}")
        if boxes.shape is not None and scores.shape is not None:
            for box_dim, score_dim in zip(boxes.shape[:2], scores.shape[::2], strict=True):
                if isinstance(box_dim, int) and isinstance(score_dim, int) and box_dim != score_dim:
                    raise self.fail(
                        f"expected boxes (N, S, 4) and scores (N, classes, S), got {boxes} and {scores}"
                    )
        return [Fact(np.dtype(np.int64), (None, 3))]

    def evaluate(self, boxes, scores, limit=None, iou_threshold=None, score_threshold=None):
        most = int(scalar(limit, 0))
        overlap = scalar(iou_threshold, np.float32(0))
        if not 0 <= overlap <= 1:
            raise ValueError(f"expected iou_threshold in [0, 1], got {overlap}")
        chosen = []
        for image in range(len(boxes) if most > 0 else 0):
            corners = self._corners(boxes[image])
            for label, score in enumerate(scores[image]):
                order = np.argsort(-score, kind="stable")
                if score_threshold is not None and score_threshold.size:
                    order = order[score[order] > scalar(score_threshold, 0)]
                kept = suppress(corners[:, order], most, overlap)
                chosen += [(image, label, box) for box in order[kept].tolist()]
        return [np.array(chosen, np.int64).reshape(-1, 3)]

    def _corners(self, boxes: Array) -> Array:
        """Least x, greatest x, least y, greatest y of boxes (S, 4), each (S,)."""
        first, second = boxes[:, :2].T, boxes[:, 2:].T
        if self.attr("center_point_box", 0):
            low, high = first - second / 2, first + second / 2
        else:
            low, high = np.minimum(first, second)[::-1], np.maximum(first, second)[::-1]
        return np.stack([low[0], high[0], low[1], high[1]])


def scalar(value: Array | None, default):
    """The one element of an optional input."""
    return default if value is None or value.size == 0 else value.ravel()[0]


def suppress(corners: Array, most: int, overlap) -> list[int]:
    """Positions kept among boxes (4, S) in falling order of score."""
    x1, x2, y1, y2 = corners
    area = (x2 - x1) * (y2 - y1)
    count = len(area)
    alive = np.ones(count, bool)
    scratch = np.empty((3, count), corners.dtype)
    kept: list[int] = []
    for i in range(count):
        if not alive[i]:
            continue
        kept.append(i)
        if len(kept) >= most:
            break
        shared, height, low = scratch[:, i + 1 :]
        for begin, end, out in ((x1, x2, shared), (y1, y2, height)):
            np.minimum(end[i + 1 :], end[i], out=out)
            np.subtract(out, np.maximum(begin[i + 1 :], begin[i], out=low), out=out)
            np.maximum(out, 0, out=out)
        np.multiply(shared, height, out=shared)
        union = np.subtract(np.add(area[i + 1 :], area[i], out=height), shared, out=height)
        alive[i + 1 :] &= ~(np.divide(shared, union, out=shared) > overlap)
    return kept
