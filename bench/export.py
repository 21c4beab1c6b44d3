"""Untrained networks as ONNX files: `python -m bench.export [--models FOLDER] [--seed 0] [NAME ...]`.

Weights are random and seeded. The statistics of batch normalizations come from a random batch, so that values
neither vanish nor overflow on their way down. Files that are there already are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from bench.models import add_models_option
from bench.nets import NETS, Net


def export(net: Net, path: Path, seed: int) -> None:
    """Write the network in inference mode, its weights within the file."""
    torch.manual_seed(seed)
    module = net.make().eval()
    calibrate(module, torch.randn(2, *net.shape[1:]))
    program = torch.onnx.export(
        module, (torch.randn(net.shape),), input_names=["x"], output_names=["y"], dynamo=True, verbose=False
    )
    unfinished = path.with_suffix(".part")
    program.save(unfinished, external_data=False)
    unfinished.rename(path)


def calibrate(module: nn.Module, batch: torch.Tensor) -> None:
    """Give batch normalizations random scales and shifts, and statistics after which the batch has magnitude 1.

    A tenth of the mean is taken off, no more: random networks that centre every layer are chaotic, and double
    rounding errors every few layers.
    """

    def observe(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1)
        mean = values.mean(1) / 10
        variance = (values - mean[:, None]).square().mean(1)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance.clamp(min=variance.mean() / 100))

    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, 0, 0.1)
    hooks = [norm.register_forward_pre_hook(observe) for norm in norms]
    with torch.no_grad():
        module(batch)
    for hook in hooks:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NETS)}")
    parser.add_argument("--seed", type=int, default=0)
    add_models_option(parser)
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - set(NETS)):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(NETS)}")
    args.models.mkdir(parents=True, exist_ok=True)
    for name in args.names or NETS:
        path = args.models / f"{name}.onnx"
        if not path.exists():
            export(NETS[name], path, args.seed)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
