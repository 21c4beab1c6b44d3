"""The command line as tests call it: in this process, or as a program."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

from tilewise.cli.main import main

PROGRAM = "import sys; from tilewise.cli.main import main; sys.exit(main())"
"""What the installed script `tilewise` does."""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Tool:
    """Calls `main` and collects its exit code and what it printed; wrong usage counts as exit code 2."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: object) -> Outcome:
        self._capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = self._capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    def fine(self, *args: object) -> str:
        """What a command that must succeed prints."""
        outcome = self(*args)
        assert outcome.code == 0, outcome.err
        assert outcome.err == ""
        return outcome.out

    def error(self, *args: object) -> str:
        """The message of a command that must fail: one report on stderr, no traceback."""
        outcome = self(*args)
        assert outcome.code == 1, outcome
        assert outcome.err.startswith(f"tilewise {args[0]}: ")
        assert "Traceback" not in outcome.err
        return outcome.err


def program(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the entry point in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
