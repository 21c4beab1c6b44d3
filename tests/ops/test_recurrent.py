"""RNN, GRU, LSTM against a float64 loop over sequences and steps, written from the ONNX text, and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tests.ops.harness import check, one_node
from tilewise import TilewiseError
from tilewise.runtime.model import Model, load

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
DEFAULTS = {"LeakyRelu": (0.01,), "HardSigmoid": (0.2, 0.5), "Elu": (1.0,), "ThresholdedRelu": (1.0,)}
DEFAULTS |= {"Affine": (1.0, 0.0), "ScaledTanh": (None, None)}
NAIVE = {
    "Relu": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a: np.where(x >= a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
    "Elu": lambda x, a: np.where(x >= 0, x, a * (np.exp(x) - 1)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log(1 + np.exp(x)),
}


def functions(names, alphas, betas, clip):
    """The named functions, each with the next of the values that it has parameters for."""
    rest, bound = [list(alphas), list(betas)], []
    for name in names:
        given = [rest[i].pop(0) if rest[i] else default for i, default in enumerate(DEFAULTS.get(name, ()))]
        limit = np.inf if clip is None else clip
        bound.append(lambda x, f=NAIVE[name], given=given, c=limit: f(np.clip(x, -c, c), *given))
    return bound


def one_step(op, attrs, f, x, h, c, w, r, b, p):
    """The equations of the ONNX text, for one sequence; w, r: [gates][H, .], b: [2][gates][H], p: [3][H]."""
    if op == "RNN":
        return f[0](w[0] @ x + r[0] @ h + b[0][0] + b[1][0]), c
    if op == "GRU":
        z, reset = (f[0](w[k] @ x + r[k] @ h + b[0][k] + b[1][k]) for k in (0, 1))
        if attrs.get("linear_before_reset", 0):
            candidate = f[1](w[2] @ x + reset * (r[2] @ h + b[1][2]) + b[0][2])
        else:
            candidate = f[1](w[2] @ x + r[2] @ (reset * h) + b[1][2] + b[0][2])
        return (1 - z) * candidate + z * h, c
    pre = [w[k] @ x + r[k] @ h + b[0][k] + b[1][k] for k in range(4)]
    i = f[0](pre[0] + p[0] * c)
    forget = 1 - i if attrs.get("input_forget", 0) else f[0](pre[2] + p[2] * c)
    new = forget * c + i * f[1](pre[3])
    return f[0](pre[1] + p[1] * new) * f[2](new), new


def naive(op, attrs):
    """An oracle: takes the inputs of the node, returns all its outputs."""

    def run(x, w, r, b=None, lengths=None, h0=None, c0=None, p=None):
        dtype, batch_first = x.dtype, attrs.get("layout", 0) == 1
        x, w, r = (a.astype(np.float64) for a in (x, w, r))
        x = x.swapaxes(0, 1) if batch_first else x
        (t, n, _), (d, _, hidden), gates = x.shape, r.shape, GATES[op]
        direction = attrs.get("direction", "forward")
        state = (n, d, hidden) if batch_first else (d, n, hidden)
        h0, c0 = (np.zeros(state) if s is None else s.astype(np.float64) for s in (h0, c0))
        h0, c0 = (s.swapaxes(0, 1) if batch_first else s for s in (h0, c0))
        b = (np.zeros((d, 2 * gates * hidden)) if b is None else b.astype(np.float64)).reshape(
            d, 2, gates, hidden
        )
        p = (np.zeros((d, 3 * hidden)) if p is None else p.astype(np.float64)).reshape(d, 3, hidden)
        w, r = w.reshape(d, gates, hidden, -1), r.reshape(d, gates, hidden, hidden)
        names = attrs.get("activations", FUNCTIONS[op] * d)
        bound = functions(
            names, attrs.get("activation_alpha", []), attrs.get("activation_beta", []), attrs.get("clip")
        )
        y, last = np.zeros((t, d, n, hidden)), np.zeros((2, d, n, hidden))
        for k in range(d):
            f = bound[k * len(FUNCTIONS[op]) :]
            for i in range(n):
                h, c = h0[k, i], c0[k, i]
                length = t if lengths is None else int(lengths[i])
                times = range(length)
                for s in reversed(times) if direction == "reverse" or k == 1 else times:
                    h, c = one_step(op, attrs, f, x[s, i], h, c, w[k], r[k], b[k], p[k])
                    y[s, k, i] = h
                if length:
                    last[0, k, i], last[1, k, i] = h, c
        if batch_first:
            y, last = y.transpose(2, 0, 1, 3), last.swapaxes(1, 2)
        return [a.astype(dtype) for a in (y, *last[: 2 if op == "LSTM" else 1])]

    return run


def inputs(op, t, n, i, hidden, attrs, *, given="", lengths=None, seed=0, dtype=np.float32):
    """Random inputs; `given` holds B, h, c, P for the optional ones that are there."""
    rng = np.random.default_rng(seed)
    d, gates = 2 if attrs.get("direction") == "bidirectional" else 1, GATES[op]
    batch_first = attrs.get("layout", 0) == 1

    def draw(*shape, scale=1.0):
        return (rng.uniform(-1, 1, shape) * scale).astype(dtype)

    state = (n, d, hidden) if batch_first else (d, n, hidden)
    out = [
        draw(n, t, i) if batch_first else draw(t, n, i),
        draw(d, gates * hidden, i, scale=2 / np.sqrt(max(i, 1))),
        draw(d, gates * hidden, hidden, scale=2 / np.sqrt(hidden)),
        draw(d, 2 * gates * hidden) if "B" in given else None,
        None if lengths is None else np.array(lengths, np.int32),
        draw(*state) if "h" in given else None,
    ]
    if op == "LSTM":
        out += [draw(*state) if "c" in given else None, draw(d, 3 * hidden) if "P" in given else None]
    while out[-1] is None:
        out.pop()
    return out


def outputs(op):
    return 3 if op == "LSTM" else 2


DIRECTIONS = ("forward", "reverse", "bidirectional")
FORMS = [  # given, further attributes, by operator
    ("RNN", "", {}),
    ("RNN", "Bh", {"clip": 0.3}),
    ("GRU", "B", {"clip": 0.0}),
    ("GRU", "", {}),
    ("GRU", "Bh", {"clip": 0.5}),
    ("GRU", "Bh", {"linear_before_reset": 1}),
    ("GRU", "", {"linear_before_reset": 1}),
    ("LSTM", "", {}),
    ("LSTM", "Bhc", {"clip": 0.4}),
    ("LSTM", "BhcP", {}),
    ("LSTM", "BP", {"input_forget": 1, "clip": 0.6}),
    ("LSTM", "Bc", {"input_forget": 1}),
]


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("op", "given", "attrs"), FORMS)
@pytest.mark.parametrize("constants", [(), (1, 2)])
def test_forms(op, given, attrs, direction, layout, constants):
    """Every form with and without lengths; 5 sequences of two tasks, a hidden size beside the vector's."""
    for lengths in (None, [3, 6, 0, 1, 5]):
        attrs = {**attrs, "direction": direction, "layout": layout, "hidden_size": 7}
        arrays = inputs(op, 6, 5, 3, 7, attrs, given=given, lengths=lengths)
        check(
            op,
            arrays,
            attrs,
            outputs=outputs(op),
            constants=constants,
            oracle=naive(op, attrs),
            kernel=True,
        )


