"""The activations that recurrent operators may name, with their parameters (ONNX RNN, GRU, LSTM)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tilewise.ops.activation import sigmoid, softplus

Function = Callable[[np.ndarray, float, float], np.ndarray]


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: the kernels' code, defaults of alpha and beta, and NumPy's f(x, alpha, beta).

    takes: how many of alpha and beta it has. A default of None: the value must be given.
    """

    code: int
    takes: int
    alpha: float | None
    beta: float | None
    function: Function


ACTIVATIONS = {
    "Relu": Kind(1, 0, 0.0, 0.0, lambda x, a, b: np.maximum(x, 0)),
    "LeakyRelu": Kind(3, 1, 0.01, 0.0, lambda x, a, b: np.where(x < 0, a * x, x)),
    "Sigmoid": Kind(4, 0, 0.0, 0.0, lambda x, a, b: sigmoid(x)),
    "Tanh": Kind(5, 0, 0.0, 0.0, lambda x, a, b: np.tanh(x)),
    "HardSigmoid": Kind(6, 2, 0.2, 0.5, lambda x, a, b: np.clip(a * x + b, 0, 1)),
    "Elu": Kind(11, 1, 1.0, 0.0, lambda x, a, b: np.where(x < 0, a * np.expm1(x), x)),
    "Softplus": Kind(12, 0, 0.0, 0.0, lambda x, a, b: softplus(x)),
    "Affine": Kind(32, 2, 1.0, 0.0, lambda x, a, b: a * x + b),
    "ThresholdedRelu": Kind(33, 1, 1.0, 0.0, lambda x, a, b: np.where(x < a, 0, x)),
    "ScaledTanh": Kind(34, 2, None, None, lambda x, a, b: a * np.tanh(b * x)),
    "Softsign": Kind(35, 0, 0.0, 0.0, lambda x, a, b: x / (1 + np.abs(x))),
}
_BY_LOWER = {name.lower(): name for name in ACTIVATIONS}


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation with its parameters."""

    code: int
    alpha: float
    beta: float
    function: Function

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.function(x, self.alpha, self.beta)


def bind(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """The activations of these names (in any case); each takes the next alpha and beta, if it has such parameters.

    Raises `ValueError` for an unknown name, a value that is missing and has no default, and values left over.
    """
    rest = {"alpha": list(alphas), "beta": list(betas)}
    out = []
    for given in names:
        name = _BY_LOWER.get(str(given).lower())
        if name is None:
            raise ValueError(f"expected activations of {', '.join(ACTIVATIONS)}, got {given!r}")
        kind = ACTIVATIONS[name]
        alpha = _next(rest, "alpha", kind.alpha, kind.takes > 0, name)
        beta = _next(rest, "beta", kind.beta, kind.takes > 1, name)
        out.append(Activation(kind.code, alpha, beta, kind.function))
    for which, left in rest.items():
        if left:
            raise ValueError(f"activation_{which}: {left} left over by activations {list(names)}")
    return out


def _next(rest: dict[str, list[float]], which: str, default: float | None, takes: bool, name: str) -> float:
    if takes and rest[which]:
        return float(rest[which].pop(0))
    if default is None:
        raise ValueError(f"expected activation_{which} for {name}, which has no default")
    return default
