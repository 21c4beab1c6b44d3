"""How many threads a process may use, on made-up control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewise.errors import InputError
from tilewise.runtime import threads
from tilewise.runtime.threads import cgroup_quota, check_threads, default_threads


class Groups:
    """A tree of control groups and the file that says where this process is in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.root.mkdir()
        self.membership = folder / "membership"

    def member(self, *lines: str) -> None:
        self.membership.write_text("".join(f"{line}\n" for line in lines))

    def v2(self, group: str, cpu_max: str) -> None:
        folder = self.root / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(cpu_max + "\n")

    def v1(self, group: str, quota: str, period: str = "100000", controller: str = "cpu") -> None:
        folder = self.root / controller / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
        (folder / "cpu.cfs_period_us").write_text(period + "\n")

    def quota(self) -> float | None:
        return cgroup_quota(self.root, self.membership)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_nothing_there_is_no_quota(groups: Groups) -> None:
    assert groups.quota() is None


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("200000 100000", 2.0),
        ("50000 100000", 0.5),
        ("150000 100000", 1.5),
        ("25000 50000", 0.5),
        ("max 100000", None),
        ("max", None),
        ("", None),
        ("nonsense 100000", None),
        ("100000 0", None),
    ],
)
def test_v2_quota_of_the_own_group(groups: Groups, cpu_max: str, expected: float | None) -> None:
    groups.member("0::/app")
    groups.v2("app", cpu_max)
    assert groups.quota() == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("300000", "100000", 3.0),
        ("50000", "200000", 0.25),
        ("-1", "100000", None),
        ("0", "100000", None),
        ("100000", "0", None),
        ("", "100000", None),
    ],
)
def test_v1_quota_of_the_own_group(groups: Groups, quota: str, period: str, expected: float | None) -> None:
    groups.member("4:cpu,cpuacct:/app", "0::/app")
    groups.v1("app", quota, period)
    assert groups.quota() == expected


def test_the_tightest_of_nested_v2_groups_counts(groups: Groups) -> None:
    groups.member("0::/slice/pod/app")
    groups.v2("slice", "400000 100000")
    groups.v2("slice/pod", "150000 100000")
    groups.v2("slice/pod/app", "max 100000")
    assert groups.quota() == 1.5


def test_the_tightest_of_nested_v1_groups_counts(groups: Groups) -> None:
    groups.member("4:cpu:/slice/app")
    groups.v1("slice", "100000")
    groups.v1("slice/app", "400000")
    assert groups.quota() == 1.0


def test_v1_hierarchy_may_be_mounted_under_both_controllers_names(groups: Groups) -> None:
    groups.member("4:cpu,cpuacct:/app")
    groups.v1("app", "250000", controller="cpu,cpuacct")
    assert groups.quota() == 2.5


def test_a_container_sees_its_own_group_as_the_root_of_v2(groups: Groups) -> None:
    groups.member("0::/")
    groups.v2("", "100000 100000")
    assert groups.quota() == 1.0


def test_a_v1_container_knows_its_group_by_a_path_that_it_cannot_see(groups: Groups) -> None:
    groups.member("4:cpu,cpuacct:/docker/0123")
    groups.v1("", "200000")
    assert groups.quota() == 2.0


def test_quotas_of_other_groups_do_not_count(groups: Groups) -> None:
    groups.member("0::/app")
    groups.v2("app", "300000 100000")
    groups.v2("app/child", "100000 100000")
    groups.v2("other", "100000 100000")
    assert groups.quota() == 3.0


def test_other_controllers_of_v1_do_not_count(groups: Groups) -> None:
    groups.member("3:cpuset:/app", "5:memory:/app", "1:name=systemd:/app")
    groups.v1("app", "100000", controller="cpuset")
    groups.v1("app", "100000", controller="memory")
    assert groups.quota() is None


def test_without_a_membership_file_the_root_still_counts(groups: Groups) -> None:
    groups.v2("", "200000 100000")
    assert groups.quota() == 2.0


@pytest.mark.parametrize(
    ("cpus", "quota", "expected"),
    [
        (8, None, 8),
        (8, 3.0, 3),
        (8, 2.5, 3),
        (8, 0.1, 1),
        (2, 64.0, 2),
        (1, 0.5, 1),
    ],
)
def test_default_is_the_smaller_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, cpus: int, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    assert default_threads() == expected
    assert check_threads(None) == expected


def test_where_there_is_no_affinity_all_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(threads, "cgroup_quota", lambda: None)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 6)
    assert default_threads() == 6
    monkeypatch.setattr(threads.os, "cpu_count", lambda: None)
    assert default_threads() == 1


@pytest.mark.parametrize("count", [1, 2, 17])
def test_counts_are_taken_as_they_are(count: int) -> None:
    assert check_threads(count) == count


@pytest.mark.parametrize("count", [0, -1, 1.0, 2.5, "2", True, False, [1]])
def test_anything_else_is_refused(count: object) -> None:
    with pytest.raises(InputError, match="threads: expected an integer of at least 1 or None, got"):
        check_threads(count)  # type: ignore[arg-type]