SIZES = [  # T, N, I, H
    (1, 1, 1, 1),
    (3, 1, 2, 1),
    (1, 4, 5, 2),
    (2, 1, 4, 33),
    (5, 1, 3, 64),
    (4, 2, 3, 16),
    (4, 3, 40, 31),
    (3, 13, 2, 17),
    (3, 40, 2, 5),
    (2, 130, 3, 19),
    (3, 1, 7, 128),
    (2, 3, 5, 260),
]


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_sizes(op, size, direction):
    t, n, i, hidden = size
    attrs = {"hidden_size": hidden, "direction": direction}
    arrays = inputs(op, t, n, i, hidden, attrs, given="BhcP")
    constants = (1, 2, 3) if (n + hidden) % 2 else ()
    check(
        op,
        arrays,
        attrs,
        outputs=outputs(op),
        constants=constants,
        oracle=naive(op, attrs),
        kernel=True,
        rtol=1e-4,
        atol=2e-5,
    )


ACTIVATIONS = [
    ("RNN", ["Relu"], [], []),
    ("RNN", ["LeakyRelu"], [], []),
    ("RNN", ["LeakyRelu"], [0.3], []),
    ("RNN", ["Affine"], [], []),
    ("RNN", ["Affine"], [0.5], [0.1]),
    ("RNN", ["ThresholdedRelu"], [0.2], []),
    ("RNN", ["ScaledTanh"], [0.7], [0.4]),
    ("RNN", ["HardSigmoid"], [], []),
    ("RNN", ["HardSigmoid"], [0.6], [0.1]),
    ("RNN", ["Elu"], [0.5], []),
    ("RNN", ["Softsign"], [], []),
    ("RNN", ["Softplus"], [], []),
    ("RNN", ["Sigmoid"], [], []),
    ("GRU", ["HardSigmoid", "Softsign"], [0.3], [0.6]),
    ("GRU", ["Sigmoid", "LeakyRelu"], [0.2], []),
    ("LSTM", ["HardSigmoid", "ScaledTanh", "Elu"], [0.3, 0.9, 0.4], [0.45, 0.8]),
    ("LSTM", ["Sigmoid", "Relu", "Softplus"], [], []),
]


