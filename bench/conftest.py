"""Options of `pytest bench`, and the pinning to CPUs before any engine is imported."""

from __future__ import annotations

import pytest

from bench.contest import measured_on, pin
from tilewise.cli.race import Pace

AROUND = pytest.StashKey[dict]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tilewise")
    group.addoption("--threads", type=int, default=1, help="of every engine (default: 1)")
    group.addoption("--rounds", type=int, default=50, help="rounds of one problem at most (default: 50)")
    group.addoption("--seconds", type=float, default=0.5, help="limit for the rounds of one problem")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[AROUND] = measured_on()
    pin(config.getoption("--threads"))


@pytest.fixture
def around(request: pytest.FixtureRequest) -> dict:
    return request.config.stash[AROUND]


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--threads")


@pytest.fixture
def pace(request: pytest.FixtureRequest) -> Pace:
    get = request.config.getoption
    return Pace(rounds=get("--rounds"), seconds=get("--seconds"), warm_up=0.05)
