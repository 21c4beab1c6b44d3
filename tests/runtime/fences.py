"""Runs models whose inputs, outputs and arena lie against pages that no one may touch; a kernel that does is killed.

`python -m tests.runtime.fences` prints each case before it runs it, and "all" in the end.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from tests.ops import test_blocked_conv as convolutions
from tests.ops import test_blocked_pool as poolings
from tests.ops import test_winograd as winograd
from tests.ops.layout_harness import graph, identity, rand, weights
from tests.runtime.test_random_layouts import random_net
from tilewise.plan import plan
from tilewise.runtime.model import load

PAGE = mmap.PAGESIZE
NO_ACCESS = 0
RANDOM = 40
"""Random graphs."""

Case = tuple[str, onnx.ModelProto, Mapping[str, np.ndarray]]


def fenced(shape: tuple[int, ...], dtype: np.dtype, at_end: bool = True) -> np.ndarray:
    """An array that ends where a page without access begins, or begins where one ends."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    room = -(-nbytes // PAGE) * PAGE
    block = mmap.mmap(-1, room + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for fence in (start, start + PAGE + room):
        if protect(fence, PAGE, NO_ACCESS):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = PAGE + (room - nbytes if at_end else 0)
    return np.frombuffer(block, dtype, int(np.prod(shape)), offset).reshape(shape)


def conv_cases() -> Iterator[Case]:
    for table in (convolutions.FORMS, convolutions.FEW_CHANNELS, convolutions.FALLBACKS):
        for name, (xs, ws, form) in table.items():
            nodes = f"y = Conv {convolutions.spell(len(xs) - 2, **form)} (x, w)"
            yield name, graph(nodes, {"x": rand(*xs)}, {"w": weights(*ws)}), {"x": rand(*xs)}
    for name, (xs, k, form) in convolutions.DEPTHWISE.items():
        window = [k] * (len(xs) - 2) if isinstance(k, int) else k
        nodes = f"y = Conv {convolutions.spell(len(xs) - 2, **form, group=xs[1])} (x, w)"
        yield (
            f"depthwise {name}",
            graph(nodes, {"x": rand(*xs)}, {"w": weights(xs[1], 1, *window)}),
            {"x": rand(*xs)},
        )
    for width in (2, 3, 4, 8):
        x, w = {"x": rand(2, 48, 5, 9)}, {"w": weights(48, width, 3, 3)}
        form = {"pads": (1, 0, 2, 1), "group": 48 // width}
        yield f"groups of {width}", graph(f"y = Conv {convolutions.spell(2, **form)} (x, w)", x, w), x
    for name, (xs, outs, pads) in winograd.SHAPES.items():
        x, w = {"x": rand(*xs)}, {"w": weights(outs, xs[1], 3, 3)}
        yield f"winograd {name}", graph(f"y = Conv <pads = {list(pads)}> (x, w)", x, w), x


def other_cases() -> Iterator[Case]:
    for name, (shape, kernel, attrs) in poolings.WINDOWS.items():
        x = {"x": rand(*shape)}
        for op_type in ("MaxPool", "AveragePool"):
            window = f"<kernel_shape = {list(kernel)}, {poolings.spell(attrs)}>"
            for nodes in (f"{poolings.EYE} y = {op_type} {window} (x0)", f"y = {op_type} {window} (x)"):
                yield f"{op_type} {name}", graph(nodes, x, {"eye": identity(shape[1], len(shape) - 2)}), x
    for name, (nodes, _, _, more, constants, _) in poolings.ELEMENTWISE.items():
        feeds = {"x": poolings.X, **more}
        nodes = f"p = Abs (x0) {nodes}" if "(p," in nodes else nodes
        yield name, graph(f"{poolings.EYE} {nodes}", feeds, {**constants, "eye": identity(30)}), feeds
    for seed in range(RANDOM):
        net = random_net(seed)
        proto = graph("\n".join(net.nodes), {"x": net.x}, net.constants, list(net.outputs()))
        yield f"random graph {seed}", proto, {"x": net.x}


def run_fenced(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> None:
    """Assert that a run between fences gives the same as one without."""
    feeds = {**feeds, "companion_x": rand(1, 1, 1, 1)}
    expected = load(proto.SerializeToString(), threads=1).run(feeds)
    free = plan.allocate
    plan.allocate = lambda shape, dtype, what: fenced(shape, np.dtype(dtype))
    try:
        model = load(proto.SerializeToString(), threads=1)
        for at_end in (True, False):
            held = {name: fenced(a.shape, a.dtype, at_end) for name, a in feeds.items()}
            for name, a in feeds.items():
                held[name][...] = a
            got = model.run(held)
            for name, want in expected.items():
                np.testing.assert_array_equal(got[name], want, err_msg=name)
    finally:
        plan.allocate = free


def main() -> None:
    for cases in (conv_cases(), other_cases()):
        for name, proto, feeds in cases:
            print(name, flush=True)
            run_fenced(proto, feeds)
    print("all")


if __name__ == "__main__":
    main()