@pytest.mark.parametrize(("op", "names", "alphas", "betas"), ACTIVATIONS)
def test_activations(op, names, alphas, betas):
    attrs = {"hidden_size": 6, "activations": names}
    attrs |= {"activation_alpha": alphas} if alphas else {}
    attrs |= {"activation_beta": betas} if betas else {}
    arrays = inputs(op, 4, 3, 5, 6, attrs, given="BhcP")
    check(op, arrays, attrs, outputs=outputs(op), oracle=naive(op, attrs), kernel=True)


def test_each_direction_has_its_own_activations():
    names = ["Sigmoid", "LeakyRelu", "HardSigmoid", "Elu"]
    attrs = {"hidden_size": 4, "direction": "bidirectional", "activations": names}
    attrs |= {"activation_alpha": [0.1, 0.3, 0.7], "activation_beta": [0.4]}
    arrays = inputs("GRU", 4, 3, 5, 4, attrs, given="B")
    check("GRU", arrays, attrs, outputs=2, oracle=naive("GRU", attrs), kernel=True)


def test_names_of_activations_in_any_case():
    attrs = {"hidden_size": 4, "activations": ["sigmoid", "TANH"]}
    arrays = inputs("GRU", 4, 3, 5, 4, attrs)
    check("GRU", arrays, attrs, outputs=2, oracle=naive("GRU", {"hidden_size": 4}), kernel=True)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(("dtype", "tol"), [("float64", 1e-12), ("float16", 4e-3), ("bfloat16", 3e-2)])
def test_other_dtypes_run_in_numpy(op, dtype, tol):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    attrs = {"hidden_size": 5, "direction": "bidirectional"}
    arrays = inputs(op, 4, 3, 6, 5, attrs, given="BhcP", lengths=[4, 0, 2], dtype=dtype)
    oracle = naive(op, attrs)
    check(op, arrays, attrs, outputs=outputs(op), oracle=oracle, kernel=False, rtol=tol, atol=tol)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("opset", [7, 14, 22])
def test_versions(op, opset):
    attrs = {"hidden_size": 5, "direction": "reverse"}
    arrays = inputs(op, 4, 3, 6, 5, attrs, given="Bh")
    oracle = naive(op, attrs)
    check(op, arrays, attrs, outputs=outputs(op), opset=opset, oracle=oracle, kernel=True)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("shape", [(0, 3, 2, 4), (3, 0, 2, 4), (3, 2, 0, 4)])
def test_empty(op, shape):
    """No steps, no sequences or no features; the last states of sequences without steps are 0."""
    t, n, i, hidden = shape
    attrs = {"hidden_size": hidden, "direction": "bidirectional"}
    arrays = inputs(op, t, n, i, hidden, attrs, given="Bhc")
    check(op, arrays, attrs, outputs=outputs(op), oracle=naive(op, attrs), kernel=False)


@pytest.mark.parametrize("wanted", ["y0", "y1", "y2"])
def test_outputs_left_out(wanted):
    attrs = {"hidden_size": 5}
    arrays = inputs("LSTM", 4, 3, 6, 5, attrs)
    proto = one_node("LSTM", arrays, attrs, outputs=3)
    node = proto.graph.node[0]
    node.output[:] = [name if name == wanted else "" for name in node.output]
    while not node.output[-1]:
        node.output.pop()
    kept = [o for o in proto.graph.output if o.name == wanted]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    want = naive("LSTM", attrs)(*arrays)[int(wanted[1])]
    model = load(proto.SerializeToString())
    for m in (model, Model(model.graph, native=False)):
        np.testing.assert_allclose(m.run(feeds)[wanted], want, rtol=1e-5, atol=1e-6)


def test_one_element_of_all_is_nan():
    """A NaN stays within its sequence and the steps from it on."""
    for op in GATES:
        attrs = {"hidden_size": 4}
        arrays = inputs(op, 5, 6, 3, 4, attrs, given="B")
        arrays[0][2, 1, 0] = np.nan
        y = check(op, arrays, attrs, outputs=outputs(op), oracle=naive(op, attrs), kernel=True)[0]
        assert np.isnan(y[2:, :, 1]).all()
        assert not np.isnan(y[:2]).any()
        assert not np.isnan(np.delete(y, 1, axis=2)).any()


@pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")
@pytest.mark.parametrize("op", GATES)
def test_the_same_bits_with_any_number_of_threads(op):
    attrs = {"hidden_size": 40, "direction": "bidirectional"}
    arrays = inputs(op, 9, 37, 20, 40, attrs, given="BhcP")
    proto = one_node(op, arrays, attrs, outputs=outputs(op), constants=(1, 2)).SerializeToString()
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None and i not in (1, 2)}
    one, two = (load(proto, threads=threads).run(feeds) for threads in (1, 2))
    for name, y in one.items():
        assert y.tobytes() == two[name].tobytes()


