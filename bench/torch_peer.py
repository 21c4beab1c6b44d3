"""PyTorch on one problem: for transposed convolutions, and convolutions that another peer lacks."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from bench.problems import Problem
from tilewise.cli.race import Contestant, Feeds


def torch_contestant(
    problem: Problem, model: onnx.ModelProto, feeds: Feeds, threads: int
) -> list[Contestant]:
    """One contestant, or none where PyTorch is absent or has no such form. Sets the number of its threads."""
    try:
        import torch
    except ImportError:
        return []
    if problem.kind not in ("conv", "convt"):
        return []
    ends = [a.end if problem.kind == "conv" else a.transposed_end[0] for a in problem.axes]
    if ends != [a.p for a in problem.axes]:
        return []
    torch.set_num_threads(threads)
    x = torch.from_numpy(next(iter(feeds.values())))
    w, b = (torch.from_numpy(np.array(numpy_helper.to_array(t))) for t in model.graph.initializer)
    options = {
        "stride": [a.s for a in problem.axes],
        "padding": [a.p for a in problem.axes],
        "dilation": [a.d for a in problem.axes],
        "groups": problem.size("g", 1),
    }
    name = f"conv{len(problem.axes)}d"
    if problem.kind == "convt":
        name = f"conv_transpose{len(problem.axes)}d"
        options["output_padding"] = [a.transposed_end[1] for a in problem.axes]
    convolve = getattr(torch.nn.functional, name)

    @torch.no_grad()
    def run() -> list:
        return [convolve(x, w, b, **options).numpy()]

    return [Contestant("torch", threads, run)]
