"""Resize and Upsample, natively and in NumPy, against onnx.reference and ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import tilewise_kernels
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.graph import Fact
from tilewise.ops.inference import infer
from tilewise.runtime.model import load

COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")


def floats(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def inputs(x, scales=None, sizes=None, roi=None):
    """The four inputs of Resize, and which are there to be constants."""
    given = [
        x,
        None if roi is None else np.array(roi, np.float32),
        None if scales is None else np.array(scales, np.float32),
        None if sizes is None else np.array(sizes, np.int64),
    ]
    while given[-1] is None:
        given.pop()
    return given, [i for i, a in enumerate(given) if i and a is not None]


def resize(x, attrs, *, scales=None, sizes=None, roi=None, constant=True, **options):
    arrays, present = inputs(x, scales, sizes, roi)
    if attrs.get("mode") == "cubic":  # onnx.reference computes the coefficients in float32
        options = {"atol": 5e-6, "rtol": 1e-5, **options}
    check("Resize", arrays, attrs, constants=present if constant else (), **options)


TARGETS = [
    # shape, scales, sizes
    ((2, 3, 4, 5), [1, 1, 2, 2], None),
    ((1, 2, 4, 6), [1, 1, 3, 1.5], None),
    ((1, 2, 7, 9), [1, 1, 0.625, 0.4375], None),
    ((1, 2, 5, 5), [1, 1, 1, 2.375], None),
    ((1, 2, 5, 5), [1, 1, 2.375, 1], None),
    ((1, 2, 5, 4), None, [1, 2, 3, 9]),
    ((1, 2, 5, 4), None, [1, 2, 1, 1]),
    ((1, 1, 1, 1), None, [1, 1, 3, 4]),
    ((5,), [1.75], None),
    ((3, 4), None, [7, 2]),
    ((2, 5, 3), [1, 1.625, 1], None),
    ((1, 3, 4, 5), None, [1, 6, 2, 5]),
    ((2, 3, 4, 3), [1, 2, 1.5, 1], None),
    ((1, 2, 3, 4, 5), [1, 1, 2, 1.5, 0.625], None),
    ((2, 2, 3), None, [3, 3, 2]),
    ((1, 2, 3, 2, 2, 2), None, [1, 2, 2, 3, 4, 1]),
]


@pytest.mark.parametrize(("shape", "scales", "sizes"), TARGETS)
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(mode, coordinate, shape, scales, sizes):
    if coordinate == "pytorch_half_pixel" and mode == "cubic" and 1 in (sizes or ()):
        pytest.skip("onnx.reference samples -0.5 where the text says 0; see the test of one element below")
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinate}
    resize(floats(*shape), attrs, scales=scales, sizes=sizes, kernel=True)


@pytest.mark.parametrize(("shape", "scales", "sizes"), TARGETS)
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(nearest, coordinate, shape, scales, sizes):
    attrs = {"mode": "nearest", "coordinate_transformation_mode": coordinate, "nearest_mode": nearest}
    resize(floats(*shape), attrs, scales=scales, sizes=sizes, kernel=True)


@pytest.mark.parametrize(("shape", "scales", "sizes"), TARGETS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "extra", [{"antialias": 1}, {"exclude_outside": 1}, {"antialias": 1, "exclude_outside": 1}]
)
def test_antialias_and_exclude_outside(extra, mode, shape, scales, sizes):
    resize(floats(*shape), {"mode": mode, **extra}, scales=scales, sizes=sizes, kernel=True)


def test_cubic_coefficient():
    for a in (-0.5, -1.0, 0.25):
        attrs = {"mode": "cubic", "cubic_coeff_a": a}
        resize(floats(1, 1, 5, 6), attrs, scales=[1, 1, 0.7, 2.5], kernel=True)
        resize(floats(1, 1, 9, 8), {**attrs, "antialias": 1}, scales=[1, 1, 0.3, 0.55], kernel=True)


def test_pytorch_half_pixel_of_one_element():
    """Output of length 1 samples place 0 (the operator's text)."""
    attrs = {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"}
    x = floats(1, 1, 1, 5)
    resize(x, attrs, sizes=[1, 1, 1, 1], oracle=lambda x, *_: x[..., :1], kernel=True)


@pytest.mark.parametrize("scale", [0.3, 0.6, 0.7, 0.9, 1.2, 1.4, 4 / 3, 5 / 3, 7 / 3, 2.1])
@pytest.mark.parametrize("coordinate", ["asymmetric", "half_pixel", "align_corners"])
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_rounded_scales_as_in_onnxruntime(scale, coordinate, nearest):
    """Sizes and nearest elements that hang on the rounding of a scale to float32."""
    if coordinate == "align_corners":
        sizes, scales = [1, 1, 5, int(20 * scale)], None
    else:
        sizes, scales = None, [1, 1, 1, scale]
    attrs = {"mode": "nearest", "coordinate_transformation_mode": coordinate, "nearest_mode": nearest}
    resize(floats(1, 1, 5, 20), attrs, scales=scales, sizes=sizes, oracle=ort("Resize", attrs), kernel=True)


CROPS = [
    # roi (starts, then ends), sizes, native
    ([0, 0, 0.2, 0.3, 1, 1, 0.7, 0.8], [1, 2, 3, 4], True),
    ([0, 0, 0.4, 0.6, 1, 1, 0.6, 0.8], [1, 2, 9, 8], True),
    ([0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7], [1, 2, 5, 5], False),
    ([0, 0, -0.5, 0.875, 1, 1, 0.625, 0.125], [1, 2, 5, 5], False),
    ([0, 0, 0.9, 0.1, 1, 1, 0.1, 0.9], [1, 2, 5, 5], True),
    ([0, 0, 0.2, 0.3, 1, 1, 0.7, 0.8], [1, 2, 5, 6], True),
    ([0, 0, 0.2, 0.3, 1, 1, 0.7, 0.8], [1, 2, 1, 1], True),
]


@pytest.mark.parametrize(("roi", "sizes", "native"), CROPS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_and_resize(mode, roi, sizes, native):
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.5,
    }
    resize(floats(1, 2, 5, 6), attrs, roi=roi, sizes=sizes, kernel=native)
    resize(floats(1, 2, 5, 6), attrs, roi=roi, sizes=sizes, constant=False, kernel=False)


def test_crop_and_resize_by_scales_and_axes():
    attrs = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "axes": [3, 2]}
    resize(floats(1, 2, 5, 6), attrs, roi=[0.1, 0.2, 0.8, 0.9], sizes=[7, 4], kernel=True)
    resize(floats(1, 2, 5, 6), attrs, roi=[0.1, 0.2, 0.8, 0.9], scales=[1.5, 2], kernel=True)


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2], [1], [0, 2], [-1]])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_axes(axes, mode):
    factors = [2, 0.75][: len(axes)]
    attrs = {"mode": mode, "axes": axes}
    positive = {**attrs, "axes": [a % 4 for a in axes]}
    oracle = reference(positive)
    resize(floats(1, 3, 4, 6), attrs, scales=factors, oracle=oracle, kernel=True)
    resize(floats(1, 3, 4, 6), attrs, sizes=[3, 5][: len(axes)], oracle=oracle, kernel=True)


