"""Every case of `onnx.backend.test`: all pass but those in known_failures.txt, which must fail."""

from __future__ import annotations

import pytest

from tests.backend.suite import LIST, Case, HostBackend, known_failures, load_cases

CASES = load_cases()
KNOWN = known_failures()
COUNTS = {"Real": 9, "Simple": 23, "PyTorchConverted": 82, "PyTorchOperator": 35}


@pytest.fixture(autouse=True)
def _light_models_write_here(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """The suite stores the inputs that it makes for the light models, by default in the home directory."""
    monkeypatch.setenv("ONNX_MODELS", str(tmp_path))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    error = case.failure()
    if case.name not in KNOWN:
        if error is not None:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
        return
    if error is None:
        pytest.fail(f"{case} passes: remove it from {LIST.name} (python -m tests.backend.update)")
    pytest.xfail(KNOWN[case.name] or type(error).__name__)


@pytest.mark.parametrize(
    "case", [c for c in load_cases(HostBackend) if c.category == "Node" and c.name not in KNOWN], ids=str
)
def test_case_in_numpy(case: Case) -> None:
    error = case.failure()
    if error is not None:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error


def test_the_list_names_cases_once_in_order() -> None:
    names = [line.partition("#")[0].strip() for line in LIST.read_text().splitlines()]
    assert names == sorted(set(names))
    assert set(names) <= {case.name for case in CASES}


def test_whole_suite_is_there() -> None:
    for category, least in COUNTS.items():
        assert sum(case.category == category for case in CASES) >= least
