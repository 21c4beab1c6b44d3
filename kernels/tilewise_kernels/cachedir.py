"""Where files are kept that save work to later processes of this user."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def folder() -> Path | None:
    """`TILEWISE_CACHE`, or `tilewise` where this system keeps caches; None for a user without a home."""
    chosen = os.environ.get("TILEWISE_CACHE")
    if chosen:
        return Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return Path(xdg, "tilewise")
    try:
        return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "tilewise"
    except RuntimeError:
        return None