def reference(attrs):
    """onnx.reference with other attributes than the node under test."""

    def run(*arrays):
        proto = one_node("Resize", arrays, attrs)
        feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
        return ReferenceEvaluator(proto).run(None, feeds)

    return run


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller", "stretch"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [[7, 8], [3, 2], [5, 5], [2, 9]])
def test_keep_aspect_ratio(policy, mode, sizes):
    attrs = {"mode": mode, "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    resize(floats(1, 2, 4, 6), attrs, sizes=sizes, kernel=True)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_older_opsets(mode, opset):
    """Opset 11 has empty tensors for inputs left out."""
    x, none = floats(1, 2, 4, 6), np.array([], np.float32)
    scales, sizes = np.array([1, 1, 2, 0.5], np.float32), np.array([1, 2, 7, 3])
    attrs = {"mode": mode}
    check("Resize", [x, none, scales], attrs, opset=opset, constants=[1, 2], kernel=True)
    check(
        "Resize",
        [x, none, none, sizes],
        attrs,
        opset=opset,
        constants=[1, 2, 3],
        oracle=lambda x, *_: reference(attrs)(x, None, None, sizes),
        kernel=True,
    )


def test_tf_half_pixel_for_nn():
    attrs = {
        "mode": "nearest",
        "coordinate_transformation_mode": "tf_half_pixel_for_nn",
        "nearest_mode": "floor",
    }
    for scale in (0.5, 1.5, 2, 3):
        arrays, present = inputs(floats(1, 1, 6, 6), [1, 1, scale, scale], roi=[])
        check(
            "Resize",
            arrays,
            attrs,
            opset=11,
            constants=present,
            oracle=ort("Resize", attrs, opset=11),
            kernel=True,
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 0.6, 0.4], [1, 1, 1.5, 3], [1, 1, 0.25, 2]])
def test_opset_10(mode, scales):
    arrays = [floats(2, 2, 8, 7), np.array(scales, np.float32)]
    check(
        "Resize",
        arrays,
        {"mode": mode},
        opset=10,
        constants=[1],
        oracle=ort("Resize", {"mode": mode}, opset=10),
        kernel=True,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    "scales", [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 1.5, 3.0], [1.0, 1.0, 1.0, 4.0], [1.0, 1.0, 1.0, 1.0]]
)
def test_upsample(mode, scales):
    x = floats(2, 2, 3, 5)
    attrs = {"mode": mode, "scales": scales}
    check("Upsample", [x], attrs, opset=7, oracle=ort("Upsample", attrs, opset=7), kernel=True)
    arrays = [x, np.array(scales, np.float32)]
    for constants in ((), (1,)):
        check(
            "Upsample",
            arrays,
            {"mode": mode},
            opset=9,
            constants=constants,
            oracle=ort("Upsample", {"mode": mode}, opset=9),
            kernel=bool(constants),
        )


