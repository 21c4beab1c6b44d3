"""Measured results: what one holds, how files of them are read and written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tilewise.cli.race import Contestant, difference

OURS = "tilewise"
RATIOS = Path(__file__).with_name("ratios.json")
"""The results that are kept with the project."""


@dataclass(frozen=True)
class Result:
    """One model or problem on one number of threads.

    group: the problem's list, or where the model comes from. times: median milliseconds by engine. differences: of
    our outputs from each peer's, relative to the largest magnitude. flops: of the direct sum, 0 where not counted.
    """

    name: str
    group: str
    threads: int
    times: dict[str, float]
    differences: dict[str, float] = field(default_factory=dict)
    flops: int = 0

    @property
    def is_model(self) -> bool:
        return " " not in self.name

    @property
    def gflops(self) -> float:
        """Achieved, in 1e9 a second."""
        return self.flops / self.times[OURS] / 1e6

    def ratio(self, peer: str) -> float | None:
        """The peer's time over ours: above 1 where we are faster; None where the peer was not measured."""
        return self.times[peer] / self.times[OURS] if peer in self.times else None

    def best_ratio(self, peers: Sequence[str]) -> float | None:
        """The ratio to the fastest of these peers."""
        ratios = [r for r in map(self.ratio, peers) if r is not None]
        return min(ratios, default=None)

    @staticmethod
    def of(contestants: Sequence[Contestant], name: str, group: str, flops: int = 0) -> Result:
        """Contestants after their race, ours among them."""
        ours = next(c for c in contestants if c.engine == OURS)
        return Result(
            name,
            group,
            ours.threads,
            {c.engine: c.median / 1e6 for c in contestants},
            {c.engine: difference(ours.outputs, c.outputs) for c in contestants if c is not ours},
            flops,
        )


@dataclass(frozen=True)
class Run:
    """Results and what they depend on (see `surroundings`)."""

    around: dict
    results: tuple[Result, ...]


def write(path: Path, run: Run) -> None:
    """A file that `read` reads, one result a line; ratios are written for readers other than that."""
    lines = [json.dumps({**_rounded(r), "ratios": _ratios(r)}) for r in run.results]
    around = json.dumps(run.around, indent=2).replace("\n", "\n  ")
    path.write_text(f'{{\n  "around": {around},\n  "results": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n")


def _rounded(result: Result) -> dict:
    values = asdict(result)
    values["times"] = {k: float(f"{v:.4g}") for k, v in result.times.items()}
    values["differences"] = {k: float(f"{v:.2g}") for k, v in result.differences.items()}
    return values


def _ratios(result: Result) -> dict[str, float]:
    return {peer: round(t / result.times[OURS], 3) for peer, t in result.times.items() if peer != OURS}


def read(path: Path) -> Run:
    """A file that `write` or pytest-benchmark wrote."""
    data = json.loads(path.read_text())
    if "benchmarks" in data:
        infos = [b["extra_info"] for b in data["benchmarks"] if "result" in b["extra_info"]]
        if not infos:
            raise ValueError(f"{path}: no problem was measured")
        return Run(infos[0]["around"], tuple(_result(info["result"]) for info in infos))
    return Run(data["around"], tuple(map(_result, data["results"])))


def _result(values: dict) -> Result:
    return Result(**{key: value for key, value in values.items() if key != "ratios"})


def merge(runs: Iterable[Run]) -> Run:
    """All results, the later of two of the same name and threads; ValueError where they are from different machines."""
    runs = list(runs)
    around = runs[0].around
    for other in runs[1:]:
        for key in ("cpu", "kernels"):
            if other.around[key] != around[key]:
                raise ValueError(
                    f"results of different machines: {key} {around[key]} and {other.around[key]}"
                )
        for name in around["versions"].keys() & other.around["versions"].keys():
            if other.around["versions"][name] != around["versions"][name]:
                raise ValueError(f"results of different versions of {name}")
    versions = {name: v for run in runs for name, v in run.around["versions"].items()}
    results = {(r.name, r.threads): r for run in runs for r in run.results}
    return Run({**around, "versions": versions}, tuple(results.values()))
