"""`tilewise check`: everything in a model that is not supported, in one go."""

from __future__ import annotations

import argparse

from tilewise.cli.arguments import add_model
from tilewise.cli.console import console, table
from tilewise.errors import UnsupportedError
from tilewise.onnx.check import load_checked


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the findings, one row each, and return 1 if there are any."""
    out = console()
    try:
        graph = load_checked(args.model)
    except UnsupportedError as error:
        rows = [(f.node, f.op_type, f.what) for f in error.findings]
        out.print(table(("node", "operator", "not supported"), rows))
        out.print(f"{args.model}: {len(rows)} unsupported feature(s)")
        return 1
    out.print(f"{args.model}: all of its {len(graph.nodes)} nodes are supported")
    return 0
