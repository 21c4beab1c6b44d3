"""Whole models beside ONNX Runtime and OpenVINO: `python -m bench.whole_models [--threads 1,2] [NAME ...]`.

Every model is run by all engines in turn, on each number of threads in a process of its own that is kept on as many
CPUs. Models: the light ones of the package `onnx` with random weights, files beside the project, and what
`bench.export` has written; a name is light/NAME, shared/NAME or torch/NAME, or NAME for all of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import onnx

from bench.contest import contestants, measured_on, pin
from bench.models import LIGHT, SHARED, add_models_option, light_model, random_inputs
from bench.report import geomeans, head, row
from bench.results import Result, Run, write
from tilewise.cli.arguments import positives
from tilewise.cli.race import Pace, race

FILES = ("mobilenetv2", "efficientnet_b0")
"""Models beside the project; left out, with a line, where they are absent."""


def model_names(exported: Path) -> list[str]:
    return [
        *(f"light/{name}" for name in LIGHT),
        *(f"shared/{name}" for name in FILES),
        *(f"torch/{path.stem}" for path in sorted(exported.glob("*.onnx"))),
    ]


def chosen(names: Iterable[str], known: list[str]) -> list[str]:
    """Those known whose whole or last name is asked for, all by default; ValueError for one that nobody knows."""
    wanted = list(names) or known
    for name in wanted:
        if not any(name in (k, k.partition("/")[2]) for k in known):
            raise ValueError(f"no model {name}, there are: {', '.join(known)}")
    return [k for k in known if k in wanted or k.partition("/")[2] in wanted]


def model_file(name: str, exported: Path, folder: Path) -> Path | None:
    """The model's file; one with random weights is written to the folder. None where it is absent."""
    origin, _, stem = name.partition("/")
    if origin == "light":
        path = folder / f"{stem}.onnx"
        onnx.save(light_model(stem), path)
        return path
    path = (SHARED / "models" if origin == "shared" else exported) / f"{stem}.onnx"
    return path if path.exists() else None


def compare(name: str, path: Path, threads: int, pace: Pace) -> Result:
    """One model on one number of threads."""
    feeds = random_inputs(onnx.load(path))
    engines = contestants(str(path), feeds, threads)
    race(engines, pace)
    return Result.of(engines, name, name.partition("/")[0])


def compare_alone(name: str, path: Path, threads: int, pace: Pace) -> Result:
    """The same in a process of its own: pinned, and with no other model's threads and memory."""
    with ProcessPoolExecutor(1, get_context("spawn"), pin, (threads,)) as pool:
        return pool.submit(compare, name, path, threads, pace).result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", type=positives, default=[1, 2], metavar="N,N,...")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=5.0, help="limit for the rounds of one model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, for bench.report")
    add_models_option(parser)
    args = parser.parse_args()
    pace = Pace(rounds=args.rounds, seconds=args.seconds, turn=0.02, warm_up=0.2)
    try:
        names = chosen(args.names, model_names(args.models))
    except ValueError as error:
        parser.error(str(error))
    around = measured_on()
    print(head(around))
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = model_file(name, args.models, Path(folder))
            if path is None:
                print(f"left out: {name}, not in {SHARED / 'models'}")
                continue
            for threads in args.threads:
                results.append(compare_alone(name, path, threads, pace))
                print(row(results[-1]), flush=True)
    print(geomeans(results))
    if args.json is not None:
        write(args.json, Run(around, tuple(results)))


if __name__ == "__main__":
    main()
