"""Rewrite known_failures.txt from a run: `python -m tests.backend.update`.

Cases that pass now are removed. Cases that fail and are not listed are shown and make the command fail; --add
lists them, which a change of the suite itself (a newer onnx) may call for.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from tests.backend.suite import Case, known_failures, load_cases, write_list
from tilewise import UnsupportedError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--add", action="store_true", help="also list cases that fail and are not listed yet")
    args = parser.parse_args()
    cases, known = load_cases(), known_failures()
    failures = run(cases)
    new = sorted(set(failures) - set(known))
    kept = {name: reason for name, reason in known.items() if name in failures}
    if args.add:
        kept.update({name: failures[name] for name in new})
    write_list(kept)
    for category in dict.fromkeys(case.category for case in cases):
        names = [case.name for case in cases if case.category == category]
        print(f"{category}: {sum(n not in failures for n in names)} of {len(names)} pass")
    for name in new:
        print(f"{'added' if args.add else 'fails and is not listed'}: {name}: {failures[name]}")
    print(f"{len(kept)} listed, {len(known.keys() - kept.keys())} removed")
    return 1 if new and not args.add else 0


def run(cases: list[Case]) -> dict[str, str]:
    """A reason for each case that fails."""
    failures = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONNX_MODELS"] = folder  # where the suite stores inputs of the light models
        for case in cases:
            error = case.failure()
            if error is not None:
                failures[case.name] = reason(error)
    return failures


def reason(error: BaseException) -> str:
    """One short line."""
    if isinstance(error, UnsupportedError):
        return "; ".join(dict.fromkeys(f"{f.op_type}: {f.what}" for f in error.findings))[:120]
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


if __name__ == "__main__":
    sys.exit(main())
