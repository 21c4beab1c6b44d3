"""What the results have to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

from bench.results import Result, Run

PEERS = ("onnxruntime", "openvino")
TOLERANCE = 1e-4
"""Largest difference from ONNX Runtime's output, relative to its largest magnitude."""
SLACK = 0.1
"""A ratio that is lower than the committed one by more than this fraction is a regression; less is noise."""


@dataclass(frozen=True)
class Verdict:
    """One bar. holds: None where nothing that it speaks of was measured."""

    bar: str
    holds: bool | None
    detail: str

    def __str__(self) -> str:
        word = {True: "holds", False: "FAILS", None: "not measured"}[self.holds]
        return f"{word:12} {self.bar}: {self.detail}"


def geomean(values: Sequence[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


@dataclass(frozen=True)
class Bar:
    """A least ratio of peers' times to ours. mean: of the geometric mean, else of each result.

    applies: to which results. peers: the fastest of those measured counts.
    """

    text: str
    least: float
    applies: Callable[[Result], bool]
    peers: tuple[str, ...] = PEERS
    mean: bool = False

    def judge(self, results: Sequence[Result], threads: int) -> Verdict:
        bar = f"{threads} thread(s), {self.text} >= {self.least:.2f}"
        ratios = {
            r.name: ratio
            for r in results
            if r.threads == threads and self.applies(r) and (ratio := r.best_ratio(self.peers)) is not None
        }
        if not ratios:
            return Verdict(bar, None, "no result")
        if self.mean:
            mean = geomean(list(ratios.values()))
            return Verdict(bar, mean >= self.least, f"{mean:.2f} over {len(ratios)}")
        below = {name: r for name, r in sorted(ratios.items(), key=lambda item: item[1]) if r < self.least}
        if not below:
            return Verdict(bar, True, f"{len(ratios)} of them, lowest {min(ratios.values()):.2f}")
        lowest = ", ".join(f"{name} {r:.2f}" for name, r in below.items())
        return Verdict(bar, False, f"{len(below)} of {len(ratios)} below: {lowest}")


def _model(result: Result) -> bool:
    return result.is_model


def _group(name: str) -> Callable[[Result], bool]:
    return lambda r: not r.is_model and r.group == name


ORT = ("onnxruntime",)
DEFORMABLE = "deform n8g1c64o64_ih56oh56kh3sh1dh1ph1_iw56ow56kw3sw1dw1pw1_mask"
TRANSPOSED = "convt n8g1c64o64_ih56oh112kh2sh2_iw56ow112kw2sw2"
GROUPS = ("dilated", "depthwise", "one_d", "three_d", "pooling", "normalization", "resize")
BARS = (
    Bar("whole models, ONNX Runtime / ours, geometric mean", 1.25, _model, ORT, mean=True),
    Bar("whole models, best peer / ours, geometric mean", 1.15, _model, mean=True),
    Bar("every whole model, ONNX Runtime / ours", 1.0, _model, ORT),
    Bar("VGG-16, ONNX Runtime / ours", 1.6, lambda r: r.is_model and r.name.endswith("/vgg16"), ORT),
    Bar("deformable, ONNX Runtime / ours", 2.0, lambda r: r.name == DEFORMABLE, ORT),
    Bar("transposed 2x2 of stride 2, torch / ours", 5.0, lambda r: r.name == TRANSPOSED, ("torch",)),
    *(Bar(f"every problem of {name}, best peer / ours", 1.0, _group(name)) for name in GROUPS),
)
EFFICIENCY = 0.85
"""Least fraction of the cores' peak that the convolutions of ResNet-50 and VGG-16 reach, in direct FLOPs."""
EFFICIENT = ("resnet50", "vgg16")


def judge(run: Run, peak: float | None = None) -> Iterator[Verdict]:
    """All bars, for each number of threads in turn. peak: of one core, in 1e9 FLOP/s."""
    for threads in sorted({r.threads for r in run.results}):
        for bar in BARS:
            yield bar.judge(run.results, threads)
        yield _efficiency(run.results, threads, peak)
    yield _agreement(run.results)


def _efficiency(results: Sequence[Result], threads: int, peak: float | None) -> Verdict:
    bar = f"{threads} thread(s), convolutions of {' and '.join(EFFICIENT)} >= {EFFICIENCY:.0%} of the peak"
    convs = [r for r in results if r.threads == threads and r.group in EFFICIENT and not r.is_model]
    if not convs or peak is None:
        return Verdict(bar, None, "no result" if not convs else "no --peak given")
    reached = {r.name: r.gflops / (peak * threads) for r in convs}
    total = sum(r.flops for r in convs) / sum(r.times["tilewise"] for r in convs) / 1e6 / (peak * threads)
    below = {name: part for name, part in reached.items() if part < EFFICIENCY}
    lowest = ", ".join(f"{name} {part:.0%}" for name, part in sorted(below.items(), key=lambda item: item[1]))
    detail = f"{total:.0%} together, {len(below)} of {len(convs)} below" + (f": {lowest}" if below else "")
    return Verdict(bar, not below, detail)


def _agreement(results: Sequence[Result]) -> Verdict:
    bar = f"outputs within {TOLERANCE:.0e} of ONNX Runtime's"
    gaps = {
        (r.name, r.threads): gap for r in results if (gap := r.differences.get("onnxruntime")) is not None
    }
    if not gaps:
        return Verdict(bar, None, "no result")
    over = {name: gap for (name, _), gap in gaps.items() if not gap <= TOLERANCE}
    largest = ", ".join(f"{name} {gap:.1e}" for name, gap in over.items())
    return Verdict(
        bar, not over, f"{len(over)} of {len(gaps)} differ by more: {largest}" if over else "all do"
    )


def regressions(run: Run, committed: Run) -> Iterator[Verdict]:
    """Results whose ratio to a peer is clearly lower than the committed one."""
    known = {(r.name, r.threads): r for r in committed.results}
    for result in run.results:
        before = known.get((result.name, result.threads))
        for peer in PEERS if before is not None else ():
            new, old = result.ratio(peer), before.ratio(peer)
            if new is not None and old is not None and new < old * (1 - SLACK):
                bar = f"{result.threads} thread(s), {result.name}, {peer} / ours as committed"
                yield Verdict(bar, False, f"{new:.2f}, was {old:.2f}")