@pytest.mark.parametrize(
    "dtype",
    [
        np.uint8,
        np.int8,
        np.uint16,
        np.int32,
        np.int64,
        np.float16,
        np.float64,
        bool,
        np.complex64,
        np.complex128,
    ],
)
def test_nearest_moves_any_element(dtype):
    x = np.arange(2 * 3 * 5 * 4).reshape(2, 3, 5, 4).astype(dtype)
    channels_last = x.transpose(0, 2, 3, 1).copy()
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for scales, rows, columns in (
        ([2, 2], np.arange(10) // 2, np.arange(8) // 2),
        ([3, 3], np.arange(15) // 3, np.arange(12) // 3),
        ([0.4, 0.5], [0, 2], [0, 2]),
    ):
        want = x[:, :, rows][:, :, :, columns]
        resize(x, attrs, scales=[1, 1, *scales], oracle=lambda *_, want=want: want, kernel=True)
        want = channels_last[:, rows][:, :, columns]
        resize(channels_last, attrs, scales=[1, *scales, 1], oracle=lambda *_, want=want: want, kernel=True)


def test_nearest_moves_strings():
    x = np.array([["a", "b"], ["c", "d"]], object)
    want = np.array([["a", "a", "b", "b"], ["c", "c", "d", "d"]], object)
    resize(x, {"mode": "nearest"}, scales=[1, 2], oracle=lambda *_: want, kernel=False)


@pytest.mark.parametrize(
    ("mode", "dtype", "tolerance"),
    [
        ("linear", np.float64, 1e-12),
        ("cubic", np.float64, 5e-6),
        ("linear", np.float16, 1e-3),
        ("cubic", np.float16, 1e-3),
        ("linear", ml_dtypes.bfloat16, 1e-2),
        ("cubic", ml_dtypes.bfloat16, 1e-2),
    ],
)
def test_interpolation_dtypes(mode, dtype, tolerance):
    x = floats(1, 2, 4, 5, dtype=dtype)
    resize(x, {"mode": mode}, scales=[1, 1, 1.7, 0.6], rtol=tolerance, atol=tolerance, kernel=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_integers_are_rounded_and_saturated(dtype):
    x = np.random.default_rng(0).integers(0, 2, (1, 1, 6, 6)).astype(dtype) * np.iinfo(np.int8).max
    for mode in ("linear", "cubic"):
        resize(x, {"mode": mode}, scales=[1, 1, 1.7, 2.6], kernel=False)


def test_complex_numbers_are_interpolated():
    x = floats(1, 1, 4, 5) + 1j * floats(1, 1, 4, 5)[::-1]
    real, imaginary = (reference({"mode": "linear"}) for _ in range(2))
    oracle = lambda x, *rest: real(x.real, *rest)[0] + 1j * imaginary(x.imag, *rest)[0]  # noqa: E731
    resize(x.astype(np.complex64), {"mode": "linear"}, scales=[1, 1, 2, 0.7], oracle=oracle, kernel=False)


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_wide_rows(mode):
    """Rows longer than what the kernel blends at once."""
    attrs = {"mode": mode}
    resize(floats(1, 1, 2, 9001), attrs, scales=[1, 1, 2, 0.5], kernel=True)
    resize(floats(2, 3, 9001), attrs, scales=[1, 2, 1], kernel=True)


def test_empty():
    resize(
        np.empty((0, 2, 3), np.float32),
        {"mode": "linear"},
        scales=[1, 1, 2],
        oracle=lambda x, *_: np.empty((0, 2, 6), x.dtype),
    )
    resize(floats(2, 3), {"mode": "nearest"}, scales=[1, 0.2], oracle=lambda x, *_: x[:, :0])
    resize(floats(2, 3), {"mode": "linear"}, sizes=[2, 0], oracle=lambda x, *_: x[:, :0])


def test_threads_change_nothing():
    if not tilewise_kernels.NATIVE:
        pytest.skip("no kernels in this build")
    arrays, present = inputs(floats(2, 5, 60, 61), [1, 1, 2.3, 1.9])
    for mode in ("nearest", "linear", "cubic"):
        proto = one_node("Resize", arrays, {"mode": mode}, constants=present)
        one, three = (load(proto.SerializeToString(), threads=t).run({"x0": arrays[0]})["y0"] for t in (1, 3))
        assert one.tobytes() == three.tobytes()


@pytest.mark.parametrize(
    ("attrs", "options", "message"),
    [
        ({}, {"scales": [1, 2]}, "expected 3 scales or sizes"),
        ({}, {"sizes": [1, 2, 3, 4]}, "expected 3 scales or sizes"),
        ({}, {"scales": [1, 1, 2], "sizes": [1, 2, 6]}, "expected either scales or sizes"),
        ({}, {"roi": [0.0]}, "expected either scales or sizes"),
        ({}, {"scales": [1, 1, 0]}, "expected scales above 0"),
        ({}, {"scales": [1, 1, -2]}, "expected scales above 0"),
        ({}, {"sizes": [1, 2, -3]}, "sizes of at least 0"),
        ({"axes": [3]}, {"scales": [2]}, r"axis 3 is outside \[-3, 3\)"),
        ({"axes": [1, -2]}, {"scales": [2, 2]}, "name one axis twice"),
        ({"mode": "area"}, {"scales": [1, 1, 2]}, "mode='area'"),
        ({"nearest_mode": "up"}, {"scales": [1, 1, 2]}, "nearest_mode='up'"),
        ({"coordinate_transformation_mode": "centre"}, {"scales": [1, 1, 2]}, "mode='centre'"),
        (
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            {"scales": [1, 1, 2]},
            "expected a roi of 6",
        ),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_wrong_forms_are_refused(attrs, options, message, constant):
    arrays, present = inputs(floats(1, 2, 3), **options)
    proto = one_node("Resize", arrays, attrs, constants=present if constant else ())
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None and not (constant and i)}
    with pytest.raises(TilewiseError, match=message):
        load(proto.SerializeToString()).run(feeds)


def test_strings_are_not_interpolated():
    arrays, present = inputs(np.array([["a", "b"]], object), [1, 2])
    with pytest.raises(TilewiseError, match="expected numbers for mode 'linear'"):
        load(one_node("Resize", arrays, {"mode": "linear"}, constants=present).SerializeToString())


def test_free_dims_are_kept_where_the_scale_is_one():
    arrays, present = inputs(floats(1, 3, 4, 5), [1, 1, 2, 2])
    graph = load(one_node("Resize", arrays, {"mode": "linear"}, constants=present).SerializeToString()).graph
    facts = infer(graph, {"x0": Fact(np.dtype(np.float32), ("N", 3, 4, "W"))})
    assert facts["y0"].shape == ("N", 3, 8, None)
