"""Recurrent operators: RNN, GRU, LSTM.

T, N, I, H are time steps, batch, input size and hidden size; D is 2 for a bidirectional operator, else 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tilewise.graph import Fact
from tilewise.graph.facts import Dim, merge_dims
from tilewise.ops.base import Array, Inputs, Op, values
from tilewise.ops.elementwise import wide
from tilewise.ops.linalg import GEMV_ROWS, column_panels, pack_columns, pack_rows
from tilewise.ops.lowering import Arg, Ref
from tilewise.ops.recurrent_activations import Activation, bind
from tilewise.ops.tiles import PANEL, Product, contiguous_panels, emit, tile_rows

if TYPE_CHECKING:
    from tilewise.ops.lowering import Lowering

TASKS = 8
"""Tasks to aim for; sequences of a batch share the reading of R, so a task should hold some."""
TASK_ROWS = 4
"""Sequences a task has at least, where there are as many; twice that where R outgrows the second-level cache."""
CACHED_FLOATS = 1 << 18

BACKWARD = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
"""For each direction in the tensors, whether it walks from the last step to the first."""


class Recurrent(Op):
    """What RNN, GRU and LSTM share: shapes, the walk over time steps, the two products.

    Inputs X, W (D, gates H, I), R (D, gates H, H), B (D, 2 gates H), sequence_lens (N), initial_h, and for LSTM
    initial_c and P (D, 3 H); all from B on may be left out. With layout 0 X is (T, N, I), Y (T, D, N, H), states
    (D, N, H); with layout 1 X is (N, T, I), Y (N, T, D, H), states (N, D, H). Y is 0 from the end of a sequence on.
    The last states of a sequence without steps are 0, as ONNX Runtime has them.

    gates: rows of W and R in units of H. late: of these the last ones whose product may need the gates before.
    states: 1 for h, 2 for h and c. functions: the activations of one direction unless `activations` names others.
    """

    attributes = frozenset(
        {"activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "layout"}
    )
    gates: ClassVar[int]
    late: ClassVar[int] = 0
    states: ClassVar[int] = 1
    functions: ClassVar[tuple[str, ...]]

    def cell(self, x: Array, r: Array, states: list[Array], weights: Weights) -> list[Array]:
        """The states after a step: x (D, N, gates H) is the input times W, r (D, H, gates H) is R transposed."""
        raise NotImplementedError(type(self).__name__)

    def kind(self) -> int:
        """The kernel's number of the cell."""
        raise NotImplementedError(type(self).__name__)

    # Attributes.

    def backward(self) -> tuple[bool, ...]:
        direction = self.attr("direction", "forward")
        if direction not in BACKWARD:
            raise self.fail(f"expected direction {', '.join(BACKWARD)}, got {direction!r}")
        return BACKWARD[direction]

    def batch_first(self) -> bool:
        layout = self.attr("layout", 0)
        if layout not in (0, 1):
            raise self.fail(f"expected layout 0 or 1, got {layout}")
        return layout == 1

    def activations(self) -> list[list[Activation]]:
        """For each direction, its functions in ONNX's order (f, g, h)."""
        count, size = len(self.backward()), len(self.functions)
        names = self.attr("activations") or list(self.functions) * count
        if self.node.op_type == "RNN" and len(names) == 2:  # the schema's default, for any direction
            names = names[:count]
        if len(names) != count * size:
            raise self.fail(f"expected {count * size} activations, got {names}")
        try:
            bound = bind(names, self.attr("activation_alpha") or [], self.attr("activation_beta") or [])
        except ValueError as error:
            raise self.fail(str(error)) from None
        return [bound[i * size : (i + 1) * size] for i in range(count)]

    def clip(self) -> float:
        """The threshold of what goes into activations; infinity where there is none."""
        clip = self.attr("clip")
        if clip is not None and not clip >= 0:
            raise self.fail(f"expected clip >= 0, got {clip}")
        return np.inf if clip is None else float(clip)

    # Inference.

    def infer(self, ins: Inputs) -> list[Fact]:
        self.activations()
        self.clip()
        x, w, r, b, lengths, h, c, p = (*ins, *(None,) * 8)[:8]
        dtype = next((f.dtype for f in (x, w, r) if f is not None and f.dtype is not None), None)
        d = len(self.backward())
        first, second, _ = self._dims("X", x, (None, None, None))
        t, n = (second, first) if self.batch_first() else (first, second)
        hidden = self._dims("R", r, (d, None, self.attr("hidden_size")))[2]
        rows = _times(hidden, self.gates)
        self._dims("R", r, (d, rows, hidden))
        self._dims("W", w, (d, rows, self._dims("X", x, (None, None, None))[2]))
        self._dims("B", b, (d, _times(rows, 2)))
        self._dims("P", p, (d, _times(hidden, 3)))
        n = self._dims("sequence_lens", lengths, (n,))[0]
        state = (n, d, hidden) if self.batch_first() else (d, n, hidden)
        for name, fact in (("initial_h", h), ("initial_c", c)):
            self._dims(name, fact, state)
        self._check_lengths(lengths, t)
        y = (n, t, d, hidden) if self.batch_first() else (t, d, n, hidden)
        return [Fact(dtype, y), *[Fact(dtype, state)] * self.states][: len(self.node.outputs)]

    def _dims(self, name: str, fact: Fact | None, expected: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The dims of an input, completed by what is known of them; an error where the two contradict."""
        if fact is None or fact.shape is None:
            return expected
        if len(fact.shape) != len(expected) or any(
            isinstance(a, int) and isinstance(e, int) and a != e
            for a, e in zip(fact.shape, expected, strict=True)
        ):
            wanted = ", ".join("?" if e is None else str(e) for e in expected)
            raise self.fail(f"expected {name} of shape ({wanted}), got {fact}")
        return tuple(merge_dims(a, e) for a, e in zip(fact.shape, expected, strict=True))

    def _check_lengths(self, lengths: Fact | None, steps: Dim) -> None:
        known = values(lengths)
        if known and (min(known) < 0 or (isinstance(steps, int) and max(known) > steps)):
            raise self.fail(f"expected sequence_lens from 0 to {steps}, got {known}")

    # Evaluation.

    def evaluate(self, *inputs):
        x, w, r, b, lengths, h, c, p = (*inputs, *(None,) * 8)[:8]
        dtype, d, hidden = x.dtype, len(self.backward()), r.shape[2]
        x, w, r = wide(x), wide(w), wide(r)
        if self.batch_first():
            x = x.swapaxes(0, 1)
        t, n, _ = x.shape
        self._check_lengths(None if lengths is None else Fact.of(lengths), t)
        lengths = np.full(n, t) if lengths is None else lengths
        order = self._order(lengths, t)
        rows = np.matmul(x.reshape(t * n, x.shape[2]), w.swapaxes(1, 2)).reshape(d, t, n, self.gates * hidden)
        rows = np.take_along_axis(rows, order, axis=1)
        weights = Weights(self, b, p, d, hidden, x.dtype)
        states = [self._initial(s, (d, n, hidden), x.dtype) for s in (h, c)[: self.states]]
        y = np.zeros((d, t, n, hidden), x.dtype)
        right = np.ascontiguousarray(r.swapaxes(1, 2))
        for s in range(t):
            alive = (s < lengths)[:, None]
            new = self.cell(rows[:, s], right, states, weights)
            y[:, s] = np.where(alive, new[0], 0)
            states = [np.where(alive, a, z) for a, z in zip(new, states, strict=True)]
        y = np.take_along_axis(y, order, axis=1)
        y = y.transpose((2, 1, 0, 3) if self.batch_first() else (1, 0, 2, 3))
        states = [np.where((lengths > 0)[:, None], s, 0) for s in states]
        last = [s.swapaxes(0, 1) if self.batch_first() else s for s in states]
        return [a.astype(dtype, copy=False) for a in (y, *last)][: len(self.node.outputs)]

    def _order(self, lengths: Array, steps: int) -> Array:
        """[D, T, N, 1]: the time at which a sequence is at each step; its own inverse along T."""
        s = np.arange(steps)[:, None]
        forward = np.broadcast_to(s, (steps, len(lengths)))
        turned = np.where(s < lengths, lengths - 1 - s, s)
        return np.stack([turned if backward else forward for backward in self.backward()])[..., None]

    def _initial(self, state: Array | None, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        if state is None:
            return np.zeros(shape, dtype)
        return wide(state.swapaxes(0, 1) if self.batch_first() else state)

    # Lowering.

    def lower(self, b: Lowering) -> bool:
        if b.ins[0].dtype != np.float32:
            return False
        ins = [*b.ins, *(None,) * 8][:8]
        first, second, _ = ins[0].shape
        t, n = (second, first) if self.batch_first() else (first, second)
        d, width, hidden = ins[2].shape
        x = self._project(b, t * n, d * width)
        r, panels, late = self._panels(b)
        pitch = panels * PANEL
        least = TASK_ROWS if pitch * hidden <= CACHED_FLOATS else 2 * TASK_ROWS
        rows = min(n, max(least, -(-n * d // TASKS)))
        floats = -(-(pitch + hidden + rows * (pitch + 4 * hidden)) // 16) * 16
        tasks = d * -(-n // rows)
        at = [0 if f is None else b.input(i) for i, f in enumerate(ins)]
        out = [b.output(i) if b.wants(i) else 0 for i in range(3)]
        args: list[Arg] = [self.kind(), x, r, at[3], at[7], at[5], at[6], at[4], b.const(self._table())]
        args += [b.const(np.arange(hidden, dtype=np.int64) * PANEL), *out, b.temp(4 * tasks * floats)]
        args += [sum(back << i for i, back in enumerate(self.backward())), t, n, hidden, rows]
        args += [tile_rows(rows), panels, late, floats, width]
        args += self._strides(t, n, d, hidden, d * width)
        b.step("recurrent", tasks, *args, float(self.clip()))
        return True

    def _strides(self, t: int, n: int, d: int, hidden: int, width: int) -> list[int]:
        """Floats: x by time and sequence, y by direction, time and sequence, states by direction and sequence."""
        if self.batch_first():
            return [width, t * width, hidden, d * hidden, t * d * hidden, hidden, d * hidden]
        return [n * width, width, n * hidden, d * n * hidden, hidden, n * hidden, hidden]

    def _table(self) -> Array:
        """The kernel's activations: [D, 3] of (code, alpha, beta)."""
        table = np.zeros((len(self.backward()), 3, 3))
        for d, functions in enumerate(self.activations()):
            for i, f in enumerate(functions):
                table[d, i] = f.code, f.alpha, f.beta
        return table

    def _project(self, b: Lowering, rows: int, columns: int) -> Ref:
        """The steps of x W' for all time steps and directions: [rows, columns]."""
        k = b.ins[0].shape[2]
        y = b.temp(4 * rows * columns)
        if rows <= GEMV_ROWS:
            grain = max(16, (1 << 16) // k // 4 * 4)
            tail = (1.0, 0, 0, 0, 0.0, 0.0)
            b.step("gemv", -(-columns // grain), b.input(0), b.input(1), y, 0, rows, columns, k, grain, *tail)
            return y
        w = b.value(1)
        if w is None:
            x = pack_columns(b, b.input(1), 1, columns, k, (0, 1, k))
        else:
            x = b.packed(1, "columns of transpose", lambda: column_panels(w.reshape(columns, k).T))
        emit(
            b,
            Product(
                x=x,
                w=pack_rows(b, b.input(0), 1, rows, k, (0, k, 1)),
                y=y,
                offsets=np.arange(k, dtype=np.int64) * PANEL,
                panels=contiguous_panels(columns, stride=k * PANEL),
                rows=rows,
                images=1,
                groups=1,
                inputs=k,
                x_strides=(0, 0),
                w_strides=(0, 0),
                y_strides=(0, columns, 1),
            ),
        )
        return y

    def _panels(self, b: Lowering) -> tuple[Ref, int, int]:
        """R' as panels of columns, those of the last gates apart: where, panels a direction, of these the late ones."""
        d, width, hidden = b.ins[2].shape
        cuts = [(0, width - self.late * hidden)]
        if self.late:
            cuts.append((cuts[0][1], width))
        counts = [-(-(last - first) // PANEL) for first, last in cuts]
        total, late = sum(counts), counts[1] if self.late else 0
        r = b.value(2)
        if r is not None:
            return b.packed(2, "recurrent panels", lambda: _pack(r, cuts)), total, late
        dst = b.temp(4 * d * total * PANEL * hidden)
        for i in range(d):
            start = i * total
            for (first, last), count in zip(cuts, counts, strict=True):
                src = b.input(2).at(4 * (i * width + first) * hidden)
                place = dst.at(4 * start * PANEL * hidden)
                b.step("pack_columns", count, place, src, last - first, hidden, PANEL, hidden, 1, 0)
                start += count
        return dst, total, late


class Weights:
    """Biases, peepholes and activations, ready for a step.

    w, r: biases (D, 1, gates H). p: peepholes (3, D, 1, H), or None.
    """

    def __init__(
        self, op: Recurrent, b: Array | None, p: Array | None, d: int, hidden: int, dtype: np.dtype
    ) -> None:
        both = np.zeros((d, 2 * op.gates * hidden), dtype) if b is None else wide(b)
        self.w, self.r = np.split(both[:, None], 2, axis=2)
        self.p = None if p is None else np.stack(np.split(wide(p)[:, None], 3, axis=2))
        self._functions = op.activations()
        self._clip = op.clip()

    def activate(self, which: int, x: Array) -> Array:
        """Function `which` of each direction on its part of x (D, ...), clipped before."""
        if np.isfinite(self._clip):
            x = np.clip(x, -self._clip, self._clip)
        return np.stack([f[which](part) for f, part in zip(self._functions, x, strict=True)])


class RNN(Recurrent):
    """h = f(x W' + h R' + biases) (ONNX RNN, opset 7, 14, 22)."""

    gates = 1
    functions = ("Tanh",)

    def cell(self, x: Array, r: Array, states: list[Array], weights: Weights) -> list[Array]:
        return [weights.activate(0, x + states[0] @ r + weights.w + weights.r)]

    def kind(self) -> int:
        return 0


class GRU(Recurrent):
    """h = (1 - z) g(...) + z h with gates z, r, h (ONNX GRU, opset 7, 14, 22)."""

    attributes = Recurrent.attributes | {"linear_before_reset"}
    gates = 3
    late = 1
    functions = ("Sigmoid", "Tanh")

    def cell(self, x: Array, r: Array, states: list[Array], weights: Weights) -> list[Array]:
        (h,), n = states, states[0].shape[2]
        early, late = slice(0, 2 * n), slice(2 * n, None)
        pre = x[..., early] + h @ r[..., early] + weights.w[..., early] + weights.r[..., early]
        z, reset = np.split(weights.activate(0, pre), 2, axis=2)
        bias = weights.r[..., late]
        if self.attr("linear_before_reset", 0):
            product = reset * (h @ r[..., late] + bias)
        else:
            product = (reset * h) @ r[..., late] + bias
        candidate = weights.activate(1, x[..., late] + product + weights.w[..., late])
        return [(1 - z) * candidate + z * h]

    def kind(self) -> int:
        return 2 if self.attr("linear_before_reset", 0) else 1


class LSTM(Recurrent):
    """c = f c + i g(...), h = o h(c) with gates i, o, f, c and peepholes i, o, f (ONNX LSTM, opset 7, 14, 22)."""

    attributes = Recurrent.attributes | {"input_forget"}
    gates = 4
    states = 2
    functions = ("Sigmoid", "Tanh", "Tanh")

    def cell(self, x: Array, r: Array, states: list[Array], weights: Weights) -> list[Array]:
        h, c = states
        i, o, f, cell = np.split(x + h @ r + weights.w + weights.r, 4, axis=2)
        if weights.p is not None:
            i, f = i + weights.p[0] * c, f + weights.p[2] * c
        i = weights.activate(0, i)
        f = 1 - i if self.attr("input_forget", 0) else weights.activate(0, f)
        c = f * c + i * weights.activate(1, cell)
        if weights.p is not None:
            o = o + weights.p[1] * c
        return [weights.activate(0, o) * weights.activate(2, c), c]

    def kind(self) -> int:
        return 4 if self.attr("input_forget", 0) else 3


def _times(dim: Dim, factor: int) -> Dim:
    return dim * factor if isinstance(dim, int) else None


def _pack(r: Array, cuts: list[tuple[int, int]]) -> Array:
    """[D, gates H, H] as float32 panels [D][panels][H][PANEL], the columns of each cut apart."""
    return np.stack([np.concatenate([column_panels(m[first:last].T) for first, last in cuts]) for m in r])
