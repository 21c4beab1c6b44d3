"""`tilewise run`: one run of a model on photos, arrays or random numbers."""

from __future__ import annotations

import argparse
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

import tilewise_kernels
from tilewise.cli.arguments import add_model, add_seed, add_shape, add_threads, natural
from tilewise.cli.console import console, show_ms, show_shape, table
from tilewise.cli.feeds import FeedReader
from tilewise.cli.images import NORMALIZATIONS
from tilewise.errors import InputError
from tilewise.runtime.model import load

MAX_ROWS = 8
"""Rows of a batch whose best classes are shown."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE|random",
        help="a photo, .npy or .npz for an input, or random numbers; repeat it for each input",
    )
    parser.add_argument(
        "--normalize",
        metavar="NAME|MEAN/STD",
        help=f"how photos become floats: {', '.join(NORMALIZATIONS)} (default: unit, that is 0..1), or "
        "MEAN/STD in units of 8-bit pixels, one number or one for each channel, such as 127.5/127.5",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.npz", help="write all outputs to this archive")
    parser.add_argument(
        "--top", type=natural, default=5, metavar="K", help="best classes to show (default: 5)"
    )
    add_threads(parser)
    add_shape(parser)
    add_seed(parser)


def execute(args: argparse.Namespace) -> int:
    out = console()
    model = load(args.model, threads=args.threads)
    reader = FeedReader(model.graph, args.shape, args.normalize, args.seed)
    feeds = reader.read(args.input)
    times = []
    for _ in range(2):
        start = time.perf_counter_ns()
        results = model.run(feeds)
        times.append(time.perf_counter_ns() - start)
    if feeds:
        fed = [(n, str(a.dtype), show_shape(a.shape), reader.sources[n]) for n, a in feeds.items()]
        out.print(table(("input", "dtype", "shape", "from"), fed))
    rows = [row for name, value in results.items() for row in _describe(name, value)]
    out.print(table(("output", "dtype", "shape", ">min", ">mean", ">max"), rows))
    for name, value in results.items():
        scores = class_scores(value)
        if scores is not None and args.top:
            _print_top(out, name, scores, args.top)
    out.print(
        f"{show_ms(times[1])} on {model.threads} thread(s), {tilewise_kernels.ISA} kernels "
        f"(first run, planning included: {show_ms(times[0])})"
    )
    if args.output is not None:
        save(args.output, results)
        out.print(f"outputs written to {args.output}")
    return 0


def class_scores(value: object) -> np.ndarray | None:
    """Scores (N, C), float64, of floats (N, C) or (N, C, 1, ...), C > 1, as classifiers make; else None."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 2 or value.shape[0] == 0:
        return None
    if value.shape[1] < 2 or value[0, 0].size != 1:
        return None
    return value.reshape(value.shape[:2]).astype(np.float64)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """The scores where each row is a distribution already, else their softmax."""
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3):
        return scores
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def _print_top(out: Console, name: str, scores: np.ndarray, count: int) -> None:
    shares = probabilities(scores)
    heading = "probability" if shares is scores else "softmax"
    rows = []
    for i in range(min(len(scores), MAX_ROWS)):
        for rank, c in enumerate(np.argsort(-scores[i], kind="stable")[:count], 1):
            rows.append((str(i), str(rank), str(c), f"{scores[i, c]:.4f}", f"{100 * shares[i, c]:.2f} %"))
    out.print(table((">row", ">rank", ">class", ">score", f">{heading}"), rows, f"best classes of {name}"))
    if len(scores) > MAX_ROWS:
        out.print(f"({len(scores) - MAX_ROWS} more rows)")


def _describe(name: str, value: object) -> Iterator[tuple[str, ...]]:
    """A row for each array of an output: a sequence has several."""
    for key, array in _arrays(name, value):
        if array.size and array.dtype.kind in "fiub":
            wide = array.astype(np.float64)
            numbers = tuple(f"{v:.6g}" for v in (wide.min(), wide.mean(), wide.max()))
        else:
            numbers = ("", "", "")
        yield key, str(array.dtype), show_shape(array.shape), *numbers


def _arrays(name: str, value: object) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, list):
        for i, element in enumerate(value):
            yield from _arrays(f"{name}.{i}", element)
    elif isinstance(value, np.ndarray):
        yield name, value


def save(path: Path, results: Mapping[str, object]) -> None:
    """Write outputs as an .npz archive, each array under its output's name."""
    if path.suffix != ".npz":
        raise InputError(f"--output {path}: expected a name that ends in .npz")
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in results.items():
            for key, array in _arrays(name, value):
                with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                    plain = array.astype(str) if array.dtype.hasobject else array
                    np.lib.format.write_array(file, np.asanyarray(plain), allow_pickle=False)
