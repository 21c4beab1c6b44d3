"""Where an axis is sampled when it is resized, and with which weights (ONNX Resize, up to opset 19)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple")
POLICIES = ("stretch", "not_larger", "not_smaller")
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Rule:
    """How every axis is sampled, by the names of ONNX's attributes.

    nearest "simple" is what came before opset 11: down when enlarging, up when shrinking.
    """

    mode: str = "nearest"
    coordinate: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of `size` elements resized to `out`.

    scale: the factor that coordinates are divided by; length: the resized length before rounding.
    start/end: the normalized region of interest, of "tf_crop_and_resize" alone.
    """

    size: int
    out: int
    scale: float
    length: float
    start: float = 0.0
    end: float = 1.0

    def same(self, rule: Rule) -> bool:
        """True where resizing changes nothing."""
        if self.out != self.size or not np.isclose(self.scale, 1.0, rtol=1e-9, atol=0.0):
            return False
        return rule.coordinate != "tf_crop_and_resize" or (self.start == 0.0 and self.end == 1.0)


def coordinates(rule: Rule, axis: Axis, dtype: type = np.float64) -> Array:
    """The place in the input of every element of the output, computed in `dtype`."""
    j: Array = np.arange(axis.out, dtype=dtype)
    last = axis.size - 1
    match rule.coordinate:
        case "asymmetric":
            return j / axis.scale
        case "tf_half_pixel_for_nn":
            return (j + 0.5) / axis.scale
        case "align_corners":
            return j * last / (axis.length - 1) if axis.length != 1 else j * 0
        case "tf_crop_and_resize":
            if axis.out <= 1:
                return j * 0 + 0.5 * (axis.start + axis.end) * last
            return axis.start * last + j * (axis.end - axis.start) * last / (axis.length - 1)
    shift = 0.0
    if rule.coordinate == "pytorch_half_pixel" and axis.out <= 1:
        return j * 0
    if rule.coordinate == "half_pixel_symmetric":
        shift = axis.size / 2 * (1 - axis.out / axis.length)
    return shift + (j + 0.5) / axis.scale - 0.5


def outside(rule: Rule, axis: Axis) -> Array | None:
    """Which elements of the output get the extrapolation value; None where there are none."""
    if rule.coordinate != "tf_crop_and_resize":
        return None
    x = coordinates(rule, axis)
    mask = (x < 0) | (x > axis.size - 1)
    return mask if mask.any() else None


def nearest(rule: Rule, axis: Axis) -> Array:
    """The input index of every element of the output, int32.

    As in ONNX Runtime, places are computed in float32, the precision of scales, and those within `TIE` of half way
    are half way: what only the rounding of a scale moves across a boundary stays.
    """
    x = coordinates(rule, axis, np.float32).astype(np.float64)
    kind = rule.nearest
    if kind == "simple":
        kind = "floor" if axis.scale >= 1 else "ceil"
    index = np.floor(x)
    part = x - index
    if kind == "ceil":
        index += part > 0
    elif kind == "round_prefer_floor":
        index += part > 0.5 + TIE
    elif kind == "round_prefer_ceil":
        index += part >= 0.5 - TIE
    return np.clip(index, 0, axis.size - 1).astype(np.int32)


def linear_kernel(distance: Array, rule: Rule) -> Array:
    """The triangle of base 2."""
    return np.maximum(1 - np.abs(distance), 0)


def cubic_kernel(distance: Array, rule: Rule) -> Array:
    """Keys' cubic convolution (IEEE TASSP 29-6, 1981, equation 4, for any a), zero from 2 on."""
    a, x = rule.cubic_coeff_a, np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def weights(rule: Rule, axis: Axis) -> tuple[Array, Array]:
    """Input indices (int32) and weights (float64), both (taps, out), of every element of the output.

    Indices outside the input are moved to its border; with `exclude_outside` their weights are 0. Taps whose
    weights are all 0 are left out.
    """
    kernel, reach = (linear_kernel, 1) if rule.mode == "linear" else (cubic_kernel, 2)
    stretch = min(axis.scale, 1.0) if rule.antialias else 1.0
    x = coordinates(rule, axis)
    first = int(np.floor(-reach / stretch)) + 1
    index = np.floor(x).astype(np.int64) + np.arange(first, 2 - first)[:, None]
    weight = kernel((index - x) * stretch, rule)
    inside = (index >= 0) & (index < axis.size)
    if rule.exclude_outside:
        weight = np.where(inside, weight, 0.0)
    if rule.exclude_outside or rule.antialias:
        total = weight.sum(axis=0)
        weight = weight / np.where(total == 0, 1.0, total)
    index = np.clip(index, 0, axis.size - 1).astype(np.int32)
    used = weight.any(axis=1) if axis.out else np.arange(len(weight)) == 0
    return index[used], weight[used]
