"""How many threads this process may use: its CPU affinity and its control group's quota."""

from __future__ import annotations

import math
import operator
import os
from typing import SupportsIndex

from tilewise.errors import InputError

StrPath = str | os.PathLike[str]

CGROUP_ROOT = "/sys/fs/cgroup"
MEMBERSHIP = "/proc/self/cgroup"


def default_threads() -> int:
    """min(CPU affinity, cgroup quota), at least 1; a fraction of a CPU counts as a whole one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def check_threads(threads: SupportsIndex | None) -> int:
    """`threads` as a count of at least 1; None means `default_threads()`."""
    if threads is None:
        return default_threads()
    if isinstance(threads, bool) or not isinstance(threads, SupportsIndex) or operator.index(threads) < 1:
        raise InputError(f"threads: expected an integer of at least 1 or None, got {threads!r}")
    return operator.index(threads)


def cgroup_quota(root: StrPath = CGROUP_ROOT, membership: StrPath = MEMBERSHIP) -> float | None:
    """CPUs granted by the tightest quota above this process (cgroup v2 cpu.max, v1 cfs quota), None without one."""
    quotas = [q for path in _groups(os.fspath(root), membership) if (q := _quota(path)) is not None]
    return min(quotas, default=None)


def _groups(root: str, membership: StrPath) -> list[str]:
    """Directories that may hold a quota: this process's group and all above it, in v2 and in v1's cpu hierarchy."""
    found = [root, f"{root}/cpu", f"{root}/cpu,cpuacct"]
    for line in (_read(membership) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = [name for name in path.split("/") if name]
        for base in (root,) if not controllers else (f"{root}/cpu", f"{root}/{controllers}"):
            found += ["/".join((base, *names[:depth])) for depth in range(len(names), 0, -1)]
    return found


def _quota(group: str) -> float | None:
    words = (_read(f"{group}/cpu.max") or "").split()[:2]
    if len(words) < 2:
        words = [_read(f"{group}/cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    try:
        cpus = float(words[0]) / float(words[1])
    except (ValueError, ZeroDivisionError):  # "max" grants everything
        return None
    return cpus if cpus > 0 else None


def _read(path: StrPath) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return None
