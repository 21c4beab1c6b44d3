"""Fourier transforms against their sums in complex128, windows and the mel scale against their formulas."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto

import tilewise as tw
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise import TilewiseError

RNG = np.random.default_rng(17)
F32 = np.float32


def rand(*shape, dtype=F32):
    return RNG.standard_normal(shape).astype(dtype)


def scalar(value, dtype=np.int64):
    return np.asarray(value, dtype)


def parts(z, dtype=F32):
    return np.stack([z.real, z.imag], -1).astype(dtype)


def dft(x, axis, length=None, inverse=0, onesided=0):
    """y[k] = sum_n exp(-2 pi i k n / N) x[n] as a matrix product; of ONNX's form in and out."""
    dtype = x.dtype
    z = x[..., 0] + 1j * (x[..., 1] if x.shape[-1] == 2 else np.zeros(x.shape[:-1]))
    z = np.moveaxis(z.astype(np.complex128), axis % x.ndim, -1)
    real = inverse and onesided
    n = length or (2 * (z.shape[-1] - 1) if real else z.shape[-1])
    if real:
        half = np.zeros((*z.shape[:-1], n // 2 + 1), complex)
        half[..., : z.shape[-1]] = z[..., : n // 2 + 1]
        half[..., 0] = half[..., 0].real
        if n % 2 == 0:
            half[..., -1] = half[..., -1].real
        z = np.concatenate([half, half[..., (n - 1) // 2 : 0 : -1].conj()], -1)
    full = np.zeros((*z.shape[:-1], n), complex)
    full[..., : z.shape[-1]] = z[..., :n]
    k = np.arange(n)
    y = full @ np.exp((2j if inverse else -2j) * np.pi / n * np.outer(k, k))
    y = y / n if inverse else y
    y = np.moveaxis(y[..., : n // 2 + 1] if onesided and not inverse else y, -1, axis % x.ndim)
    return y.real[..., None].astype(dtype) if real else parts(y, dtype)


LENGTHS = [None, 1, 4, 5, 9, 16]
FORMS = {
    "real": (1, {}),
    "complex": (2, {}),
    "inverse": (2, {"inverse": 1}),
    "inverse of real": (1, {"inverse": 1}),
    "rfft": (1, {"onesided": 1}),
    "irfft": (2, {"onesided": 1, "inverse": 1}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("constants", [False, True], ids=["inputs", "constants"])
def test_dft(form, length, constants):
    last, attrs = FORMS[form]
    x = rand(2, 3, 9, last)
    n = None if length is None else scalar(length)
    for axis in (0, 1, -2, None):
        inputs = [x, n, None if axis is None else scalar(axis)]
        while inputs[-1] is None:
            inputs.pop()
        known = [i for i in range(1, len(inputs)) if inputs[i] is not None] if constants else ()
        want = dft(x, -2 if axis is None else axis, length, **attrs)
        check("DFT", inputs, attrs, constants=known, oracle=lambda *_, y=want: y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axis", [None, 0, 1, -2])
@pytest.mark.parametrize("opset", [17, 19])
def test_dft_with_the_axis_as_an_attribute(form, axis, opset):
    last, attrs = FORMS[form]
    x = rand(3, 4, 5, last)
    want = dft(x, 1 if axis is None else axis, **attrs)
    attrs = attrs if axis is None else {**attrs, "axis": axis}
    check("DFT", [x], attrs, opset=opset, oracle=lambda *_: want, rtol=1e-4, atol=1e-5)
    want = dft(x, 1 if axis is None else axis, 6, **FORMS[form][1])
    inputs = [x, scalar([6], np.int32)]
    check("DFT", inputs, attrs, opset=opset, oracle=lambda *_: want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (7, 2), (0, 5, 1), (2, 1, 3, 1, 2)])
def test_dft_of_odd_shapes(shape):
    x = rand(*shape)
    check("DFT", [x], oracle=lambda x: dft(x, -2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 2e-3), (ml_dtypes.bfloat16, 2e-2)], ids=str
)
def test_dft_types(dtype, tolerance):
    x = rand(2, 6, 2, dtype=dtype)
    wide = x.astype(np.float64)
    for attrs in ({}, {"inverse": 1}, {"inverse": 1, "onesided": 1}):
        want = dft(wide, -2, **attrs).astype(dtype)
        check("DFT", [x], attrs, oracle=lambda *_, y=want: y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_dft_as_onnxruntime(form):
    last, attrs = FORMS[form]
    x = rand(2, 12, last)
    check("DFT", [x], attrs, opset=20, oracle=ort("DFT", attrs, opset=20), rtol=1e-4, atol=1e-5)


def stft(x, step, window=None, length=None, onesided=1):
    n = (x.shape[1] if window is None else len(window)) if length is None else length
    window = np.ones(n) if window is None else window.astype(np.float64)
    frames = range((x.shape[1] - n) // step + 1)
    y = [dft(x[:, f * step : f * step + n].astype(np.float64) * window[:, None], 1) for f in frames]
    y = np.stack(y, 1)
    return (y[:, :, : n // 2 + 1] if onesided else y).astype(x.dtype)


STFT = {
    "one frame": (8, 3, None, 8),
    "one sample": (1, 1, None, 1),
    "whole signal": (9, 2, None, None),
    "window": (20, 3, 6, None),
    "window and length": (20, 4, 5, 5),
    "length": (21, 1, None, 7),
    "gaps": (30, 11, None, 4),
}


@pytest.mark.parametrize("case", STFT)
@pytest.mark.parametrize("onesided", [None, 0, 1])
@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("constants", [False, True], ids=["inputs", "constants"])
def test_stft(case, onesided, last, constants):
    size, step, window, length = STFT[case]
    x = rand(2, size, last)
    window = None if window is None else rand(window)
    inputs = [x, scalar(step), window, None if length is None else scalar(length)]
    while inputs[-1] is None:
        inputs.pop()
    attrs = {} if onesided is None else {"onesided": onesided}
    want = stft(x, step, window, length, 1 if onesided is None else onesided)
    known = [i for i in range(1, len(inputs)) if inputs[i] is not None] if constants else ()
    check("STFT", inputs, attrs, opset=17, constants=known, oracle=lambda *_: want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float16, 1e-2)], ids=str)
def test_stft_types(dtype, tolerance):
    x, window = rand(1, 12, 1, dtype=dtype), rand(6, dtype=dtype)
    want = stft(x.astype(np.float64), 2, window).astype(dtype)
    inputs = [x, scalar(2, np.int32), window]
    check("STFT", inputs, oracle=lambda *_: want, rtol=tolerance, atol=tolerance)


def test_stft_as_onnxruntime():
    inputs = [rand(2, 64, 1), scalar(7), rand(16), scalar(16)]
    check("STFT", inputs, opset=17, oracle=ort("STFT", opset=17), rtol=1e-4, atol=1e-4)


FORMULAS = {
    "HannWindow": lambda n, N: np.sin(np.pi * n / N) ** 2,
    "HammingWindow": lambda n, N: 25 / 46 - 21 / 46 * np.cos(2 * np.pi * n / N),
    "BlackmanWindow": lambda n, N: 0.42 - 0.5 * np.cos(2 * np.pi * n / N) + 0.08 * np.cos(4 * np.pi * n / N),
}


@pytest.mark.parametrize("op_type", FORMULAS)
@pytest.mark.parametrize("periodic", [None, 0, 1])
@pytest.mark.parametrize("size", [0, 2, 3, 10, 31])
@pytest.mark.parametrize("constants", [(), (0,)], ids=["input", "constant"])
def test_windows(op_type, periodic, size, constants):
    attrs = {} if periodic is None else {"periodic": periodic}
    want = FORMULAS[op_type](np.arange(size), size - 1 if periodic == 0 else size).astype(F32)
    check(op_type, [scalar(size, np.int32)], attrs, constants=constants, oracle=lambda *_: want, rtol=1e-6)


@pytest.mark.parametrize("op_type", FORMULAS)
def test_windows_of_one_point(op_type):
    check(op_type, [scalar(1)], oracle=lambda n: FORMULAS[op_type](np.zeros(1), 1).astype(F32))
    check(op_type, [scalar(1)], {"periodic": 0}, oracle=lambda n: np.ones(1, F32))


@pytest.mark.parametrize("op_type", FORMULAS)
@pytest.mark.parametrize("elem_type", ["DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT64", "UINT64"])
def test_window_types(op_type, elem_type):
    number = TensorProto.DataType.Value(elem_type)
    dtype = np.dtype(
        ml_dtypes.bfloat16
        if elem_type == "BFLOAT16"
        else getattr(np, elem_type.lower().replace("double", "float64"))
    )
    tolerance = {1: 0, 2: 1e-2, 8: 1e-12}.get(dtype.itemsize)
    want = FORMULAS[op_type](np.arange(8), 8).astype(dtype)
    attrs = {"output_datatype": number}
    check(op_type, [scalar(8)], attrs, oracle=lambda n: want, rtol=tolerance, atol=tolerance)


def mel(bands, length, rate, low, high):
    """Triangle by triangle, as the operator's description has it."""
    edges = np.linspace(*(2595 * np.log10(1 + np.array([low, high]) / 700)), bands + 3)[:-1]
    edges = [int((length + 1) * 700 * (10 ** (m / 2595) - 1) // rate) for m in edges]
    y = np.zeros((length // 2 + 1, bands), F32)
    for i, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for j in range(len(y)):
            if left <= j <= center:
                y[j, i] = (j - left) / (center - left) if center > left else 1
            if center <= j < right:
                y[j, i] = (right - j) / (right - center)
    return y


MEL = {
    "speech": (8, 64, 16000, 20, 7600),
    "many": (40, 512, 22050, 0, 11025),
    "narrow bands": (30, 32, 8000, 0, 4000),
    "one": (1, 16, 8000, 0, 4000),
    "none": (0, 16, 8000, 0, 4000),
    "beyond the last bin": (4, 16, 8000, 0, 16000),
    "one bin": (2, 1, 8000, 100, 300),
}


@pytest.mark.parametrize("case", MEL)
@pytest.mark.parametrize("constants", [(), range(5)], ids=["inputs", "constants"])
def test_mel_weight_matrix(case, constants):
    *counts, low, high = MEL[case]
    inputs = [*(scalar(n) for n in counts), scalar(low, F32), scalar(high, F32)]
    check("MelWeightMatrix", inputs, constants=constants, oracle=lambda *_: mel(*MEL[case]))


@pytest.mark.parametrize("case", ["speech", "many", "one"])
def test_mel_weight_matrix_as_onnxruntime(case):
    *counts, low, high = MEL[case]
    inputs = [*(scalar(n) for n in counts), scalar(low, F32), scalar(high, F32)]
    check("MelWeightMatrix", inputs, opset=17, oracle=ort("MelWeightMatrix", opset=17))


def test_mel_weight_matrix_types():
    inputs = [*(scalar(n, np.int32) for n in (5, 32, 8000)), scalar(50, np.float64), scalar(3500, np.float64)]
    for number, dtype in ((TensorProto.DOUBLE, np.float64), (TensorProto.INT32, np.int32)):
        want = mel(5, 32, 8000, 50, 3500).astype(dtype)
        attrs = {"output_datatype": number}
        check("MelWeightMatrix", inputs, attrs, oracle=lambda *_, y=want: y)


WRONG = {
    "parts": ("DFT", [rand(2, 5, 3)], {}, 20, "last dim of 1 (real) or 2 (complex), got float32[2, 5, 3]"),
    "rank": ("DFT", [rand(5)], {}, 20, "rank >= 2"),
    "axis": ("DFT", [rand(2, 5, 1), None, scalar(-1)], {}, 20, "other than the last of rank 3, got -1"),
    "axis attribute": ("DFT", [rand(2, 5, 1)], {"axis": 3}, 17, "outside [-3, 3)"),
    "length": ("DFT", [rand(2, 5, 1), scalar(0)], {}, 20, "dft_length of at least 1, got 0"),
    "empty": ("DFT", [rand(2, 0, 1)], {}, 20, "dft_length of at least 1"),
    "onesided": ("DFT", [rand(2, 5, 2)], {"onesided": 1}, 20, "expected a real signal"),
    "irfft": ("DFT", [rand(2, 5, 1)], {"onesided": 1, "inverse": 1}, 20, "expected a complex signal"),
    "signal": ("STFT", [rand(2, 5), scalar(1)], {}, 17, "expected a signal (N, length, 1 or 2)"),
    "short": ("STFT", [rand(2, 5, 1), scalar(1), None, scalar(6)], {}, 17, "frame_length in [1, 5]"),
    "step": ("STFT", [rand(2, 5, 1), scalar(0), None, scalar(2)], {}, 17, "frame_step of at least 1, got 0"),
    "window": ("STFT", [rand(2, 5, 1), scalar(1), rand(3), scalar(2)], {}, 17, "frame_length = 2 values"),
    "window rank": ("STFT", [rand(2, 5, 1), scalar(1), rand(3, 1)], {}, 17, "window of rank 1"),
    "size": ("HannWindow", [scalar(-1)], {}, 17, "size of at least 0, got -1"),
    "sizes": ("HannWindow", [scalar([1, 2])], {}, 17, "scalar size"),
    "type": ("HannWindow", [scalar(3)], {"output_datatype": 9}, 17, "'output_datatype' = 9 (bool)"),
    "rate": ("MelWeightMatrix", [scalar(n) for n in (2, 8, 0)] + [F32(1), F32(2)], {}, 17, "sample_rate"),
    "edges": ("MelWeightMatrix", [scalar(n) for n in (2, 8, 9)] + [F32(3), F32(2)], {}, 17, "upper_edge_hertz"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("constant", [False, True], ids=["inputs", "constants"])
def test_wrong_inputs_are_refused(case, constant):
    op_type, inputs, attrs, opset, text = WRONG[case]
    inputs = [None if a is None else np.asarray(a) for a in inputs]
    known = [i for i, a in enumerate(inputs) if a is not None] if constant else ()
    feeds = {f"x{i}": a for i, a in enumerate(inputs) if a is not None and i not in known}
    proto = one_node(op_type, inputs, attrs, opset=opset, constants=known)
    with pytest.raises(TilewiseError, match=re.escape(text)) as error:
        tw.load(proto.SerializeToString()).run(feeds)
    assert op_type in str(error.value)
