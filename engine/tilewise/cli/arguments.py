"""Arguments that several commands take, and the types argparse checks them with."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError


def positive(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def positives(text: str) -> list[int]:
    """Integers of at least 1, separated by commas, without repetition."""
    return list(dict.fromkeys(positive(part) for part in text.split(",")))


def natural(text: str) -> int:
    """An integer of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an ONNX file")


def add_threads(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of a run (default: what CPU affinity and cgroup quota allow)",
    )


def add_shape(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="[NAME=]D,D,...",
        help="shape of an input with free dims, such as x=1,3,224,224 (free dims are 1 where none is given); "
        "may be repeated",
    )


def add_seed(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=natural, default=0, help="seed of random inputs (default: 0)")
