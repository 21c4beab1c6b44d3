"""`tilewise run`: where inputs come from, how photos become arrays, what is printed and written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tests import small_models
from tests.cli.tool import Tool
from tilewise.cli.run import class_scores, probabilities

FLOAT, UINT8, INT8, INT32, STRING = (
    TensorProto.FLOAT,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.STRING,
)
Echo = Callable[..., np.ndarray]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Six by four pixels, each of another colour."""
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


@pytest.fixture
def echo(tilewise: Tool, tmp_path: Path) -> Echo:
    """Run a model that hands x on, and give back what it was fed."""

    def run(shape: list, *args: object, dtype: int = FLOAT) -> np.ndarray:
        path = echo_model(tmp_path, shape, dtype)
        tilewise.fine("run", path, "--output", tmp_path / "out.npz", *args)
        with np.load(tmp_path / "out.npz") as data:
            assert data.files == ["y"]
            return data["y"]

    return run


def echo_model(folder: Path, shape: list, dtype: int = FLOAT) -> str:
    proto = small_models.model(
        [helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape}, dtype=dtype
    )
    return small_models.save(proto, folder / "echo.onnx")


def failing(tilewise: Tool, folder: Path, shape: list, *args: object, dtype: int = FLOAT) -> str:
    return tilewise.error("run", echo_model(folder, shape, dtype), *args)


# Arrays and random numbers.


def test_npy_with_and_without_a_name(echo: Echo, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(echo(["N", 5], "--input", tmp_path / "x.npy"), x)
    np.testing.assert_array_equal(echo(["N", 5], "--input", f"x={tmp_path / 'x.npy'}"), x)


def test_npz_by_name_or_as_the_only_array(echo: Echo, tmp_path: Path) -> None:
    x = np.ones((2, 5), np.float32)
    np.savez(tmp_path / "named.npz", x=x, other=x[0])
    np.savez(tmp_path / "only.npz", anything=x)
    for name in ("named", "only"):
        np.testing.assert_array_equal(echo([2, 5], "--input", f"x={tmp_path / name}.npz"), x)


def test_one_npz_may_hold_all_inputs(tilewise: Tool, pair: str, tmp_path: Path) -> None:
    a, b = np.ones((2, 4), np.float32), np.full((2, 4), 2, np.float32)
    np.savez(tmp_path / "all.npz", a=a, b=b)
    tilewise.fine("run", pair, "--input", tmp_path / "all.npz", "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as data:
        assert data.files == ["total", "scaled"]
        np.testing.assert_array_equal(data["total"], a + b)


def test_random_fills_free_dims_with_one_or_as_told(echo: Echo) -> None:
    assert echo(["N", 3, None], "--input", "random").shape == (1, 3, 1)
    assert echo(["N", 3, None], "--input", "x=random", "--shape", "x=2,3,7").shape == (2, 3, 7)
    assert echo(["N", 3, None], "--input", "random", "--shape", "2,3,7").shape == (2, 3, 7)


def test_random_takes_named_dims_from_other_inputs(tilewise: Tool, pair: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 4), np.float32))
    text = tilewise.fine("run", pair, "--input", f"a={tmp_path / 'a.npy'}", "--input", "b=random")
    assert "5x4" in text


def test_random_is_the_seed_s_alone(echo: Echo) -> None:
    one, same, other = (echo([3, 4], "--input", "random", "--seed", seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_random_numbers_of_each_kind(echo: Echo) -> None:
    small = echo([1000], "--input", "random", dtype=INT8)
    assert (small.dtype, small.min() < -100, small.max() > 100) == (np.int8, True, True)
    index = echo([1000], "--input", "random", dtype=INT32)
    assert set(index.tolist()) == {0, 1}
    assert set(echo([1000], "--input", "random", dtype=TensorProto.BOOL).tolist()) == {True, False}
    assert abs(float(echo([1000], "--input", "random", dtype=TensorProto.DOUBLE).std()) - 1) < 0.2


# Photos.


def test_a_photo_is_scaled_to_0_1_and_laid_out(echo: Echo, photo: Path) -> None:
    want = pixels(photo) / 255
    np.testing.assert_allclose(echo([1, 3, 4, 6], "--input", photo)[0], want.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_allclose(echo(["N", 4, 6, 3], "--input", photo)[0], want, atol=1e-6)
    np.testing.assert_allclose(echo([3, "H", "W"], "--input", photo), want.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_allclose(
        echo(["N", "C", "H", "W"], "--input", photo)[0], want.transpose(2, 0, 1), atol=1e-6
    )


def test_a_photo_is_resized_to_the_input(echo: Echo, photo: Path) -> None:
    want = (
        np.asarray(Image.open(photo).convert("RGB").resize((9, 5), Image.Resampling.BILINEAR), np.float64)
        / 255
    )
    np.testing.assert_allclose(echo([1, 3, 5, 9], "--input", photo)[0], want.transpose(2, 0, 1), atol=1e-6)
    given = echo(["N", 3, "H", "W"], "--input", photo, "--shape", "x=1,3,5,9")
    np.testing.assert_allclose(given[0], want.transpose(2, 0, 1), atol=1e-6)


def test_a_grey_input_gets_grey(echo: Echo, photo: Path) -> None:
    want = np.asarray(Image.open(photo).convert("L"), np.float64) / 255
    np.testing.assert_allclose(echo([1, 1, 4, 6], "--input", photo)[0, 0], want, atol=1e-6)
    np.testing.assert_allclose(echo([1, 4, 6, 1], "--input", photo)[0, :, :, 0], want, atol=1e-6)


def test_integer_inputs_get_the_pixels_themselves(echo: Echo, photo: Path) -> None:
    got = echo([1, 4, 6, 3], "--input", photo, dtype=UINT8)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[0], pixels(photo))


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("unit", 0, 255),
        ("none", 0, 1),
        ("signed", 127.5, 127.5),
        ("127/128", 127, 128),
        ("10,20,30/2", (10, 20, 30), 2),
        ("imagenet", tuple(255 * v for v in IMAGENET[0]), tuple(255 * v for v in IMAGENET[1])),
    ],
)
def test_normalizations(echo: Echo, photo: Path, normalize: str, mean, std) -> None:
    want = (pixels(photo) - mean) / std
    got = echo([1, 4, 6, 3], "--input", photo, "--normalize", normalize)
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-5)


