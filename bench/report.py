"""Saved results as the README's table, as a plot, as `bench/ratios.json`, or held against what they have to reach.

    python -m bench.report table FILE...
    python -m bench.report plot FILE... --output speed.svg
    python -m bench.report ratios FILE...          # writes bench/ratios.json
    python -m bench.report check FILE... [--peak 248]
    python -m bench.report worst FILE... [--count 10]

FILE: what `bench.whole_models --json` or `pytest bench --benchmark-json` wrote.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bars import PEERS, geomean, judge, regressions
from bench.results import OURS, RATIOS, Result, Run, merge, read, write

TITLES = {OURS: "Tilewise", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "PyTorch"}
COLUMNS = (OURS, *PEERS)


def head(around: dict, columns: Sequence[str] = COLUMNS) -> str:
    """What was measured on, and the table's head."""
    versions = ", ".join(f"{name} {version}" for name, version in around["versions"].items())
    cells = ["model", "threads", *(f"{TITLES[c]}, ms" for c in columns)]
    cells += [*(f"{TITLES[c]} / ours" for c in columns[1:]), "outputs differ by"]
    about = f"{around['cpu']}, {around['usable_cpus']} usable CPU(s), {around['kernels']} kernels; {versions}; medians"
    return f"{about}\n\n{_line(cells)}\n{_line(['---'] * len(cells))}"


def row(result: Result, columns: Sequence[str] = COLUMNS) -> str:
    """A result's row; the cells of a peer that was not measured are empty."""
    cells = [result.name, str(result.threads), *(_ms(result.times.get(c)) for c in columns)]
    cells += ["" if (r := result.ratio(c)) is None else f"{r:.2f}" for c in columns[1:]]
    gap = max(result.differences.values(), default=None)
    return _line([*cells, "" if gap is None else f"{gap:.0e}"])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:.4g}"


def table(run: Run) -> str:
    """All results, models before problems, with the geometric means below."""
    extra = ("torch",) if any("torch" in r.times for r in run.results) else ()
    columns = (*COLUMNS, *extra)
    ordered = sorted(run.results, key=lambda r: not r.is_model)
    return "\n".join([head(run.around, columns), *(row(r, columns) for r in ordered), geomeans(ordered)])


def geomeans(results: Sequence[Result]) -> str:
    """A line for each number of threads: geometric means of the ratios to each peer and to the fastest."""
    return "\n" + "\n".join(_geomeans(results))


def _geomeans(results: Sequence[Result]) -> Iterator[str]:
    for threads in sorted({r.threads for r in results}):
        here = [r for r in results if r.threads == threads]
        parts = []
        for title, peers in [(TITLES[p], (p,)) for p in PEERS] + [("the faster of both", PEERS)]:
            ratios = [x for r in here if (x := r.best_ratio(peers)) is not None]
            if ratios:
                parts.append(
                    f"{title} / ours {geomean(ratios):.2f} (lowest {min(ratios):.2f}, of {len(ratios)})"
                )
        yield f"{threads} thread(s), geometric means: {'; '.join(parts)}"


def worst(run: Run, count: int) -> list[Result]:
    """Those that the best peer beats by most, problems and models alike."""
    measured = [r for r in run.results if r.best_ratio(PEERS) is not None]
    return sorted(measured, key=lambda r: r.best_ratio(PEERS) or 0.0)[:count]


def plot(run: Run, path: Path) -> None:
    """Bars of the ratios to each peer, one panel for each number of threads."""
    from matplotlib import pyplot

    threads = sorted({r.threads for r in run.results})
    names = list(dict.fromkeys(r.name for r in run.results))
    size = (3 + 0.35 * len(names), 3.2 * len(threads))
    figure, axes = pyplot.subplots(len(threads), 1, sharex=True, squeeze=False, figsize=size)
    for count, panel in zip(threads, axes[:, 0], strict=True):
        here = {r.name: r for r in run.results if r.threads == count}
        for i, peer in enumerate(PEERS):
            heights = [here[n].ratio(peer) or 0.0 if n in here else 0.0 for n in names]
            panel.bar(
                [x + 0.4 * i for x in range(len(names))], heights, 0.4, label=TITLES[peer], align="edge"
            )
        panel.axhline(1.0, color="black", linewidth=0.8)
        panel.set_ylabel(f"peer's time / ours\n{count} thread(s)")
    axes[0, 0].legend()
    axes[-1, 0].set_xticks([x + 0.4 for x in range(len(names))], names, rotation=90)
    versions = ", ".join(f"{name} {version}" for name, version in run.around["versions"].items())
    figure.suptitle(f"{run.around['cpu']}; {versions}", fontsize="small")
    figure.tight_layout()
    figure.savefig(path)


def check(run: Run, committed: Run | None, peak: float | None) -> bool:
    """Print every bar and what has become slower than committed; True where none of it fails."""
    verdicts = list(judge(run, peak))
    if committed is not None:
        if committed.around["cpu"] != run.around["cpu"]:
            print(f"the committed ratios are from another CPU, {committed.around['cpu']}")
        verdicts += regressions(run, committed)
    for verdict in verdicts:
        print(verdict)
    return all(verdict.holds is not False for verdict in verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("table", "plot", "ratios", "check", "worst"))
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="of plot and ratios")
    parser.add_argument(
        "--against", type=Path, default=RATIOS, metavar="FILE", help="of check: ratios to keep"
    )
    parser.add_argument("--peak", type=float, metavar="GFLOPS", help="of check: one core's FMA peak")
    parser.add_argument("--count", type=int, default=10, help="of worst")
    args = parser.parse_args()
    run = merge(map(read, args.files))
    match args.command:
        case "table":
            print(table(run))
        case "plot":
            plot(run, args.output or Path("speed.svg"))
        case "ratios":
            write(args.output or RATIOS, run)
        case "worst":
            print(table(Run(run.around, tuple(worst(run, args.count)))))
        case "check":
            committed = read(args.against) if args.against.exists() else None
            return 0 if check(run, committed, args.peak) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
