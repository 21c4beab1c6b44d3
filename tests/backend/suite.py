"""ONNX's public conformance suite, one function a case, and the list of cases known to fail."""

from __future__ import annotations

import unittest
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from onnx.backend.base import Backend
from onnx.backend.test import BackendTest

import tilewise.backend
from tilewise.backend import TilewiseBackend, TilewiseRep
from tilewise.runtime.model import Model

LIST = Path(__file__).with_name("known_failures.txt")
RANDOM = {
    f"test_bernoulli{which}{form}": {"rtol": 0.0, "atol": 1.0}
    for which in ("", "_double", "_seed")
    for form in ("", "_expanded")
}
"""Cases whose values are random zeros and ones, so that only dtype and shape can be compared."""


@dataclass(frozen=True)
class Case:
    """One case on the CPU.

    category: Node, Real (the light models), Simple, PyTorchConverted or PyTorchOperator.
    """

    category: str
    name: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.category}-{self.name}"

    def failure(self) -> BaseException | None:
        """What the case ends in, None where it passes; a backend that declines a case has failed it."""
        try:
            self.run()
        except (Exception, unittest.SkipTest) as error:
            return error
        return None


class HostBackend(TilewiseBackend):
    """The backend with every node evaluated in NumPy, as in a build without kernels."""

    @classmethod
    def prepare(cls, model, device: str = "CPU", **kwargs) -> TilewiseRep:
        rep = super().prepare(model, device, **kwargs)
        return TilewiseRep(Model(rep.model.graph, rep.model.threads, native=False))


def load_cases(backend: ModuleType | type[Backend] = tilewise.backend) -> list[Case]:
    """Every case of the suite, sorted. Cases for other devices, which are the same again, are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # the suite makes its data with overflows and zero divisions
        classes = BackendTest(backend, __name__, RANDOM).test_cases
    cases = []
    for class_name, cls in classes.items():
        category = class_name.removeprefix("OnnxBackend").removesuffix("ModelTest")
        for name, function in sorted(vars(cls).items()):
            if name.startswith("test_") and name.endswith("_cpu"):
                cases.append(Case(category, name.removesuffix("_cpu"), partial(function, None)))
    assert len({case.name for case in cases}) == len(cases)
    return cases


def known_failures() -> dict[str, str]:
    """Reasons, "" where none is given, by the name of the case, in the order of the file."""
    rows = [line.partition("#") for line in LIST.read_text().splitlines() if line.strip()]
    return {name.strip(): reason.strip() for name, _, reason in rows}


def write_list(failures: dict[str, str]) -> None:
    rows = [f"{name}  # {reason}" if reason else name for name, reason in sorted(failures.items())]
    LIST.write_text("".join(f"{row}\n" for row in rows))
