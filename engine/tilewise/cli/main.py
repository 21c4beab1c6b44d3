"""The entry point `tilewise`. A command's module is imported only when that command is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from tilewise import __version__
from tilewise.errors import TilewiseError

COMMANDS = {
    "demo": "read handwritten digits with a small built-in CNN and draw the result",
    "run": "run a model on photos, arrays or random numbers",
    "inspect": "show a model's nodes, shapes, parameters, FLOPs and memory",
    "check": "list everything in a model that is not supported",
    "explain": "show which kernel each layer runs on, its time and its part of the peak",
    "bench": "time a model, side by side with ONNX Runtime if asked",
}
"""Commands and their help; module `tilewise.cli.NAME` has `configure(parser)` and `execute(args) -> int`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    0: fine; 1: a `TilewiseError`, or a file that cannot be read or written; wrong usage exits with 2.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(argv).parse_args(argv)
    try:
        return args.execute(args)
    except BrokenPipeError:  # the reader of our output (`| head`) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (TilewiseError, OSError) as error:
        print(f"tilewise {args.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tilewise", description="Run ONNX models on the CPU.")
    parser.add_argument("--version", action="version", version=f"tilewise {__version__}")
    commands = parser.add_subparsers(dest="name", metavar="COMMAND", required=True)
    asked = next((arg for arg in argv if not arg.startswith("-")), None)
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        if name == asked:
            module = importlib.import_module(f"tilewise.cli.{name}")
            module.configure(command)
            command.set_defaults(execute=module.execute)
    return parser