ORT_FORMS = [
    form
    for form in FORMS
    if form[2].get("clip") != 0  # refused
    and ("clip" not in form[2] or "c" not in form[1])  # does not clip what goes into h
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("op", "given", "attrs"), ORT_FORMS)
def test_as_onnx_runtime(op, given, attrs, direction):
    ort = pytest.importorskip("onnxruntime")
    attrs = {**attrs, "direction": direction, "hidden_size": 9}
    arrays = inputs(op, 6, 5, 3, 9, attrs, given=given, lengths=[3, 6, 0, 1, 5])
    proto = one_node(op, arrays, attrs, outputs=outputs(op), opset=14)
    for y in proto.graph.output:
        y.type.tensor_type.elem_type = 1
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def oracle(*xs):
        return session.run(None, {f"x{i}": x for i, x in enumerate(xs) if x is not None})

    check(op, arrays, attrs, outputs=outputs(op), opset=14, oracle=oracle, kernel=True, rtol=1e-4, atol=1e-5)


def variant(i, shape, dtype=np.float32):
    """Inputs of a GRU with number i replaced by zeros of another shape."""
    arrays = inputs("GRU", 4, 3, 6, 5, {}, given="Bh", lengths=[4, 2, 1])
    arrays[i] = np.zeros(shape, dtype)
    return arrays


WRONG = [
    ({}, variant(0, (4, 3)), r"expected X of shape \(\?, \?, \?\), got float32\[4, 3\]"),
    ({}, variant(1, (1, 15, 7)), r"expected W of shape \(1, 15, 6\)"),
    ({}, variant(1, (2, 15, 6)), r"expected W of shape \(1, 15, 6\)"),
    ({}, variant(2, (1, 14, 5)), r"expected R of shape \(1, 15, 5\)"),
    ({}, variant(3, (1, 15)), r"expected B of shape \(1, 30\)"),
    ({}, variant(4, (2,), np.int32), r"expected sequence_lens of shape \(3\)"),
    ({}, variant(4, (3,), np.int64), "expected tensor\\(int32\\)"),
    ({}, variant(5, (3, 1, 5)), r"expected initial_h of shape \(1, 3, 5\)"),
    ({}, variant(5, (1, 3, 5), np.float64), "must have one type"),
    ({"hidden_size": 6}, variant(4, (3,), np.int32), r"expected R of shape \(1, \?, 6\)"),
    ({"direction": "backward"}, variant(4, (3,), np.int32), "expected direction forward, reverse"),
    ({"layout": 2}, variant(4, (3,), np.int32), "expected layout 0 or 1, got 2"),
    ({"clip": -1.0}, variant(4, (3,), np.int32), "expected clip >= 0, got -1"),
    ({"activations": ["Tanh"]}, variant(4, (3,), np.int32), "expected 2 activations"),
    ({"activations": ["Tanh", "Sine"]}, variant(4, (3,), np.int32), "expected activations of .* got 'Sine'"),
    ({"activations": ["Tanh", "ScaledTanh"]}, variant(4, (3,), np.int32), "activation_alpha for ScaledTanh"),
    ({"activation_alpha": [0.5]}, variant(4, (3,), np.int32), "left over"),
]


@pytest.mark.parametrize(("attrs", "arrays", "message"), WRONG)
def test_wrong_inputs(attrs, arrays, message):
    attrs = {"hidden_size": 5, **attrs}
    with pytest.raises(TilewiseError, match=message):
        load(one_node("GRU", arrays, attrs, outputs=2).SerializeToString())


@pytest.mark.parametrize("lengths", [[4, 5, 1], [-1, 2, 3]])
def test_lengths_out_of_range(lengths):
    """An error where they are constants or NumPy runs; NaN in these sequences alone from a kernel."""
    attrs = {"hidden_size": 5}
    arrays = inputs("LSTM", 4, 3, 6, 5, attrs, lengths=lengths)
    with pytest.raises(TilewiseError, match="expected sequence_lens from 0 to 4, got"):
        load(one_node("LSTM", arrays, attrs, outputs=3, constants=(4,)).SerializeToString())
    model = load(one_node("LSTM", arrays, attrs, outputs=3).SerializeToString())
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    with pytest.raises(TilewiseError, match="expected sequence_lens from 0 to 4, got"):
        Model(model.graph, native=False).run(feeds)
    if tilewise_kernels.NATIVE:
        bad = np.array([not 0 <= n <= 4 for n in lengths])
        for y in model.run(feeds).values():
            assert (np.isnan(y).all(axis=-1) == bad).all()
