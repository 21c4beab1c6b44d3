"""Fourier transforms of signals, their windows and the mel scale, in NumPy."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tilewise import dtypes
from tilewise.graph import Fact
from tilewise.graph.facts import Dim
from tilewise.ops.base import Array, Inputs, values
from tilewise.ops.cast import convert
from tilewise.ops.elementwise import FLOATS, INTS, ElementWise, wide
from tilewise.ops.parameters import facts_of

LENGTHS = frozenset({"int32", "int64"})


class Signal(ElementWise):
    """What these operators share: scalars in inputs, and complex numbers as pairs in the last axis."""

    def scalar(self, ins: Inputs, i: int, least: int, what: str) -> int | None:
        """The integer in input `i`, checked; None where it is left out or not constant."""
        if i >= len(ins) or ins[i] is None:
            return None
        fact = self.operand(ins, i, LENGTHS)
        if fact.known_shape and fact.size != 1:
            raise self.fail(f"expected a scalar {what}, got {fact}")
        found = values(fact)
        if found is not None and found[0] < least:
            raise self.fail(f"expected {what} of at least {least}, got {found[0]}")
        return None if found is None else found[0]

    def pairs(self, x: Fact) -> Dim:
        """1 for a real signal, 2 for a complex one, None where that is not known; an error for others."""
        last = x.shape[-1]
        if isinstance(last, int) and last not in (1, 2):
            raise self.fail(f"expected a last dim of 1 (real) or 2 (complex), got {x}")
        return last if isinstance(last, int) else None


def given(ins: Inputs, i: int) -> Any:
    """Input `i`, None where it is left out."""
    return ins[i] if i < len(ins) else None


def to_complex(x: Array) -> Array:
    """A signal [..., 1] or [..., 2] without its last axis: real, or complex of the same precision."""
    if x.shape[-1] == 1:
        return x[..., 0]
    return np.ascontiguousarray(x).view(np.result_type(x.dtype, np.complex64))[..., 0]


def to_pairs(y: Array) -> Array:
    """A complex array with its parts in a new last axis."""
    return np.ascontiguousarray(y)[..., None].view(y.real.dtype)


def transform(x: Array, length: int, axis: int, onesided: bool) -> Array:
    """The DFT of `length` samples of x, real or complex, along `axis`; `onesided` has its first half alone."""
    if onesided and x.dtype.kind != "c":
        return np.fft.rfft(x, length, axis)
    y = np.fft.fft(x, length, axis)
    return y[(slice(None),) * axis + (slice(length // 2 + 1),)] if onesided else y


class DFT(Signal):
    """The discrete Fourier transform along one axis, or its inverse (ONNX DFT, opset 17, 20).

    x [..., 1] real or [..., 2] complex is cut or filled up with zeros to dft_length; y [..., 2], or [..., 1] for
    the inverse of a onesided transform. The axis is an attribute before opset 20, then an input.
    """

    attributes = frozenset({"axis", "inverse", "onesided"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = self.operand(ins, 0)
        length = self.scalar(ins, 1, 1, "dft_length")
        if x.shape is None:
            return [Fact(x.dtype)]
        self._check_parts(x)
        axis = self._axis(ins, len(x.shape))
        shape = [*x.shape[:-1], 1 if self._real_result else 2]
        if axis is None:
            shape[:-1] = [None] * (len(shape) - 1)
            return [Fact(x.dtype, tuple(shape))]
        if given(ins, 1) is None:
            length = self._default_length(x.shape[axis])
        if length is None and (given(ins, 1) is not None or self._halves):
            shape[axis] = None
        elif length is not None:
            shape[axis] = length // 2 + 1 if self._halves and not self._real_result else length
        return [Fact(x.dtype, tuple(shape))]

    def evaluate(self, x, dft_length=None, axis=None):
        ins = facts_of((x, dft_length, axis))
        (fact,) = self.infer(ins)
        at = self._axis(ins, x.ndim)
        assert at is not None
        length = int(self.scalar(ins, 1, 1, "dft_length") or self._default_length(x.shape[at]))
        signal = to_complex(wide(x))
        if self._real_result:
            y = np.fft.irfft(signal, length, at)[..., None]
        elif self.attr("inverse", 0):
            y = to_pairs(np.fft.ifft(signal, length, at))
        else:
            y = to_pairs(transform(signal, length, at, self._halves))
        return [y.astype(fact.dtype, copy=False)]

    @property
    def _halves(self) -> bool:
        return bool(self.attr("onesided", 0))

    @property
    def _real_result(self) -> bool:
        return self._halves and bool(self.attr("inverse", 0))

    def _axis(self, ins: Inputs, rank: int) -> int | None:
        """The axis counted from the front; None while it is not known."""
        if self.version < 20:
            axis: int | None = int(self.attr("axis", 1))
        else:
            axis = -2 if given(ins, 2) is None else self.scalar(ins, 2, -rank, "axis")
        if axis is None:
            return None
        at = self.axis(axis, rank)
        if at == rank - 1:
            raise self.fail(f"expected an axis other than the last of rank {rank}, got {axis}")
        return at

    def _default_length(self, size: Dim) -> Any:
        """What dft_length is where it is left out; None while it is not known."""
        if not isinstance(size, int):
            return None
        length = 2 * (size - 1) if self._real_result else size
        if length < 1:
            raise self.fail(f"expected a dft_length of at least 1, got {length} from an axis of {size}")
        return length

    def _check_parts(self, x: Fact) -> None:
        if len(x.shape) < 2:
            raise self.fail(f"expected a signal of rank >= 2 with real and imaginary parts last, got {x}")
        parts, wanted = self.pairs(x), 2 if self._real_result else 1
        if self._halves and parts not in (None, wanted):
            kind = "complex" if wanted == 2 else "real"
            raise self.fail(f"expected a {kind} signal (last dim {wanted}) with onesided = 1, got {x}")


class STFT(Signal):
    """Short-time Fourier transform: the DFT of windowed frames (ONNX STFT, opset 17).

    signal (N, length, 1 or 2), frames of frame_length samples every frame_step; y (N, frames, bins, 2).
    """

    attributes = frozenset({"onesided"})

    def infer(self, ins: Inputs) -> list[Fact]:
        x = self.operand(ins, 0)
        step = self.scalar(ins, 1, 1, "frame_step")
        window = None if given(ins, 2) is None else self.operand(ins, 2)
        if window is not None:
            self.common_dtype([x, window])
        if x.shape is None:
            return [Fact(x.dtype)]
        if len(x.shape) != 3:
            raise self.fail(f"expected a signal (N, length, 1 or 2), got {x}")
        self.pairs(x)
        frame = self._frame(ins, x, window)
        frames = bins = None
        if isinstance(frame, int):
            bins = frame // 2 + 1 if self.attr("onesided", 1) else frame
        if isinstance(frame, int) and isinstance(x.shape[1], int):
            if not 1 <= frame <= x.shape[1]:
                raise self.fail(f"expected a frame_length in [1, {x.shape[1]}] for signal {x}, got {frame}")
            frames = None if step is None else (x.shape[1] - frame) // step + 1
        return [Fact(x.dtype, (x.shape[0], frames, bins, 2))]

    def _frame(self, ins: Inputs, x: Fact, window: Fact | None) -> Any:
        """The frame length, as far as it is known."""
        length = self.scalar(ins, 3, 1, "frame_length")
        if window is None or window.shape is None:
            return x.shape[1] if window is None and given(ins, 3) is None else length
        if len(window.shape) != 1:
            raise self.fail(f"expected a window of rank 1, got {window}")
        if length is not None and isinstance(window.shape[0], int) and window.shape[0] != length:
            raise self.fail(f"expected a window of frame_length = {length} values, got {window}")
        return window.shape[0] if length is None else length

    def evaluate(self, x, frame_step, window=None, frame_length=None):
        ins = facts_of((x, frame_step, window, frame_length))
        self.infer(ins)
        frame, step = self._frame(ins, Fact.of(x), ins[2]), int(frame_step.reshape(()))
        frames = sliding_window_view(to_complex(wide(x)), frame, 1)[:, ::step]
        if window is not None:
            frames = frames * wide(window)
        y = transform(frames, frame, 2, bool(self.attr("onesided", 1)))
        return [to_pairs(y).astype(x.dtype, copy=False)]


class Made(Signal):
    """Base of operators that make an array of `output_datatype` from scalars."""

    attributes = frozenset({"output_datatype"})

    def unsupported(self) -> str | None:
        number = int(self.attr("output_datatype", 1))
        try:
            name = dtypes.from_onnx(number).name
        except (KeyError, AttributeError):
            name = "unknown"
        return None if name in FLOATS | INTS else f"attribute 'output_datatype' = {number} ({name})"

    @property
    def dtype(self) -> np.dtype:
        return dtypes.from_onnx(int(self.attr("output_datatype", 1)))


class Window(Made):
    """Base of windows: w(n) = sum_k coefficients[k] cos(2 pi k n / N), where N is size, or size - 1 if not periodic.

    A symmetric window of one point is 1, the middle of any other.
    """

    attributes = Made.attributes | {"periodic"}
    coefficients: ClassVar[tuple[float, ...]] = ()

    def infer(self, ins: Inputs) -> list[Fact]:
        if given(ins, 0) is None:
            raise self.fail("input 0 (size) is missing")
        return [Fact(self.dtype, (self.scalar(ins, 0, 0, "size"),))]

    def evaluate(self, size):
        ((count,),) = (fact.shape for fact in self.infer([Fact.of(size)]))
        period = count if self.attr("periodic", 1) else count - 1
        if period < 1:
            return [np.ones(count).astype(self.dtype)]
        angles = 2 * math.pi / period * np.arange(count)
        w = sum(c * np.cos(k * angles) for k, c in enumerate(self.coefficients))
        return [convert(np.asarray(w), self.dtype)]


class HannWindow(Window):
    """sin^2(pi n / N) (ONNX HannWindow, opset 17)."""

    coefficients = (0.5, -0.5)


class HammingWindow(Window):
    """25/46 - 21/46 cos(2 pi n / N) (ONNX HammingWindow, opset 17)."""

    coefficients = (25 / 46, -21 / 46)


class BlackmanWindow(Window):
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N) (ONNX BlackmanWindow, opset 17)."""

    coefficients = (0.42, -0.5, 0.08)


