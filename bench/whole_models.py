"""Whole models beside ONNX Runtime: `python -m bench.whole_models [--threads 1,2] [--runs 15] [NAME ...]`.

Every model is run in turn by both engines, A B A B, on each number of threads; the table holds medians and ratios.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx

from bench.models import LIGHT, SHARED, light_model, random_inputs
from tilewise.cli.bench import (
    Contestant,
    difference,
    onnxruntime_contestant,
    race,
    surroundings,
    tilewise_contestant,
)

FILES = ("mobilenetv2", "efficientnet_b0")
"""Models beside the project; left out, with a line, where they are absent."""


def model_files(folder: Path, names: list[str]) -> dict[str, Path]:
    """The files of the models asked for (all by default), the light ones with random weights."""
    found = {}
    for name in names or [*LIGHT, *FILES]:
        if name in LIGHT:
            found[name] = folder / f"{name}.onnx"
            onnx.save(light_model(name), found[name])
        elif (SHARED / "models" / f"{name}.onnx").exists():
            found[name] = SHARED / "models" / f"{name}.onnx"
        else:
            print(f"left out: {name}, not in {SHARED / 'models'}")
    return found


def compare(path: Path, threads: int, runs: int) -> tuple[Contestant, Contestant]:
    """Tilewise and ONNX Runtime on one model, run in turn."""
    feeds = random_inputs(onnx.load(path))
    ours = tilewise_contestant(str(path), feeds, threads)
    theirs = onnxruntime_contestant(str(path), feeds, threads)
    race([ours, theirs], runs)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    around = surroundings("onnxruntime")
    print(
        f"{around['cpu']}, {around['kernels']} kernels, {around['versions']}, medians of {args.runs} runs in turn\n"
    )
    print("| model | threads | Tilewise, ms | ONNX Runtime, ms | ratio | outputs differ by |")
    print("| --- | --- | --- | --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in model_files(Path(folder), args.names).items():
            for threads in map(int, args.threads.split(",")):
                ours, theirs = compare(path, threads, args.runs)
                ratios.append(ours.median / theirs.median)
                gap = difference(ours.outputs, theirs.outputs)
                times = f"{ours.median / 1e6:.2f} | {theirs.median / 1e6:.2f} | {ratios[-1]:.2f}"
                print(f"| {name} | {threads} | {times} | {gap:.1e} |", flush=True)
    print(f"\ngeometric mean of the ratios {np.exp(np.mean(np.log(ratios))):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
