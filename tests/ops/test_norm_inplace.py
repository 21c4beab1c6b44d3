"""Reductions and normalization inside a graph: written over a dead input, and by any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from tilewise.graph import Fact, Graph, Node
from tilewise.runtime.model import Model


def floats(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, shape).astype(np.float32)


CASES = [
    ("Softmax", (64, 10), {"axis": 1}, []),
    ("Softmax", (70, 1100), {"axis": 1}, []),
    ("Softmax", (2, 40, 50, 51), {"axis": 1}, []),
    ("Softmax", (40, 90, 7), {"axis": 1}, []),
    ("LogSoftmax", (64, 10), {"axis": 1}, []),
    ("LogSoftmax", (70, 1100), {"axis": 1}, []),
    ("LogSoftmax", (2, 40, 50, 51), {"axis": 1}, []),
    ("LpNormalization", (3000, 9), {"p": 2}, []),
    ("LpNormalization", (2, 40, 50, 51), {"p": 1, "axis": 1}, []),
    ("BatchNormalization", (2, 40, 50, 51), {}, [(40,)] * 4),
    ("BatchNormalization", (70, 1100), {"training_mode": 1}, [(1100,)] * 4),
    ("BatchNormalization", (2, 40, 50, 51), {"training_mode": 1}, [(40,)] * 4),
    ("LayerNormalization", (500, 96), {}, [(96,), (96,)]),
    ("RMSNormalization", (500, 96), {}, [(96,)]),
    ("InstanceNormalization", (2, 40, 50, 51), {}, [(40,), (40,)]),
    ("GroupNormalization", (2, 40, 50, 51), {"num_groups": 8}, [(40,), (40,)]),
    ("MeanVarianceNormalization", (2, 40, 50, 51), {}, []),
    ("MeanVarianceNormalization", (2, 40, 50, 51), {"axes": [2, 3]}, []),
    ("LRN", (2, 40, 50, 51), {"size": 5, "alpha": 0.1}, []),
    ("CumSum", (50, 2000), {}, [np.array(0)]),
    ("Hardmax", (2, 40, 50, 51), {"axis": 1}, []),
    ("ArgMax", (2, 40, 50, 51), {"axis": 1}, []),
    ("ReduceSum", (1, 1_000_000), {}, []),
    ("ReduceLogSumExp", (2, 40, 50, 51), {}, []),
    ("ReduceMax", (2, 40, 50, 51), {}, [np.array([0, 2])]),
]


@pytest.mark.parametrize(("op", "shape", "attrs", "rest"), CASES)
def test_in_a_chain(op, shape, attrs, rest):
    """Neg, the operator, Identity: the operator's input is dead after it."""
    x = floats(*shape)
    others = [p if isinstance(p, np.ndarray) else floats(*p, seed=i) for i, p in enumerate(rest)]
    names = [f"p{i}" for i in range(len(others))]
    nodes = [
        Node("Neg", ["x"], ["negative"], version=26),
        Node("Abs", ["negative"], ["positive"], version=26),
        Node(op, ["positive", *names], ["result"], attrs, version=23),
        Node("Identity", ["result"], ["y"], version=26),
    ]
    graph = Graph(
        inputs=["x"],
        outputs=["y"],
        nodes=nodes,
        facts={"x": Fact(x.dtype, x.shape)},
        initializers=dict(zip(names, others, strict=True)),
    )
    want = Model(graph, native=False).run({"x": x})["y"]
    results = [Model(graph, threads=threads).run({"x": x})["y"] for threads in (1, 2, 5)]
    np.testing.assert_allclose(results[0], want, rtol=1e-4, atol=2e-4)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
