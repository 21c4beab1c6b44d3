"""The arithmetic of sliding windows over n spatial axes, shared by convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilewise.graph.facts import Dim, Shape
from tilewise.ops.base import Op

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows along n spatial axes, each sequence in axis order.

    sizes: input dims; kernel: taps; out: how many windows there are.
    pads: ONNX order (begins, then ends), resolved from `auto_pad`; None while that needs an unknown size.
    """

    sizes: Shape
    kernel: Shape
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    out: Shape

    @property
    def begins(self) -> tuple[int, ...]:
        """Padding before each axis; only where `pads` is known."""
        assert self.pads is not None
        return self.pads[: len(self.kernel)]

    @property
    def ends(self) -> tuple[int, ...]:
        """Padding after each axis, as declared; the last window may end before or (ceil_mode) beyond it."""
        assert self.pads is not None
        return self.pads[len(self.kernel) :]


def extent(kernel: Dim, dilation: int) -> Any:
    """Elements from the first to the last tap of a window."""
    if isinstance(kernel, int):
        return (kernel - 1) * dilation + 1
    return kernel if dilation == 1 else None


def output_dim(
    size: Dim,
    kernel: Dim,
    stride: int = 1,
    dilation: int = 1,
    pad_begin: int = 0,
    pad_end: int = 0,
    ceil_mode: bool = False,
) -> Dim:
    """How many windows lie along one axis of `size` elements (ONNX Conv, MaxPool, AveragePool, LpPool).

    With `ceil_mode` a last window may overhang the end, if it starts inside the input or the padding before
    it. A free dim is kept where windows and elements are as many; None where nothing is known. A ValueError
    says so where not even one window fits.
    """
    span = extent(kernel, dilation)
    if not isinstance(span, int):
        return None
    if not isinstance(size, int):
        return size if stride == 1 and pad_begin + pad_end == span - 1 else None
    room = size + pad_begin + pad_end - span
    if room < 0:
        if size == 0:
            return 0
        raise ValueError(
            f"a window of {span} (kernel {kernel}, dilation {dilation}) does not fit into {size} elements "
            f"padded by {pad_begin} and {pad_end}"
        )
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + pad_begin else out


def same_output_dim(size: Dim, stride: int) -> Dim:
    """How many windows `auto_pad` SAME_UPPER and SAME_LOWER make: ceil(size / stride)."""
    if isinstance(size, int):
        return -(-size // stride)
    return size if stride == 1 else None


def same_pads(size: Dim, kernel: Dim, stride: int, dilation: int, upper: bool) -> tuple[int, int] | None:
    """Padding before and after one axis under SAME_UPPER (or else SAME_LOWER); None while it is not known."""
    span = extent(kernel, dilation)
    if not isinstance(span, int):
        return None
    if isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
    elif stride == 1:
        total = span - 1
    else:
        return None
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def resolve(
    sizes: Sequence[Dim],
    kernel: Sequence[Dim],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: bool = False,
) -> Windows:
    """The windows over axes of `sizes`; `pads` and `ceil_mode` count under NOTSET alone."""
    n = len(kernel)
    found: list[tuple[int, int] | None]
    axes = list(zip(sizes, kernel, strides, dilations, strict=True))
    if auto_pad == "NOTSET":
        found = [(pads[i], pads[n + i]) for i in range(n)]
    elif auto_pad == "VALID":
        found = [(0, 0)] * n
    else:
        found = [same_pads(*axis, upper=auto_pad == "SAME_UPPER") for axis in axes]
    out: tuple[Dim, ...]
    if auto_pad.startswith("SAME"):
        out = tuple(same_output_dim(size, stride) for size, _, stride, _ in axes)
    else:
        ceil_mode = ceil_mode and auto_pad == "NOTSET"
        out = tuple(
            output_dim(*axis, *(pair or (0, 0)), ceil_mode) for axis, pair in zip(axes, found, strict=True)
        )
    known = [pair for pair in found if pair is not None]
    resolved = (*(b for b, _ in known), *(e for _, e in known)) if len(known) == n else None
    return Windows(tuple(sizes), tuple(kernel), tuple(strides), tuple(dilations), resolved, out)


def read_windows(op: Op, sizes: Sequence[Dim], kernel: Sequence[Dim], ceil_mode: bool = False) -> Windows:
    """The windows that `op`'s attributes strides, dilations, pads and auto_pad describe; absent ones default.

    sizes: dims of the n spatial axes; kernel: taps on each. Raises `op.fail` where an attribute is malformed
    or a window does not fit.
    """
    n = len(sizes)
    if len(kernel) != n:
        raise op.fail(f"expected a kernel of {n} dims for {n} spatial dims {list(sizes)}, got {list(kernel)}")
    if any(isinstance(k, int) and k < 1 for k in kernel):
        raise op.fail(f"expected kernel dims of at least 1, got {list(kernel)}")
    auto_pad = op.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad not in AUTO_PADS:
        raise op.fail(f"expected auto_pad to be one of {', '.join(AUTO_PADS)}, got {auto_pad!r}")
    strides = _ints(op, "strides", n, 1, 1)
    dilations = _ints(op, "dilations", n, 1, 1)
    pads = _ints(op, "pads", 2 * n, 0, 0)
    try:
        return resolve(sizes, kernel, strides, dilations, pads, auto_pad, ceil_mode)
    except ValueError as error:
        raise op.fail(str(error)) from None


def _ints(op: Op, name: str, length: int, default: int, least: int) -> list[int]:
    """An attribute of `length` integers, none below `least`; `default` throughout where it is absent."""
    given = op.attr(name)
    if not given:
        return [default] * length
    if len(given) != length:
        raise op.fail(f"expected {length} values in {name}, got {list(given)}")
    if any(v < least for v in given):
        raise op.fail(f"expected values of at least {least} in {name}, got {list(given)}")
    return [int(v) for v in given]
