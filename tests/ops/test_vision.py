"""GridSample and AffineGrid, natively and in NumPy, against onnx.reference and ONNX Runtime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tilewise_kernels
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.graph import Fact
from tilewise.ops.inference import infer
from tilewise.runtime.model import load


def floats(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def grid(*shape, dtype=np.float32, reach=1.6):
    """Places inside and outside [-1, 1], with the corners, the centre and far places among them."""
    g = np.random.default_rng(1).uniform(-reach, reach, shape)
    special = [-1.0, 1.0, 0.0, -7.3, 25.0, 0.5]
    g.reshape(-1)[: min(len(special), g.size)] = special[: g.size]
    return g.astype(dtype)


GRIDS = [
    # x, grid
    ((1, 1, 4, 4), (1, 3, 5, 2)),
    ((2, 3, 5, 7), (2, 6, 4, 2)),
    ((1, 2, 1, 5), (1, 4, 3, 2)),
    ((1, 1, 1, 1), (1, 2, 3, 2)),
    ((2, 2, 3, 4, 5), (2, 2, 3, 4, 3)),
    ((1, 2, 6), (1, 9, 1)),
]


@pytest.mark.parametrize(("shape", "grid_shape"), GRIDS)
@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample(mode, padding_mode, align_corners, shape, grid_shape):
    if align_corners and padding_mode == "reflection" and 1 in shape[2:]:
        pytest.skip("onnx.reference divides by zero; see the test of axes of one element")
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if mode == "cubic" else {}  # its coefficients are float32
    check("GridSample", [floats(*shape), grid(*grid_shape)], attrs, opset=20, kernel=True, **tolerance)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_axes_of_one_element_reflect_onto_it(mode):
    attrs = {"mode": mode, "padding_mode": "reflection", "align_corners": 1}
    x, g = floats(1, 2, 1, 1), grid(1, 3, 4, 2)
    check("GridSample", [x, g], attrs, oracle=lambda x, g: np.broadcast_to(x, (1, 2, 3, 4)), kernel=True)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align_corners", [0, 1])
def test_grid_sample_opset_16(mode, padding_mode, align_corners):
    if (mode, padding_mode) == ("bicubic", "border"):
        pytest.skip("ONNX Runtime moves both coordinates of a place to the border where one lies outside")
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    arrays = [floats(2, 3, 8, 9), grid(2, 5, 6, 2)]
    oracle = ort("GridSample", attrs, opset=16)
    check("GridSample", arrays, attrs, opset=16, oracle=oracle, rtol=1e-4, atol=2e-5, kernel=True)


def test_grid_sample_of_many_points_and_channels():
    attrs = {"mode": "linear", "padding_mode": "border"}
    arrays = [floats(1, 70, 9, 9), grid(1, 30, 31, 2)]
    check("GridSample", arrays, attrs, opset=20, oracle=ort("GridSample", attrs, opset=20), kernel=True)
    attrs = {"mode": "cubic"}
    arrays = [floats(1, 2, 5, 6, 7), grid(1, 3, 20, 4, 3)]
    check("GridSample", arrays, attrs, opset=20, rtol=1e-4, atol=2e-5, kernel=True)


def test_four_spatial_axes_run_in_numpy():
    arrays = [floats(1, 1, 2, 3, 2, 3), grid(1, 2, 1, 2, 2, 4)]
    check("GridSample", arrays, {"mode": "linear"}, opset=20, kernel=False)


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_places_without_end(mode, padding_mode):
    """NaN and infinite places never read outside x, and answer as a place far outside does."""
    far = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38], np.float32)
    g = np.stack([far, np.zeros(5, np.float32)], axis=-1).reshape(1, 1, 5, 2)
    x = floats(1, 1, 3, 3)
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": 1}
    model = load(one_node("GridSample", [x, g], attrs).SerializeToString())
    native = model.run({"x0": x, "x1": g})["y0"]
    assert np.isfinite(native).all()
    if padding_mode == "zeros":
        assert not native.any()
    if padding_mode == "border":
        left, right = x[0, 0, 1, 0], x[0, 0, 1, 2]
        np.testing.assert_allclose(native[0, 0, 0], [left, right, left, right, left], rtol=1e-6)


def test_elements_outside_never_count():
    x = np.full((1, 1, 3, 3), np.nan, np.float32)
    g = np.array([[[[-5, -5], [5, 0]]]], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        check(
            "GridSample",
            [x, g],
            {"mode": mode},
            oracle=lambda *_: np.zeros((1, 1, 1, 2), np.float32),
            kernel=True,
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_dtypes(dtype, mode):
    x, g = floats(1, 2, 5, 6, dtype=dtype), grid(1, 3, 4, 2)
    want = ort("GridSample", {"mode": mode}, opset=20)
    tolerance = {np.float64: 1e-5}.get(dtype, 2e-2)
    check(
        "GridSample",
        [x, g],
        {"mode": mode},
        oracle=lambda x, g: want(x.astype(np.float32), g)[0].astype(dtype),
        rtol=tolerance,
        atol=tolerance,
        kernel=False,
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_grid_of_other_floats(dtype):
    want = ort("GridSample", {"mode": "linear"}, opset=20)
    arrays = [floats(1, 2, 5, 6), (np.round(grid(1, 3, 4, 2) * 16) / 16).astype(dtype)]
    oracle = lambda x, g: want(x, g.astype(np.float32))  # noqa: E731
    check("GridSample", arrays, {"mode": "linear"}, oracle=oracle, kernel=False)


def test_integers_are_truncated_and_strings_picked():
    g = np.array([[[[-1, -1], [1, 1], [0, 0], [3, 0]]]], np.float32)
    x = np.array([[[[1, 2], [4, 8]]]])
    attrs = {"mode": "linear", "align_corners": 1}
    for dtype in (np.int32, np.uint8, np.int64):
        want = np.array([[[[1, 8, 3, 0]]]], dtype)  # 15 / 4 is cut to 3
        check("GridSample", [x.astype(dtype), g], attrs, oracle=lambda *_, want=want: want)
    check(
        "GridSample",
        [np.array([[[["a", "b"], ["c", "d"]]]], object), g],
        {"mode": "nearest", "align_corners": 1},
        oracle=lambda *_: np.array([[[["a", "d", "a", ""]]]], object),
    )
    check(
        "GridSample",
        [(x * (1 + 2j)).astype(np.complex64), g],
        attrs,
        oracle=lambda *_: (np.array([[[[1, 8, 3.75, 0]]]]) * (1 + 2j)).astype(np.complex64),
    )


def test_grid_sample_empty():
    attrs = {"mode": "linear"}
    check("GridSample", [floats(0, 2, 3, 3), grid(0, 2, 2, 2)], attrs, oracle=lambda *_: floats(0, 2, 2, 2))
    check("GridSample", [floats(1, 2, 3, 3), grid(1, 0, 2, 2)], attrs, oracle=lambda *_: floats(1, 2, 0, 2))


@pytest.mark.parametrize(
    ("x", "g", "attrs", "message"),
    [
        (floats(1, 2, 3, 3), grid(1, 2, 2, 3), {}, r"expected x \(N, C, \*S\) and grid \(N, \*P, 2\)"),
        (floats(1, 2, 3, 3), grid(1, 2, 2), {}, r"expected x \(N, C, \*S\) and grid \(N, \*P, 2\)"),
        (floats(1, 2), grid(1, 2), {}, "expected x"),
        (floats(2, 2, 3, 3), grid(1, 2, 2, 2), {}, "of one N"),
        (floats(1, 2, 3, 3), grid(1, 2, 2, 2), {"mode": "area"}, "mode='area'"),
        (floats(1, 2, 3, 3), grid(1, 2, 2, 2), {"padding_mode": "wrap"}, "padding_mode='wrap'"),
    ],
)
def test_grid_sample_refuses(x, g, attrs, message):
    with pytest.raises(TilewiseError, match=message):
        load(one_node("GridSample", [x, g], attrs).SerializeToString()).run({"x0": x, "x1": g})


def test_threads_change_nothing():
    if not tilewise_kernels.NATIVE:
        pytest.skip("no kernels in this build")
    x, g = floats(2, 8, 30, 30), grid(2, 40, 41, 2)
    for mode in ("nearest", "linear", "cubic"):
        proto = one_node("GridSample", [x, g], {"mode": mode}).SerializeToString()
        one, three = (load(proto, threads=t).run({"x0": x, "x1": g})["y0"] for t in (1, 3))
        assert one.tobytes() == three.tobytes()


def affine(align_corners):
    """Place by place in float64."""

    def run(theta, size):
        sizes = [int(s) for s in size[2:]]
        y = np.empty((len(theta), *sizes, len(sizes)))
        for n, *at in np.ndindex(y.shape[:-1]):
            place = []
            for i, s in zip(at, sizes, strict=True):
                if align_corners:
                    place.append(-1 + 2 * i / (s - 1) if s > 1 else 0.0)
                else:
                    place.append(-1 + (2 * i + 1) / s)
            y[(n, *at)] = theta[n].astype(np.float64) @ [*place[::-1], 1.0]
        return y.astype(theta.dtype)

    return run


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("sizes", [(4, 5), (1, 3), (2, 3, 4), (1, 1, 6), (30, 41)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_affine_grid(align_corners, sizes, dtype):
    r = len(sizes)
    arrays = [floats(2, r, r + 1, dtype=dtype), np.array([2, 3, *sizes])]
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if dtype == np.float16 else {}
    for constants in ((), (1,)):
        check(
            "AffineGrid",
            arrays,
            {"align_corners": align_corners},
            opset=20,
            constants=constants,
            oracle=affine(align_corners),
            kernel=bool(constants) and dtype == np.float32,
            **tolerance,
        )


@pytest.mark.parametrize(
    ("shape", "size"),
    [((2, 2, 4), [2, 1, 3, 3]), ((2, 3, 4), [2, 1, 3, 3]), ((3, 2, 3), [2, 1, 3, 3]), ((2, 1, 2), [2, 1, 3])],
)
@pytest.mark.parametrize("constants", [(), (1,)])
def test_affine_grid_refuses(shape, size, constants):
    arrays = [floats(*shape), np.array(size)]
    feeds = {"x0": arrays[0]} if constants else {"x0": arrays[0], "x1": arrays[1]}
    with pytest.raises(TilewiseError, match="expected theta"):
        load(one_node("AffineGrid", arrays, constants=constants).SerializeToString()).run(feeds)


def test_free_dims_are_kept():
    arrays = [floats(1, 2, 3), np.array([1, 3, 4, 5])]
    graph = load(one_node("AffineGrid", arrays).SerializeToString()).graph
    facts = infer(
        graph, {"x0": Fact(np.dtype(np.float32), ("N", 2, 3)), "x1": Fact(np.dtype(np.int64), (4,))}
    )
    assert facts["y0"].shape == ("N", None, None, 2)
