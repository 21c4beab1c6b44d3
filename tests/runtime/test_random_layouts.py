"""Random graphs of convolutions, pooling, element-wise operators, Concat and Split, through all layouts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import tilewise_kernels
from tests.ops import oracles
from tests.ops.layout_harness import check_graph, graph, kernels_of, needs_kernels
from tilewise.runtime.model import load

pytestmark = needs_kernels

SEEDS = 24
GRAPHS = 4
"""Graphs of a seed."""
CHANNELS = [3, 16, 17, 20, 24, 32, 32, 40, 48, 48, 64]
MEMORY = 1 << 17
"""Elements of a value, at most."""


class Net:
    """A graph under construction, its values computed in float64 as it grows."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rank = int(self.rng.choice([1, 2, 2, 2, 3]))
        sizes = self.rng.integers(1, 22 if self.rank < 3 else 7, self.rank)
        shape = (int(self.rng.choice([1, 1, 2, 3])), int(self.rng.choice(CHANNELS)), *map(int, sizes))
        self.x = self.normal(*shape)
        self.values = {"x": self.x.astype(np.float64)}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[str] = []

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def any(self) -> str:
        """A value, rather a late one."""
        names = list(self.values)
        return names[-1] if self.rng.random() < 0.7 else str(self.rng.choice(names))

    def constant(self, value: np.ndarray) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def add(self, call: str, *results: np.ndarray) -> None:
        """A node and what it should make; left out where that is too large, or the graph would grow without end."""
        if any(r.size > MEMORY for r in results):
            return
        names = [f"v{len(self.values) + i}" for i in range(len(results))]
        self.nodes.append(f"{', '.join(names)} = {call}")
        self.values.update(zip(names, results, strict=True))

    def windows(self, sizes: tuple[int, ...]) -> dict[str, list[int]] | None:
        """Kernel, strides, dilations and pads of windows that fit, or None."""
        pick = lambda options: [int(v) for v in self.rng.choice(options, self.rank)]  # noqa: E731
        kernel, strides, dilations = pick([1, 1, 2, 3, 3, 5]), pick([1, 1, 2, 3]), pick([1, 1, 1, 2])
        pads = [int(v) for v in self.rng.integers(0, 3, 2 * self.rank)]
        if self.rng.random() < 0.3:
            kernel, strides, dilations, pads = ([v] * self.rank for v in (3, 1, 1, 1))
            pads = pads * 2
        room = [s + a + b for s, a, b in zip(sizes, pads, pads[self.rank :], strict=False)]
        if any(r < (k - 1) * d + 1 for r, k, d in zip(room, kernel, dilations, strict=True)):
            return None
        return {"kernel": kernel, "strides": strides, "dilations": dilations, "pads": pads}

    def conv(self) -> None:
        name = self.any()
        x = self.values[name]
        form, c = self.windows(x.shape[2:]), x.shape[1]
        if form is None:
            return
        kind = self.rng.random()
        group, outs = 1, int(self.rng.choice(CHANNELS))
        if kind < 0.3:
            group = outs = c
        elif kind < 0.45 and c % 2 == 0:
            group, outs = 2, 32
        w = self.normal(outs, c // group, *form["kernel"]) / np.float32(
            np.sqrt(c // group * np.prod(form["kernel"]))
        )
        bias = self.normal(outs) if self.rng.random() < 0.5 else None
        y = oracles.conv(
            x, w, bias, stride=form["strides"], pads=form["pads"], dilation=form["dilations"], group=group
        )
        given = [name, self.constant(w)] + ([] if bias is None else [self.constant(bias)])
        attrs = f"strides = {form['strides']}, dilations = {form['dilations']}, pads = {form['pads']}"
        self.add(f"Conv <{attrs}, group: int = {group}> ({', '.join(given)})", y)

    def pool(self) -> None:
        name = self.any()
        x = self.values[name]
        form = self.windows(x.shape[2:])
        if form is None or any(p >= k for p, k in zip(form["pads"], form["kernel"] * 2, strict=True)):
            return
        kernel, strides, pads = form["kernel"], form["strides"], form["pads"]
        room = [
            s + a + b - k for s, a, b, k in zip(x.shape[2:], pads, pads[self.rank :], kernel, strict=False)
        ]
        if min(room) < 0:
            return
        maximum = self.rng.random() < 0.5
        around = [(0, 0), (0, 0), *zip(pads[: self.rank], pads[self.rank :], strict=True)]
        filled = np.pad(x, around, constant_values=-np.inf if maximum else 0)
        taps = [
            filled[(..., *(slice(t, t + r + 1, s) for t, r, s in zip(tap, room, strides, strict=True)))]
            for tap in np.ndindex(*kernel)
        ]
        attrs = f"kernel_shape = {kernel}, strides = {strides}, pads = {pads}"
        if maximum:
            self.add(f"MaxPool <{attrs}> ({name})", np.maximum.reduce(taps))
        else:
            self.add(f"AveragePool <{attrs}, count_include_pad = 1> ({name})", sum(taps) / len(taps))

    def unary(self) -> None:
        name = self.any()
        x = self.values[name]
        op_type, y = [
            ("Relu", np.maximum(x, 0)),
            ("Sigmoid", 1 / (1 + np.exp(-x))),
            ("HardSwish", x * np.clip(x / 6 + 0.5, 0, 1)),
            ("Neg", -x),
            ("Identity", x),
        ][self.rng.integers(5)]
        self.add(f"{op_type} ({name})", y)

    def binary(self) -> None:
        name = self.any()
        x = self.values[name]
        same = [n for n, v in self.values.items() if v.shape == x.shape]
        other = str(self.rng.choice(same))
        pair = [name, other] if self.rng.random() < 0.5 else [other, name]
        op_type, apply = [("Add", np.add), ("Sub", np.subtract), ("Max", np.maximum)][self.rng.integers(3)]
        self.add(f"{op_type} ({', '.join(pair)})", apply(*(self.values[n] for n in pair)))

    def scale(self) -> None:
        name = self.any()
        x = self.values[name]
        shapes = [(x.shape[1], *[1] * self.rank), (x.shape[0], 1, *x.shape[2:]), (1,), x.shape[-1:]]
        k = self.normal(*shapes[self.rng.integers(len(shapes))])
        op_type, apply = [("Mul", np.multiply), ("Add", np.add)][self.rng.integers(2)]
        self.add(f"{op_type} ({name}, {self.constant(k)})", apply(x, k.astype(np.float64)))

    def gate(self) -> None:
        """Each plane times its mean, or its maximum."""
        name = self.any()
        x, axes = self.values[name], tuple(range(2, self.rank + 2))
        op_type, apply = [("GlobalAveragePool", np.mean), ("GlobalMaxPool", np.max)][self.rng.integers(2)]
        plane = apply(x, axes, keepdims=True)
        if x.size <= MEMORY:
            self.add(f"{op_type} ({name})", plane)
            self.add(f"Mul ({name}, {list(self.values)[-1]})", x * plane)

    def normalize(self) -> None:
        name = self.any()
        x = self.values[name]
        scale, bias, mean = (self.normal(x.shape[1]) for _ in range(3))
        var = np.abs(self.normal(x.shape[1])) + np.float32(0.5)
        numbers = (scale, bias, mean, var)
        s, b, m, v = (a.astype(np.float64).reshape(-1, *[1] * self.rank) for a in numbers)
        given = ", ".join([name, *map(self.constant, numbers)])
        self.add(f"BatchNormalization <epsilon = 0.001> ({given})", (x - m) / np.sqrt(v + 1e-3) * s + b)

    def concat(self) -> None:
        name = self.any()
        x = self.values[name]
        fits = [n for n, v in self.values.items() if v.shape[2:] == x.shape[2:]]
        parts = [name, *(str(n) for n in self.rng.choice(fits, self.rng.integers(1, 3)))]
        self.rng.shuffle(parts)
        y = np.concatenate([self.values[n] for n in parts], 1)
        if y.shape[1] <= 200:
            self.add(f"Concat <axis = 1> ({', '.join(parts)})", y)

    def split(self) -> None:
        name = self.any()
        x = self.values[name]
        c = x.shape[1]
        if c < 2:
            return
        cut = c // 32 * 16 if c >= 32 and self.rng.random() < 0.7 else int(self.rng.integers(1, c))
        sizes = self.constant(np.array([cut, c - cut], np.int64))
        self.add(f"Split <axis = 1> ({name}, {sizes})", x[:, :cut], x[:, cut:])

    def grow(self) -> None:
        kinds = [self.conv, self.pool, self.unary, self.binary, self.scale, self.gate, self.normalize]
        weights = np.array([8, 2, 2, 3, 1, 1, 1, 3, 2], float)
        step = self.rng.choice([*kinds, self.concat, self.split], p=weights / weights.sum())
        step()

    def outputs(self) -> dict[str, np.ndarray]:
        """The last value and perhaps some more."""
        names = [n for n in self.values if n != "x"]
        more = [str(n) for n in self.rng.choice(names, self.rng.integers(0, 3))]
        return {n: self.values[n] for n in dict.fromkeys([names[-1], *more])}


def random_net(seed: int) -> Net:
    net = Net(seed)
    while len(net.nodes) < 3 + seed % 9:
        net.grow()
    return net


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_graphs(seed):
    for i in range(GRAPHS):
        net = random_net(1000 * i + seed)
        want = net.outputs()
        check_graph(
            "\n".join(net.nodes), {"x": net.x}, net.constants, want, rtol=1e-4, atol=5e-5, by_largest=True
        )


def test_the_random_graphs_reach_the_kernels():
    """What is drawn covers the layout: else these tests would pass without testing it."""
    seen: Counter[str] = Counter()
    for seed in range(0, 6000, 50):
        net = random_net(seed)
        seen.update(
            kernels_of(load(graph("\n".join(net.nodes), {"x": net.x}, net.constants, list(net.outputs()))))
        )
    kernels = [
        "blocked_conv",
        "blocked_depthwise",
        "blocked_pad",
        "blocked_pool",
        "blocked_plane",
        "blocked_affine",
    ]
    assert not [k for k in (*kernels, "to_blocked", "from_blocked") if seen[k] < 3], (
        tilewise_kernels.ISA,
        seen,
    )
