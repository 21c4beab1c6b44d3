"""Linear quantization, against the formula in float64, worked examples and `onnx.reference`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.ops.elementwise_cases import dtype, infer, normal, versions
from tests.ops.harness import check
from tilewise import TilewiseError
from tilewise.graph import Fact

F32 = np.dtype("float32")
RANGES = {
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 65535),
    "int16": (-32768, 32767),
    "uint4": (0, 15),
    "int4": (-8, 7),
    "uint2": (0, 3),
    "int2": (-2, 1),
}


def quantized(x, scale, zero, of):
    low, high = RANGES[of]
    y = np.rint((x / np.asarray(scale, x.dtype)).astype(np.float64)) + np.asarray(zero).astype(np.float64)
    return np.clip(y, low, high).astype(np.int32).astype(dtype(of))


@pytest.mark.parametrize("of", RANGES)
def test_quantize_types(of):
    x, scale, zero = normal(4, 5, scale=30), np.float32(2), np.array(1).astype(dtype(of))
    check("QuantizeLinear", [x, np.asarray(scale), zero], oracle=lambda x, s, z: quantized(x, 2, 1, of))


def test_quantize_goes_to_even_and_saturates():
    x = np.float32([1, 3, 5, -1, -3, 1000, -1000, np.inf, -np.inf])
    expected = np.int8([0, 2, 2, 0, -2, 127, -128, 127, -128])
    inputs = [x, np.asarray(np.float32(2)), np.asarray(np.int8(0))]
    check("QuantizeLinear", inputs, oracle=lambda *_: expected)


def test_quantize_defaults_to_uint8():
    x = np.float32([-1, 0, 300])
    check("QuantizeLinear", [x, np.asarray(np.float32(1))], oracle=lambda *_: np.uint8([0, 0, 255]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_axis(axis):
    x = normal(3, 4, 5, scale=20)
    n, spread = x.shape[axis], [-1 if i == axis % 3 else 1 for i in range(3)]
    scale, zero = np.linspace(0.5, 2, n, dtype=np.float32), np.arange(n, dtype=np.uint8)
    s, z = scale.reshape(spread), zero.reshape(spread)
    (y,) = check(
        "QuantizeLinear",
        [x, scale, zero],
        {"axis": axis},
        oracle=lambda *_: quantized(x, s, z, "uint8"),
    )
    expected = ((y.astype(np.float64) - z) * s).astype(np.float32)
    check("DequantizeLinear", [y, scale, zero], {"axis": axis}, oracle=lambda *_: expected)


@pytest.mark.parametrize(
    ("axis", "block", "blocks"), [(1, 2, (3, 2, 5)), (1, 3, (3, 2, 5)), (-1, 5, (3, 4, 1))]
)
def test_blocks(axis, block, blocks):
    x = normal(3, 4, 5, scale=20)
    scale, zero = np.abs(normal(*blocks, seed=1)) + 0.5, np.full(blocks, 7, np.int8)
    attrs = {"axis": axis, "block_size": block}
    index = (slice(None),) * (axis % 3) + (np.arange(x.shape[axis]) // block,)
    expected = quantized(x, scale[index], 7, "int8")
    check("QuantizeLinear", [x, scale, zero], attrs, oracle=lambda *_: expected)
    back = ((expected.astype(np.float64) - 7) * scale[index]).astype(np.float32)
    check("DequantizeLinear", [expected, scale, zero], attrs, oracle=lambda *_: back)


@pytest.mark.parametrize("of", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_quantize_to_floats(of):
    x, zero = np.float32([0, 1.1, -3, 1e6]), np.zeros((), dtype(of))
    top = {"float8_e4m3fn": 448, "float8_e5m2": 57344, "float4_e2m1fn": 6}[of]
    expected = np.clip(x / 2, -top, top).astype(dtype(of))
    check("QuantizeLinear", [x, np.asarray(np.float32(2)), zero], oracle=lambda *_: expected)


def test_output_dtype():
    attrs = {"output_dtype": onnx.TensorProto.INT16}
    x, scale = normal(7, scale=1000), np.asarray(np.float32(0.25))
    check("QuantizeLinear", [x, scale], attrs, oracle=lambda *_: quantized(x, 0.25, 0, "int16"))
    q, half = np.int8([1, -3, 100]), np.asarray(np.float32(0.5))
    attrs = {"output_dtype": onnx.TensorProto.FLOAT16}
    check("DequantizeLinear", [q, half], attrs, oracle=lambda *_: np.float16([0.5, -1.5, 50]))


@pytest.mark.parametrize("of", [*RANGES, "int32", "float8_e4m3fn", "float4_e2m1fn"])
@pytest.mark.parametrize("scale_type", ["float32", "float16", "bfloat16"])
def test_dequantize_types(of, scale_type):
    x, scale = np.array([0, 1, 1]).astype(dtype(of)), np.array(1.5).astype(dtype(scale_type))
    check("DequantizeLinear", [x, scale], oracle=lambda *_: np.array([0, 1.5, 1.5]).astype(dtype(scale_type)))


@pytest.mark.parametrize("opset", versions("QuantizeLinear"))
def test_versions(opset):
    scale, zero = np.asarray(np.float32(0.1)), np.asarray(np.uint8(100))
    check("QuantizeLinear", [normal(4, 5), scale, zero], opset=opset)
    x = np.arange(20, dtype=np.uint8).reshape(4, 5)
    expected = ((x.astype(np.float64) - 100) * np.float32(0.1)).astype(np.float32)
    check("DequantizeLinear", [x, scale, zero], opset=opset, oracle=lambda *_: expected)


@pytest.mark.parametrize(
    "x", [[0.0, 2, -3, -2.5, 1.34, 0.5], [-1.0, -2.1, -1.3], [1.0, 2.1, 1.3, 2.5], [0.0, 0.0]]
)
def test_dynamic(x):
    check("DynamicQuantizeLinear", [np.float32(x)], outputs=3)


def test_errors():
    x, byte = Fact(F32, (2, 3)), np.dtype(np.uint8)
    with pytest.raises(
        TilewiseError, match=r"QuantizeLinear.*input 0: expected .*float32.*got uint8\[2, 3\]"
    ):
        infer("QuantizeLinear", Fact(byte, (2, 3)), Fact(F32, ()))
    with pytest.raises(TilewiseError, match=r"zero point of the scale's shape \(3,\), got uint8\[2\]"):
        infer("QuantizeLinear", x, Fact(F32, (3,)), Fact(byte, (2,)))
    with pytest.raises(TilewiseError, match=r"zero point of output_dtype int8, got uint8\[\]"):
        infer("QuantizeLinear", x, Fact(F32, ()), Fact(byte, ()), output_dtype=onnx.TensorProto.INT8)
    with pytest.raises(TilewiseError, match=r"DequantizeLinear.*one type, got uint8\[3\], int8\[\]"):
        infer("DequantizeLinear", Fact(byte, (3,)), Fact(F32, ()), Fact(np.dtype(np.int8), ()))
    with pytest.raises(TilewiseError, match=r"scale for axis 1 of x \(2, 3\)"):
        check("QuantizeLinear", [normal(2, 3), np.ones(2, np.float32)], oracle=lambda x, s: x)
