"""The entry point: help, versions, exit codes, and what it does not import."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tilewise as tw
from tests.cli.tool import PROGRAM, Tool, program
from tilewise.cli.main import COMMANDS


def test_help_lists_every_command_as_a_program() -> None:
    done = program("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in COMMANDS:
        assert f"\n    {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_no_side_effect(tilewise: Tool, command: str) -> None:
    text = tilewise.fine(command, "--help")
    assert text.startswith(f"usage: tilewise {command} ")
    assert (
        importlib.import_module(f"tilewise.cli.{command}").configure.__module__ == f"tilewise.cli.{command}"
    )


def test_version(tilewise: Tool) -> None:
    assert tilewise.fine("--version") == f"tilewise {tw.__version__}\n"


def test_check_as_a_program(cnn: str) -> None:
    done = program("check", cnn)
    assert (done.returncode, done.stderr) == (0, "")
    assert "supported" in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["nonsense"],
        ["run"],
        ["run", "m.onnx", "--nonsense"],
        ["run", "m.onnx", "--threads", "0"],
        ["run", "m.onnx", "--threads", "two"],
        ["run", "m.onnx", "--top", "-1"],
        ["bench", "m.onnx", "--threads", "1,0"],
        ["bench", "m.onnx", "--threads", "1,"],
        ["bench", "m.onnx", "--runs", "0"],
        ["bench", "m.onnx", "--against", "nothing"],
        ["inspect"],
        ["check"],
        ["demo", "--threads", "-1"],
    ],
)
def test_wrong_usage_exits_with_2(tilewise: Tool, args: list[str]) -> None:
    outcome = tilewise(*args)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "usage: tilewise" in outcome.err


@pytest.mark.parametrize("command", ["run", "inspect", "check", "bench"])
def test_a_file_that_is_no_model_exits_with_1(tilewise: Tool, tmp_path: Path, command: str) -> None:
    missing, broken = tmp_path / "missing.onnx", tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08\x07not a model at all")
    assert str(missing) in tilewise.error(command, missing)
    assert str(broken) in tilewise.error(command, broken)


def test_an_error_of_the_program_has_no_traceback(tmp_path: Path) -> None:
    done = program("run", tmp_path / "missing.onnx")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("tilewise run: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_traceback(cnn: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "inspect", cnn], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err == ""