class MelWeightMatrix(Made):
    """Triangles of height 1, evenly spaced on the mel scale, over the bins of a DFT (ONNX MelWeightMatrix, opset 17).

    y (dft_length // 2 + 1, num_mel_bins). The edges of the triangles are cut to whole bins; what lies above the
    last bin is left out.
    """

    def infer(self, ins: Inputs) -> list[Fact]:
        if len(ins) != 5 or any(fact is None for fact in ins):
            raise self.fail(f"expected 5 inputs, got {sum(fact is not None for fact in ins)}")
        bands = self.scalar(ins, 0, 0, "num_mel_bins")
        length = self.scalar(ins, 1, 1, "dft_length")
        self.scalar(ins, 2, 1, "sample_rate")
        for i in (3, 4):
            fact = self.operand(ins, i)
            if fact.known_shape and fact.size != 1:
                raise self.fail(f"expected a scalar for input {i}, got {fact}")
        return [Fact(self.dtype, (None if length is None else length // 2 + 1, bands))]

    def evaluate(self, num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz):
        inputs = (num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz)
        (fact,) = self.infer(facts_of(inputs))
        bins, bands = fact.shape
        length, rate = int(dft_length.reshape(())), int(sample_rate.reshape(()))
        low, high = (float(a.reshape(())) for a in (lower_edge_hertz, upper_edge_hertz))
        if not 0 <= low <= high < math.inf:
            raise self.fail(f"expected 0 <= lower_edge_hertz <= upper_edge_hertz, got {low} and {high}")
        first, last = 2595 * np.log10(1 + np.array([low, high]) / 700)
        mels = first + (last - first) / (bands + 2) * np.arange(bands + 2)
        edges = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate)
        left, center, right = edges[:-2], edges[1:-1], edges[2:]
        at = np.arange(bins)[:, None]
        rising = np.where(center > left, (at - left) / (center - left), 1.0)
        falling = (right - at) / (right - center)
        y = np.where((left <= at) & (at <= center), rising, 0.0)
        return [convert(np.where((center <= at) & (at < right), falling, y), self.dtype)]
