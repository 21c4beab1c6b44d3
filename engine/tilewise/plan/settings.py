"""What environment variables say about plans, read whenever one is made."""

from __future__ import annotations

import os

from tilewise.errors import InputError


def forced_implementations() -> tuple[str, ...]:
    """Names in `TILEWISE_IMPL`, which are to be taken wherever they can; `InputError` for an unknown one."""
    text = os.environ.get("TILEWISE_IMPL", "")
    if not text:
        return ()
    from tilewise.ops.choice import parse_forced
    from tilewise.ops.conv import IMPLEMENTATIONS

    return parse_forced(text, IMPLEMENTATIONS)


def tunes() -> bool:
    """False where `TILEWISE_TUNE` forbids to measure while a plan is made."""
    text = os.environ.get("TILEWISE_TUNE", "on")
    if text not in ("on", "off"):
        raise InputError(f"TILEWISE_TUNE: expected on or off, got {text!r}")
    return text == "on"
