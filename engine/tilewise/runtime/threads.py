"""How many threads this process may use: its CPU affinity and its control group's quota."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import SupportsIndex

from tilewise.errors import InputError

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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


def cgroup_quota(root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs granted by the tightest quota above this process (cgroup v2 cpu.max, v1 cfs quota), None without one."""
    quotas = [q for path in _groups(root, membership) if (q := _quota(path)) is not None]
    return min(quotas, default=None)


def _groups(root: Path, membership: Path) -> list[Path]:
    """Directories that may hold a quota: this process's group and all above it, in v2 and in v1's cpu hierarchy."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    found = [root, root / "cpu", root / "cpu,cpuacct"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for base in (root,) if not controllers else (root / "cpu", root / controllers):
            group = base / path.lstrip("/")
            while group != base and base in group.parents:
                found.append(group)
                group = group.parent
    return found


def _quota(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cpus = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max" grants everything
        return None
    return cpus if cpus > 0 else None
