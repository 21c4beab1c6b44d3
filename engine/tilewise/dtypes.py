"""ONNX element types and NumPy dtypes.

Strings are NumPy `object` arrays of `str`. The types that NumPy lacks come from `ml_dtypes`,
imported only when one of them is met.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_NUMPY = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "object",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
}
_ML_DTYPES = {
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3fn",
    28: "float6_e3m2fn",
}
_ONNX_NAMES = {
    "float32": "float",
    "float64": "double",
    "object": "string",
    "float4_e2m1fn": "float4e2m1",
    "float6_e2m3fn": "float6e2m3",
    "float6_e3m2fn": "float6e3m2",
    "float8_e8m0fnu": "float8e8m0",
}

STRING = np.dtype(object)


def from_onnx(elem_type: int) -> np.dtype:
    """The NumPy dtype of `TensorProto.DataType` value `elem_type`; `KeyError` for an unknown one."""
    if elem_type in _NUMPY:
        return np.dtype(_NUMPY[elem_type])
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, _ML_DTYPES[elem_type]))


def to_onnx(dtype: np.dtype) -> int:
    """The `TensorProto.DataType` value of `dtype`; `KeyError` when ONNX has none."""
    name = "object" if dtype.kind in "OUS" else dtype.name
    for table in (_NUMPY, _ML_DTYPES):
        for number, known in table.items():
            if known == name:
                return number
    raise KeyError(name)


@cache
def onnx_name(dtype: np.dtype) -> str:
    """ONNX's name of an element type, as in `tensor(float)`."""
    name = "object" if dtype.kind in "OUS" else dtype.name
    return _ONNX_NAMES.get(name, name.replace("_", "") if name.startswith("float8") else name)
