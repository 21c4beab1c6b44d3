"""Who takes part in a race, on which CPUs."""

from __future__ import annotations

import os
import sys

from tilewise.cli.race import PEERS, Contestant, Feeds, surroundings, tilewise_contestant
from tilewise.errors import InputError

MODULES = (*PEERS, "torch")


def pin(threads: int) -> None:
    """Keep this process, and what it starts, on as many CPUs; to be called before any engine is imported."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < threads:
        raise SystemExit(f"{threads} threads need as many CPUs, and this process may use {len(usable)}")
    os.sched_setaffinity(0, usable[-threads:])


def contestants(path: str, feeds: Feeds, threads: int) -> list[Contestant]:
    """Tilewise and those peers that are installed and load the model; of the others a line tells why not."""
    found = [tilewise_contestant(path, feeds, threads)]
    for name, make in PEERS.items():
        try:
            contestant = make(path, feeds, threads)
            contestant.run()
        except (InputError, RuntimeError) as error:
            print(f"without {name}: {str(error).splitlines()[0]}", file=sys.stderr)
        else:
            found.append(contestant)
    return found


def measured_on() -> dict:
    """What the times depend on beside model and threads."""
    return surroundings(MODULES)
