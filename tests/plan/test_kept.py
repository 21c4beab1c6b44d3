"""Choices kept on disk: between processes, and where the file or the folder is no good."""

from __future__ import annotations

import json
import multiprocessing
import os
import warnings
from pathlib import Path

import pytest

from tilewise.plan import kept as module
from tilewise.plan.kept import MAX_BYTES, Kept

NAMES = ("fast", "slow")


def content(file: Path) -> dict:
    return json.loads(file.read_text())


def test_what_is_kept_is_found_by_others(tmp_path: Path) -> None:
    place = tmp_path / "new" / "folder"
    mine = Kept(place, "this machine")
    assert mine.find("p", NAMES) is None
    assert mine.writable()
    assert mine.keep("p", "fast", NAMES) == "fast"
    assert mine.find("p", NAMES) == "fast"
    assert Kept(place, "this machine").find("p", NAMES) == "fast"
    assert Kept(place, "another machine").find("p", NAMES) is None
    assert content(mine.file) == {"made_for": "this machine", "choices": {"p": "fast"}}
    assert {f.name for f in place.iterdir()} == {mine.file.name, "choices.lock"}


def test_who_keeps_first_decides_for_all(tmp_path: Path) -> None:
    late = Kept(tmp_path, "m")
    assert late.find("p", NAMES) is None
    assert Kept(tmp_path, "m").keep("p", "slow", NAMES) == "slow"
    assert late.keep("p", "fast", NAMES) == "slow"
    assert late.keep("q", "fast", NAMES) == "fast"
    assert content(late.file)["choices"] == {"p": "slow", "q": "fast"}


def test_a_name_that_is_no_choice_any_more_is_replaced(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "m")
    kept.keep("p", "gone", ("gone",))
    assert kept.find("p", NAMES) is None
    assert kept.keep("p", "fast", NAMES) == "fast"
    assert Kept(tmp_path, "m").find("p", NAMES) == "fast"


DAMAGED = {
    "empty": b"",
    "cut": b'{"made_for": "m", "choices": {"p": "fa',
    "not text": bytes(range(256)),
    "not a table": b'["m"]',
    "for another machine": b'{"made_for": "n", "choices": {"p": "fast"}}',
    "without choices": b'{"made_for": "m"}',
    "a number": b'{"made_for": "m", "choices": {"p": 1}}',
    "deep": b"[" * 100_000,
    "long": b" " * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_ignored_with_one_warning_and_replaced(case: str, tmp_path: Path) -> None:
    kept = Kept(tmp_path, "m")
    kept.file.write_bytes(DAMAGED[case])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert kept.find("p", NAMES) is None
        assert kept.find("q", NAMES) is None
        assert kept.keep("p", "slow", NAMES) == "slow"
    (warning,) = seen
    assert issubclass(warning.category, RuntimeWarning)
    assert f"ignored the kept choices in {kept.file}" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Kept(tmp_path, "m").find("p", NAMES) == "slow"


def test_what_is_not_a_file_is_ignored(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "m")
    os.mkfifo(kept.file)
    with pytest.warns(RuntimeWarning, match="not a regular file"):
        assert kept.find("p", NAMES) is None


def test_nothing_is_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    kept = Kept(tmp_path / "taken", "m")
    assert kept.find("p", NAMES) is None
    assert not kept.writable()
    assert kept.keep("p", "fast", NAMES) is None


def test_nothing_is_kept_where_the_file_cannot_be_replaced(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "m")
    (kept.file / "inside").mkdir(parents=True)
    with pytest.warns(RuntimeWarning):
        assert kept.keep("p", "fast", NAMES) is None
    assert {f.name for f in tmp_path.iterdir()} == {kept.file.name, "choices.lock"}


def test_nobody_waits_long_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.01)
    kept, other = Kept(tmp_path, "m"), Kept(tmp_path, "m")
    with other._locked() as locked:
        assert locked
        assert not kept.writable()
        assert kept.keep("p", "fast", NAMES) is None
    assert kept.keep("p", "fast", NAMES) == "fast"


def test_a_full_file_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHOICES", 2)
    kept = Kept(tmp_path, "m")
    for problem in "pq":
        assert kept.writable()
        kept.keep(problem, "fast", NAMES)
    assert not kept.writable()


def _keep_many(place: Path, worker: int) -> None:
    kept = Kept(place, "m")
    for i in range(10):
        assert kept.keep(f"{worker} {i}", "fast", NAMES) == "fast"
        kept.keep(f"shared {i}", NAMES[worker % 2], NAMES)


def test_many_processes_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 60)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_keep_many, args=(tmp_path, i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    choices = content(Kept(tmp_path, "m").file)["choices"]
    assert {f"{w} {i}" for w in range(4) for i in range(10)} | {f"shared {i}" for i in range(10)} == set(
        choices
    )