def test_a_photo_is_turned_upright(echo: Echo, tmp_path: Path) -> None:
    lying = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    exif = lying.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    lying.save(tmp_path / "lying.png", exif=exif)
    want = np.rot90(np.asarray(lying), -1)
    np.testing.assert_array_equal(
        echo(["H", "W", 1], "--input", tmp_path / "lying.png", dtype=UINT8)[..., 0], want
    )


# What is printed.


def test_outputs_and_the_best_classes_are_printed(tilewise: Tool, cnn: str, photo: Path) -> None:
    text = tilewise.fine("run", cnn, "--input", photo, "--top", "3", "--threads", "2")
    assert "image" in text
    assert "6x4 pixels, normalized as unit" in text
    assert "1x10" in text
    assert "best classes of scores" in text
    assert "softmax" in text
    ranks = [
        line.split()[1]
        for line in text.partition("best classes")[2].splitlines()
        if line.startswith(" 0 ") or line.split()[:1] == ["0"]
    ]
    assert ranks == ["1", "2", "3"]
    assert "on 2 thread(s)" in text


def test_top_0_prints_no_classes(tilewise: Tool, cnn: str, photo: Path) -> None:
    assert "best classes" not in tilewise.fine("run", cnn, "--input", photo, "--top", "0")


def test_numbers_of_an_output(tilewise: Tool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[-1.5, 0, 3]], np.float32))
    text = tilewise.fine("run", echo_model(tmp_path, [1, 3]), "--input", tmp_path / "x.npy")
    row = next(line.split() for line in text.splitlines() if line.split()[:2] == ["y", "float32"])
    assert row == ["y", "float32", "1x3", "-1.5", "0.5", "3"]


def test_what_looks_like_a_classifier() -> None:
    assert class_scores(np.zeros((2, 5), np.float32)).shape == (2, 5)
    assert class_scores(np.zeros((2, 5, 1, 1), np.float32)).shape == (2, 5)
    for other in (
        np.zeros((2, 5), np.int64),
        np.zeros((1, 9, 2), np.float32),
        np.zeros(5, np.float32),
        [1],
        None,
    ):
        assert class_scores(other) is None
    assert class_scores(np.zeros((2, 1), np.float32)) is None
    assert class_scores(np.zeros((0, 5), np.float32)) is None


def test_distributions_are_left_and_logits_are_softened() -> None:
    shares = np.array([[0.25, 0.75]])
    assert probabilities(shares) is shares
    np.testing.assert_allclose(
        probabilities(np.array([[1000.0, 1000.0], [0.0, np.log(3)]])), [[0.5, 0.5], [0.25, 0.75]]
    )


# What is refused.


def test_inputs_left_out_or_unknown(tilewise: Tool, pair: str, tmp_path: Path) -> None:
    assert "no value for input(s) a, b: give --input a=FILE --input b=FILE" in tilewise.error("run", pair)
    assert "no value for input(s) b" in tilewise.error("run", pair, "--input", "a=random")
    assert "no input 'c'; the model has a, b" in tilewise.error("run", pair, "--input", "c=random")
    assert "say which input" in tilewise.error("run", pair, "--input", "random")
    np.savez(tmp_path / "x.npz", a=np.zeros((1, 4), np.float32), c=np.zeros(1))
    assert "no input 'c'" in tilewise.error("run", pair, "--input", tmp_path / "x.npz")
    np.save(tmp_path / "a.npy", np.zeros((1, 4), np.float32))
    twice = tilewise.error(
        "run", pair, "--input", f"a={tmp_path / 'a.npy'}", "--input", "a=random", "--input", "b=random"
    )
    assert "input 'a' is given twice" in twice


