"""RoiAlign, MaxRoiPool and NonMaxSuppression against onnx.reference and ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tilewise_kernels
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import ExecutionError, TilewiseError
from tilewise.runtime.model import Model, load


def floats(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def regions(count, height, width):
    """Regions inside and across the borders of an image, with empty and inverted ones first."""
    rng = np.random.default_rng(2)
    corners = rng.uniform(-0.2, 1.2, (count, 2, 2)) * [width, height]
    rois = np.sort(corners, axis=1).reshape(count, 4)
    special = [
        [2, 2, 2, 2],
        [4, 3, 1, 1],
        [0, 0, width, height],
        [-9, -9, -5, -5],
        [-3, -3, width + 3, height + 3],
    ]
    rois[: min(count, len(special))] = special[:count]
    return rois.astype(np.float32)


ALIGN = [
    {},
    {"output_height": 3, "output_width": 4},
    {"output_height": 5, "output_width": 2, "sampling_ratio": 2},
    {"output_height": 2, "output_width": 2, "sampling_ratio": 3, "spatial_scale": 0.5},
    {"output_height": 7, "output_width": 7, "sampling_ratio": 1, "spatial_scale": 1.5},
]


@pytest.mark.parametrize("attrs", ALIGN)
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
def test_roi_align(attrs, mode, coordinates):
    attrs = {**attrs, "mode": mode, "coordinate_transformation_mode": coordinates}
    x, rois = floats(3, 5, 9, 11), regions(12, 9, 11)
    if mode == "max" and "sampling_ratio" not in attrs:
        rois = rois[2:]  # onnx.reference keeps the last bin's maximum for regions without samples
    batch = np.arange(len(rois)) % 3
    check("RoiAlign", [x, rois, batch], attrs, opset=16, kernel=True)


def test_roi_align_of_many_samples():
    """More samples in a bin, and more channels, than the kernel takes at once."""
    arrays = [
        floats(1, 40, 90, 95),
        np.array([[0, 0, 95, 90], [10, 20, 60, 61]], np.float32),
        np.zeros(2, np.int64),
    ]
    for mode in ("avg", "max"):
        attrs = {"mode": mode, "output_height": 2, "output_width": 1, "sampling_ratio": 0}
        check(
            "RoiAlign",
            arrays,
            attrs,
            opset=16,
            oracle=ort("RoiAlign", attrs, opset=16),
            rtol=1e-4,
            atol=1e-5,
            kernel=True,
        )


def test_roi_align_opset_10_does_not_shift():
    arrays = [floats(2, 3, 9, 11), regions(8, 9, 11)[2:], np.array([0, 1, 0, 1, 0, 1])]
    attrs = {"output_height": 3, "output_width": 3, "sampling_ratio": 2}
    check("RoiAlign", arrays, attrs, opset=10, oracle=ort("RoiAlign", attrs, opset=10), kernel=True)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-6), (np.float16, 5e-3), (ml_dtypes.bfloat16, 5e-2)]
)
def test_roi_align_dtypes(dtype, tolerance):
    x, rois, batch = floats(1, 2, 9, 11), np.round(regions(7, 9, 11)), np.zeros(7, np.int64)
    attrs = {"output_height": 3, "output_width": 2, "sampling_ratio": 2}
    want = ort("RoiAlign", attrs, opset=16)
    check(
        "RoiAlign",
        [x.astype(dtype), rois.astype(dtype), batch],
        attrs,
        oracle=lambda x, r, b: want(x.astype(np.float32), r.astype(np.float32), b)[0].astype(dtype),
        rtol=tolerance,
        atol=tolerance,
        kernel=False,
    )


@pytest.mark.parametrize(
    ("roi", "image"),
    [
        ([0, 0, 4, 4], 1),
        ([0, 0, 4, 4], -1),
        ([0, 0, np.nan, 4], 0),
        ([0, 0, 1e30, 4], 0),
        ([0, 0, np.inf, 4], 0),
    ],
)
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_of_no_image(roi, image, mode):
    """NumPy raises; the kernel, which cannot, answers NaN and leaves the other regions alone."""
    feeds = {
        "x0": floats(1, 2, 5, 5),
        "x1": np.array([roi, [0, 0, 4, 4]], np.float32),
        "x2": np.array([image, 0]),
    }
    attrs = {"mode": mode, "output_height": 2, "output_width": 2}
    model = load(one_node("RoiAlign", list(feeds.values()), attrs).SerializeToString())
    if tilewise_kernels.NATIVE:
        y = model.run(feeds)["y0"]
        assert np.isnan(y[0]).all()
        assert np.isfinite(y[1]).all()
    with pytest.raises(ExecutionError, match=r"expected batch_indices in|expected a region of an image"):
        Model(model.graph, native=False).run(feeds)


def test_roi_align_carries_nan():
    x = floats(1, 1, 6, 6)
    x[0, 0, 2, 2] = np.nan
    for mode in ("avg", "max"):
        attrs = {"mode": mode, "output_height": 3, "output_width": 3, "sampling_ratio": 2}
        model = load(
            one_node("RoiAlign", [x, regions(3, 6, 6), np.zeros(3, np.int64)], attrs).SerializeToString()
        )
        for m in (model, Model(model.graph, native=False)):
            y = m.run({"x0": x, "x1": np.array([[0, 0, 6, 6]] * 3, np.float32), "x2": np.zeros(3, np.int64)})[
                "y0"
            ]
            assert np.isnan(y[:, :, 0, 1]).all() or np.isnan(y[:, :, 1, 1]).all()
            assert np.isfinite(y[:, :, 2, 2]).all()


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("pooled", [[1, 1], [2, 3], [7, 7]])
def test_max_roi_pool(scale, pooled):
    rois = regions(12, 9 / scale, 11 / scale)
    rois = np.concatenate([np.arange(12)[:, None] % 2, rois], axis=1).astype(np.float32)
    attrs = {"pooled_shape": pooled, "spatial_scale": scale}
    check("MaxRoiPool", [floats(2, 3, 9, 11), rois], attrs, oracle=ort("MaxRoiPool", attrs), kernel=True)


def test_max_roi_pool_dtypes_and_errors():
    x, rois = floats(1, 2, 6, 6), np.array([[0, 1, 1, 4, 5]], np.float32)
    attrs = {"pooled_shape": [2, 2]}
    want = ort("MaxRoiPool", attrs)
    for dtype in (np.float64, np.float16):
        oracle = lambda x, r, d=dtype: want(x.astype(np.float32), r.astype(np.float32))[0].astype(d)  # noqa: E731
        check("MaxRoiPool", [x.astype(dtype), rois.astype(dtype)], attrs, oracle=oracle, kernel=False)
    model = load(one_node("MaxRoiPool", [x, rois], attrs).SerializeToString())
    bad = {"x0": x, "x1": np.array([[1, 1, 1, 4, 5]], np.float32)}
    with pytest.raises(ExecutionError, match=r"expected images in \[0, 1\)"):
        Model(model.graph, native=False).run(bad)
    if tilewise_kernels.NATIVE:
        assert np.isnan(model.run(bad)["y0"]).all()


@pytest.mark.parametrize(
    ("op_type", "arrays", "attrs", "message"),
    [
        (
            "RoiAlign",
            [floats(1, 2, 3), floats(2, 4), np.zeros(2, np.int64)],
            {},
            r"expected x \(N, C, H, W\)",
        ),
        (
            "RoiAlign",
            [floats(1, 2, 3, 3), floats(2, 5), np.zeros(2, np.int64)],
            {},
            r"expected rois \(R, 4\)",
        ),
        (
            "RoiAlign",
            [floats(1, 2, 3, 3), floats(2, 4), np.zeros(3, np.int64)],
            {},
            "as many batch_indices as rois",
        ),
        (
            "RoiAlign",
            [floats(1, 2, 3, 3), floats(2, 4), np.zeros((2, 1), np.int64)],
            {},
            r"batch_indices \(R,\)",
        ),
        (
            "RoiAlign",
            [floats(1, 2, 3, 3), floats(2, 4), np.zeros(2, np.int64)],
            {"mode": "sum"},
            "mode='sum'",
        ),
        (
            "RoiAlign",
            [floats(1, 2, 3, 3), floats(2, 4), np.zeros(2, np.int64)],
            {"output_width": 0},
            "at least 1",
        ),
        (
            "MaxRoiPool",
            [floats(1, 2, 3, 3), floats(2, 4)],
            {"pooled_shape": [1, 1]},
            r"expected rois \(R, 5\)",
        ),
        (
            "MaxRoiPool",
            [floats(1, 2, 3, 3), floats(2, 5)],
            {"pooled_shape": [1]},
            "expected pooled_shape of two",
        ),
        ("NonMaxSuppression", [floats(1, 5, 3), floats(1, 2, 5)], {}, r"expected boxes \(N, S, 4\)"),
        ("NonMaxSuppression", [floats(1, 5, 4), floats(2, 5)], {}, r"expected scores \(N, classes, S\)"),
        (
            "NonMaxSuppression",
            [floats(1, 5, 4), floats(1, 2, 6)],
            {},
            r"expected boxes \(N, S, 4\) and scores",
        ),
    ],
)
def test_wrong_inputs_are_refused(op_type, arrays, attrs, message):
    with pytest.raises(TilewiseError, match=message):
        load(one_node(op_type, arrays, attrs).SerializeToString()).run(
            {f"x{i}": a for i, a in enumerate(arrays)}
        )


def boxes(images, count, center=False):
    """Boxes that overlap often; corners in any order."""
    rng = np.random.default_rng(3)
    corner, size = rng.uniform(0, 60, (images, count, 2)), rng.uniform(5, 25, (images, count, 2))
    if center:
        return np.concatenate([corner, size], axis=2).astype(np.float32)
    both = np.stack([corner, corner + size])
    flip = rng.integers(0, 2, (images, count, 2))
    first, second = np.where(flip, both[0], both[1]), np.where(flip, both[1], both[0])
    return np.concatenate([first, second], axis=2).astype(np.float32)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("opset", [10, 11])
@pytest.mark.parametrize(
    ("limit", "overlap", "score"), [(100, 0.3, None), (5, 0.5, 0.4), (3, 0.0, -1.0), (100, 1.0, 0.99)]
)
def test_non_max_suppression(center, opset, limit, overlap, score):
    scores = np.round(np.random.default_rng(4).random((2, 3, 60)), 1).astype(
        np.float32
    )  # equal scores abound
    arrays = [boxes(2, 60, bool(center)), scores, np.array([limit]), np.array([overlap], np.float32)]
    arrays += [] if score is None else [np.array([score], np.float32)]
    attrs = {"center_point_box": center}
    check(
        "NonMaxSuppression", arrays, attrs, opset=opset, oracle=ort("NonMaxSuppression", attrs, opset=opset)
    )


def test_non_max_suppression_of_many_boxes():
    rng = np.random.default_rng(5)
    arrays = [
        boxes(1, 2000),
        rng.random((1, 2, 2000)).astype(np.float32),
        np.array(300),
        np.array(0.4, np.float32),
    ]
    attrs = {"center_point_box": 0}
    check("NonMaxSuppression", arrays, attrs, opset=11, oracle=ort("NonMaxSuppression", attrs, opset=11))


def test_non_max_suppression_inputs_left_out():
    none = np.empty((0, 3), np.int64)
    arrays = [boxes(1, 5), floats(1, 1, 5)]
    check("NonMaxSuppression", arrays, opset=11, oracle=lambda *_: none)
    check("NonMaxSuppression", [*arrays, np.array([0])], opset=11, oracle=lambda *_: none)
    check("NonMaxSuppression", [*arrays, None, np.array([0.5], np.float32)], opset=11, oracle=lambda *_: none)
    limit, high = np.array([9]), np.array([99], np.float32)
    check("NonMaxSuppression", [*arrays, limit, None, high], opset=11, oracle=lambda *_: none)
    empty = [np.empty((1, 0, 4), np.float32), np.empty((1, 2, 0), np.float32), limit]
    check("NonMaxSuppression", empty, opset=11, oracle=lambda *_: none)


def test_flat_boxes_overlap_nothing():
    flat = np.array([[[0, 0, 0, 5], [0, 0, 0, 5], [0, 0, 4, 4], [0, 0, 4, 4]]], np.float32)
    scores = np.array([[[0.9, 0.8, 0.7, 0.6]]], np.float32)
    want = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    arrays = [flat, scores, np.array([10]), np.array([0.5], np.float32)]
    check("NonMaxSuppression", arrays, opset=11, oracle=lambda *_: want)


def test_a_threshold_outside_its_range_is_refused():
    arrays = [boxes(1, 5), floats(1, 1, 5), np.array([2]), np.array([1.5], np.float32)]
    model = load(one_node("NonMaxSuppression", arrays, opset=11).SerializeToString())
    with pytest.raises(TilewiseError, match=r"expected iou_threshold in \[0, 1\], got 1.5"):
        model.run({f"x{i}": a for i, a in enumerate(arrays)})
