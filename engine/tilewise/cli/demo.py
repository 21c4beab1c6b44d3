"""`tilewise demo`: a small CNN reads handwritten digits that it has never seen; nothing is downloaded."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import tilewise_kernels
from tilewise.cli.arguments import add_threads
from tilewise.cli.console import console, show_ms
from tilewise.demo import TRAINED_ON, digits, model_bytes
from tilewise.errors import InputError
from tilewise.runtime.model import load

SHOWN = 18
UNSURE = 6


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("tilewise-demo.png"),
        metavar="FILE.png",
        help="where the picture goes (default: tilewise-demo.png)",
    )
    add_threads(parser)


def execute(args: argparse.Namespace) -> int:
    try:
        from tilewise.cli.picture import Reading, draw
    except ImportError:
        raise InputError('the picture needs Pillow; install it with pip install "tilewise[demo]"') from None
    if args.output.suffix != ".png":
        raise InputError(f"--output {args.output}: expected a name that ends in .png")
    out = console()
    images, labels = digits()
    images, labels = images[TRAINED_ON:], labels[TRAINED_ON:]
    model = load(model_bytes(), threads=args.threads)
    model(images)
    start = time.perf_counter_ns()
    scores = model(images)
    spent = time.perf_counter_ns() - start
    right = int((scores.argmax(1) == labels).sum())
    summary = (
        f"{right} of {len(labels)} handwritten digits read correctly ({100 * right / len(labels):.1f} %)"
    )
    chosen = choose(scores)
    readings = [
        Reading(images[i, 0], int(labels[i]), int(scores[i].argmax()), float(scores[i].max())) for i in chosen
    ]
    draw(readings[:SHOWN], readings[SHOWN:], summary).save(args.output)
    parameters = sum(a.size for a in model.graph.initializers.values())
    out.print(
        f"A CNN of {parameters:,} parameters, loaded from ONNX, looked at {len(labels)} images of 8x8 pixels "
        "that took no part in its training.\n"
        f"{summary}, {show_ms(spent)} for all of them on {model.threads} thread(s) "
        f"with {tilewise_kernels.ISA} kernels.\n"
        f"Picture: {args.output.resolve()}"
    )
    return 0


def choose(scores: np.ndarray) -> np.ndarray:
    """Indices of the first images, and then of those further on that the model is least sure of."""
    unsure = np.argsort(scores[SHOWN:].max(1), kind="stable")[:UNSURE] + SHOWN
    return np.concatenate([np.arange(SHOWN), unsure])