def test_arrays_that_do_not_fit(tilewise: Tool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 5)))
    assert "expected dtype float32, got float64" in failing(
        tilewise, tmp_path, [2, 5], "--input", tmp_path / "x.npy"
    )
    np.save(tmp_path / "x.npy", np.zeros((2, 4), np.float32))
    assert "expected shape" in failing(tilewise, tmp_path, [2, 5], "--input", tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", a=np.zeros(1), b=np.zeros(1))
    assert "no array 'x'; it has a, b" in failing(
        tilewise, tmp_path, [1], "--input", f"x={tmp_path / 'x.npz'}"
    )


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.jpg"])
def test_files_that_cannot_be_read(tilewise: Tool, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "no such file" in failing(tilewise, tmp_path, [1, 3, 4, 4], "--input", path)
    path.write_bytes(b"nonsense")
    assert f"{path}: cannot be read as" in failing(tilewise, tmp_path, [1, 3, 4, 4], "--input", path)
    path.write_bytes(b"")
    assert f"{path}: cannot be read as" in failing(tilewise, tmp_path, [1, 3, 4, 4], "--input", path)


def test_pickled_objects_are_never_loaded(tilewise: Tool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([object()]), allow_pickle=True)
    assert "cannot be read as .npy" in failing(tilewise, tmp_path, [1], "--input", tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([2, 3, 4, 4], "batch of 2"),
        ([1, 5, 4, 4], "1 or 3 channels"),
        ([1, 3], "rank 3 or 4"),
        ([1, 3, 4, 4, 4], "rank 3 or 4"),
    ],
)
def test_inputs_that_take_no_photo(
    tilewise: Tool, tmp_path: Path, photo: Path, shape: list, message: str
) -> None:
    assert message in failing(tilewise, tmp_path, shape, "--input", photo)


def test_types_that_take_no_photo(tilewise: Tool, tmp_path: Path, photo: Path) -> None:
    assert "int8" in failing(tilewise, tmp_path, [1, 3, 4, 4], "--input", photo, dtype=INT8)
    normalized = failing(
        tilewise, tmp_path, [1, 3, 4, 4], "--input", photo, "--normalize", "unit", dtype=UINT8
    )
    assert "--normalize is for floating-point inputs" in normalized
    assert "numeric tensors only" in failing(tilewise, tmp_path, [2], "--input", "random", dtype=STRING)


@pytest.mark.parametrize("normalize", ["nonsense", "1", "1/2/3", "1,2/3", "1/0", "1/-2", "nan/1", "1/inf"])
def test_wrong_normalizations(tilewise: Tool, tmp_path: Path, photo: Path, normalize: str) -> None:
    text = failing(tilewise, tmp_path, [1, 3, 4, 4], "--input", photo, "--normalize", normalize)
    assert f"--normalize {normalize}: " in text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("x=1,a", "expected integers separated by commas"),
        ("x=1,-3", "dims are at least 0"),
        ("x=1,4", "(1, 4) does not fit"),
        ("x=3", "(3,) does not fit"),
        ("z=1,3", "no input 'z'"),
    ],
)
def test_wrong_shapes(tilewise: Tool, tmp_path: Path, shape: str, message: str) -> None:
    assert message in failing(tilewise, tmp_path, ["N", 3], "--input", "random", "--shape", shape)


def test_output_must_be_an_npz_that_can_be_written(tilewise: Tool, tmp_path: Path) -> None:
    assert "ends in .npz" in failing(
        tilewise, tmp_path, [2], "--input", "random", "--output", tmp_path / "out.txt"
    )
    nowhere = tmp_path / "nowhere" / "out.npz"
    assert str(nowhere) in failing(tilewise, tmp_path, [2], "--input", "random", "--output", nowhere)


def test_without_pillow_the_extra_is_named(
    tilewise: Tool, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert 'pip install "tilewise[demo]"' in failing(tilewise, tmp_path, [1, 3, 4, 6], "--input", photo)


def test_an_unsupported_model_is_refused_with_all_findings(tilewise: Tool, unsupported: str) -> None:
    text = tilewise.error("run", unsupported, "--input", "random")
    assert "'first'" in text
    assert "'last'" in text


def test_sequences_and_names_with_slashes_are_saved(tilewise: Tool, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("SequenceConstruct", ["x", "x"], ["list"]),
            helper.make_node("Identity", ["x"], ["a/file"]),
        ],
        "names",
        [helper.make_tensor_value_info("x", FLOAT, [2])],
        [
            helper.make_tensor_sequence_value_info("list", FLOAT, [2]),
            helper.make_tensor_value_info("a/file", FLOAT, [2]),
        ],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", small_models.OPSET)], ir_version=8
    )
    onnx.checker.check_model(proto)
    path = small_models.save(proto, tmp_path / "names.onnx")
    tilewise.fine("run", path, "--input", "random", "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as data:
        assert data.files == ["list.0", "list.1", "a/file"]
        np.testing.assert_array_equal(data["list.1"], data["a/file"])
