"""Locks that a forked child finds open, whatever the parent's other threads were doing."""

from __future__ import annotations

import os
import threading
import weakref


class ForkSafeLock:
    """A mutex for `with`; in a forked child every one is replaced by an open one.

    Fit for tables whose updates are single assignments: what a thread of the parent left half done is never seen.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self.renew()
        _all.append(weakref.ref(self))
        if len(_all) > 2 * _LIVE_ESTIMATE:
            _all[:] = [ref for ref in _all if ref() is not None]

    def renew(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


_LIVE_ESTIMATE = 1024
_all: list[weakref.ref[ForkSafeLock]] = []


def _renew_all() -> None:
    for ref in list(_all):
        lock = ref()
        if lock is not None:
            lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
