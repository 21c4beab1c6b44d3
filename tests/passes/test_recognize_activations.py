"""Activations written as several nodes: every way they are written, what is close and is not one, odd values."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, kinds, model, rand, tensor
from tilewise.onnx.load import load_graph
from tilewise.passes import optimize

DTYPES = ["float16", "float32", "float64"]
CONSTANTS = {
    "one": 1.0,
    "half": 0.5,
    "three": 3.0,
    "six": 6.0,
    "zero": 0.0,
    "sixth": 1 / 6,
    "two": 2.0,
    "root": np.sqrt(2.0),
    "inverse": np.sqrt(0.5),
    "k": np.sqrt(2 / np.pi),
    "cubic": 0.044715,
    "quick": 1.702,
    "tenth": 0.1,
    "minus": -0.5,
    "almost": 0.05,
}
SCALED = "d = Div(x, root) e = Erf(d) a = Add(e, one)"
CUBIC = "p = Pow(x, three) q = Mul(cubic, p) s = Add(x, q) u = Mul(k, s) t = Tanh(u) a = Add(t, one)"
FORMS = {
    "s = Sigmoid(x) y = Mul(x, s)": ["Swish"],
    "s = Sigmoid(x) y = Mul(s, x)": ["Swish"],
    "q = Mul(quick, x) s = Sigmoid(q) y = Mul(x, s)": ["Swish"],
    "s = HardSigmoid <alpha: float = 0.16666667> (x) y = Mul(s, x)": ["HardSwish"],
    "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)": ["HardSwish"],
    "a = Add(three, x) c = Clip(a, zero, six) d = Div(c, six) y = Mul(d, x)": ["HardSwish"],
    "a = Add(x, three) r = Relu(a) c = Min(r, six) d = Mul(c, sixth) y = Mul(x, d)": ["HardSwish"],
    "d = Mul(x, sixth) a = Add(d, half) c = Clip(a, zero, one) y = Mul(x, c)": ["HardSwish"],
    "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)": ["HardSigmoid"],
    "d = Mul(x, tenth) a = Add(d, half) c = Clip(a, zero, one) y = Mul(c, one)": ["HardSigmoid"],
    f"{SCALED} m = Mul(x, a) y = Mul(m, half)": ["Gelu"],
    f"{SCALED} h = Mul(half, a) y = Mul(x, h)": ["Gelu"],
    f"{SCALED} h = Mul(x, half) y = Mul(a, h)": ["Gelu"],
    "d = Mul(inverse, x) e = Erf(d) a = Add(one, e) h = Div(x, two) y = Mul(h, a)": ["Gelu"],
    f"{CUBIC} h = Mul(half, a) y = Mul(x, h)": ["Gelu"],
    "r = Mul(x, x) p = Mul(r, x) q = Mul(p, cubic) s = Add(q, x) u = Mul(s, k) t = Tanh(u) a = Add(one, t)"
    "m = Mul(x, a) y = Mul(half, m)": ["Gelu"],
    "w = Mul(x, k) r = Mul(cubic, x) q = Mul(r, x) s = Add(one, q) u = Mul(w, s) t = Tanh(u) a = Add(t, one)"
    "m = Mul(x, half) y = Mul(m, a)": ["Gelu"],
    "s = Softplus(x) t = Tanh(s) y = Mul(x, t)": ["Mish"],
    "m = Mul(tenth, x) y = Max(x, m)": ["LeakyRelu"],
    "m = Mul(x, tenth) y = Max(m, x)": ["LeakyRelu"],
    "y = Max(x, zero)": ["Relu"],
    "a = Max(x, zero) y = Min(six, a)": ["Clip"],
    "a = Relu(x) y = Clip(a, , six)": ["Clip"],
    "a = Min(x, six) b = Max(a, minus) y = Relu(b)": ["Clip"],
    "y = Max(minus, x)": ["Clip"],
}
STAYS = {
    "s = Sigmoid(z) y = Mul(x, s)": ["Sigmoid", "Mul"],
    "s = Sigmoid(x) p = Mul(x, s) y = Add(p, s)": ["Sigmoid", "Mul", "Add"],
    "s = HardSigmoid(x) y = Mul(s, x)": ["HardSigmoid", "Mul"],
    "a = Add(x, three) c = Clip(a, zero, six) y = Mul(x, c)": ["Add", "Clip", "Mul"],
    "a = Add(x, three) c = Clip(a, z0, six) m = Mul(x, c) y = Div(m, six)": ["Add", "Clip", "Mul", "Div"],
    f"{SCALED} m = Mul(z, a) y = Mul(m, half)": ["Div", "Erf", "Add", "Mul", "Mul"],
    f"{SCALED} y = Mul(x, a)": ["Div", "Erf", "Add", "Mul"],
    "d = Div(x, two) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)": [
        *["Div", "Erf", "Add", "Mul", "Mul"]
    ],
    "p = Pow(x, three) q = Mul(almost, p) s = Add(x, q) u = Mul(k, s) t = Tanh(u) a = Add(t, one)"
    "h = Mul(half, a) y = Mul(x, h)": ["Pow", "Mul", "Add", "Mul", "Tanh", "Add", "Mul", "Mul"],
    "s = Softplus(z) t = Tanh(s) y = Mul(x, t)": ["Softplus", "Tanh", "Mul"],
    "m = Mul(minus, x) y = Max(x, m)": ["Mul", "Max"],
    "y = Max(x, z)": ["Max"],
    "m = Mul(x, two) y = Max(x, m)": ["Mul", "Max"],
}
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3.0, -3.0, 6.0, 100.0, -100.0]


def written(nodes: str, dtype: str, outputs: str = "") -> dict:
    t = tensor("N,3,4", dtype)
    text = f"g ({t} x, {t} z, {tensor('', dtype)} z0) => ({t} y{outputs}) {{ {nodes} }}"
    return {"text": text, **{n: np.array(v, dtype) for n, v in CONSTANTS.items() if n in nodes}}


def feeds(dtype: str) -> dict[str, np.ndarray]:
    x = 3 * rand(2, 3, 4, dtype=dtype)
    return {"x": x, "z": rand(2, 3, 4, dtype=dtype), "z0": np.zeros((), dtype)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nodes", FORMS)
def test_becomes_one_node(nodes, dtype):
    want = FORMS[nodes]
    if dtype == "float64" and nodes.startswith("s = HardSigmoid"):
        want = ["HardSigmoid", "Mul"]  # an attribute is a float32: not 1/6
    check(model(**written(nodes, dtype)), want, **feeds(dtype))


@pytest.mark.parametrize("nodes", STAYS)
def test_stays(nodes):
    check(model(**written(nodes, "float32")), STAYS[nodes], **feeds("float32"))


@pytest.mark.parametrize("nodes", FORMS)
def test_odd_values(nodes):
    x = np.array(ODD, np.float32)[:, None, None] * np.ones((1, 3, 4), np.float32)
    check(
        model(**written(nodes, "float32")), FORMS[nodes], x=x, z=x, z0=np.float32(0) * np.ones(()).astype("f")
    )


@pytest.mark.parametrize("nodes", [n for n in FORMS if n.count("=") > 1])
def test_a_value_inside_that_is_an_output_stays(nodes):
    inner = nodes.split(" = ")[0]
    proto = model(**written(nodes, "float32", f", {tensor('N,3,4', 'float32')} {inner}"))
    graph = check(proto, **feeds("float32"))
    assert any(inner in node.outputs for node in graph.nodes)


def test_a_value_inside_that_a_subgraph_reads_stays():
    text = """
    g (float[N,3,4] x, bool c) => (float[N,3,4] y, float[N,3,4] w)
    { s = Sigmoid(x) y = Mul(x, s)
      w = If (c) <then_branch = t () => (float[N,3,4] a) { a = Neg(s) },
                  else_branch = e () => (float[N,3,4] b) { b = Exp(s) }> }
    """
    graph = check(model(text), x=rand(2, 3, 4), c=np.array(True))
    assert kinds(graph) == ["Sigmoid", "Mul", "If"]


def test_softplus_with_a_threshold():
    text = """
    g (T x) => (T y) { s = Softplus(x) g = Greater(x, t) y = Where(g, x, s) }
    """
    for dtype, want in (("float32", ["Softplus"]), ("float64", ["Softplus", "Greater", "Where"])):
        proto = model(text.replace("T", tensor("N,3", dtype)), t=np.array(20, dtype))
        check(proto, want, x=20 * rand(5, 3, dtype=dtype))


def test_a_constant_of_higher_rank_changes_the_shape():
    text = "g (float[N] x) => (float[1,N] y) { y = Max(x, c) }"
    check(model(text, c=np.zeros((1, 1), np.float32)), ["Max"], x=rand(4))


@pytest.mark.parametrize("opset", [6, 10, 11])
def test_clip_of_older_opsets(opset):
    bounds = "<min: float = 0.0, max: float = 6.0> (a)" if opset < 11 else "(a, zero, six)"
    nodes = f"a = Add(x, three) c = Clip {bounds} m = Mul(x, c) y = Div(m, six)"
    text = f"g (float[N,3,4] x) => (float[N,3,4] y) {{ {nodes} }}"
    if opset < 7:
        text = text.replace("Add(x", "Add <broadcast: int = 1> (x").replace(
            "Div(", "Div <broadcast: int = 1> ("
        )
    constants = {n: np.array(CONSTANTS[n], np.float32) for n in ("three", "six", "zero") if n in text}
    graph = optimize(load_graph(model(text, opset, **constants).SerializeToString()))
    assert kinds(graph) == ["HardSwish"]


ACTIVATIONS = {
    "y = Gelu(c)": "Gelu",
    'y = Gelu <approximate: string = "tanh"> (c)': "GeluTanh",
    "y = Elu <alpha: float = 0.7> (c)": "Elu",
    "y = Softplus(c)": "Softplus",
    "y = Mish(c)": "Mish",
    "s = Sigmoid(c) y = Mul(c, s)": "Swish",
    "y = HardSwish(c)": "HardSwish",
}


@pytest.mark.parametrize("nodes", ACTIVATIONS)
@pytest.mark.parametrize("form", ["conv", "winograd", "depthwise", "gemm", "matmul", "gemv"])
def test_activations_of_convolutions_and_products(nodes, form):
    name = ACTIVATIONS[nodes]
    outputs = "y"
    if form in ("gemm", "matmul", "gemv"):
        op = "Gemm(x, w)" if form == "gemm" else "MatMul(x, w)"
        rows = 1 if form == "gemv" else 9
        text = f"g (float[N,8] x) => (float[N,20] {outputs}) {{ c = {op} {nodes} }}"
        fused = "FusedGemm" if form == "gemm" else "FusedMatMul"
        check(model(text, w=rand(8, 20)), [f"{fused}/{name}"], x=rand(rows, 8))
        return
    c, o, g = {"conv": (3, 5, 1), "winograd": (32, 32, 1), "depthwise": (6, 6, 6)}[form]
    text = f"""g (float[N,{c},12,13] x) => (float[N,{o},12,13] y)
    {{ c = Conv <pads: ints = [1, 1, 1, 1], group: int = {g}> (x, w) {nodes} }}"""
    w = 0.2 * rand(o, c // g, 3, 3)
    check(model(text, w=w), [f"FusedConv/{name}"], x=rand(2, c, 12, 13))
