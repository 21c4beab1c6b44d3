"""Compiled kernels on disk: what is read, what is refused, many writers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tilewise_kernels.jit import cache

KEY, OTHER = bytes(range(32)), bytes(32)
CODE = b"not really code" * 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "deep" / "cache"
    monkeypatch.setenv("TILEWISE_CACHE", str(place))
    return place


@pytest.fixture
def file(folder: Path) -> Path:
    """A file with `CODE` under `KEY`."""
    assert cache.store(CODE, KEY)
    (found,) = folder.glob("kernels-*")
    return found


def test_what_is_stored_is_read(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.read(KEY) == CODE
        assert cache.read(OTHER) is None
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def change(at: int) -> Callable[[Path], object]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)

    return damage


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


def link_to_a_copy(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def give_away(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(file, 54321, -1)


DAMAGES = {
    "empty": (lambda f: f.write_bytes(b""), "0 bytes long"),
    "header only": (lambda f: f.write_bytes(f.read_bytes()[: cache.HEADER.size]), "0 bytes of code"),
    "short": (lambda f: f.write_bytes(f.read_bytes()[:-1]), f"{len(CODE) - 1} bytes of code"),
    "long": (lambda f: f.write_bytes(f.read_bytes() + b"x"), f"{len(CODE) + 1} bytes of code"),
    "magic": (change(0), "not a file of kernels"),
    "version": (lambda f: f.write_bytes(cache.pack(CODE, OTHER)), "another version or for another CPU"),
    "checksum": (change(50), "checksum"),
    "code": (change(-1), "checksum"),
    "length": (change(80), "bytes of code"),
    "written by anyone": (lambda f: f.chmod(0o602), "other users may write it"),
    "written by the group": (lambda f: f.chmod(0o620), "other users may write it"),
    "another's": (give_away, "belongs to user 54321"),
    "a link": (link_to_a_copy, "symbolic link"),
    "a pipe": (replace_by(os.mkfifo), "not a regular file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_trusted_is_ignored_with_one_warning_and_replaced(file: Path, damage: str) -> None:
    make, message = DAMAGES[damage]
    make(file)
    with pytest.warns(RuntimeWarning, match=message) as caught:
        assert cache.read(KEY) is None
    assert len(caught) == 1
    assert str(file) in str(caught[0].message)
    assert cache.store(CODE, KEY)
    assert cache.read(KEY) == CODE


@pytest.mark.parametrize("place", ["file/below", "/proc/tilewise"])
def test_where_nothing_can_be_kept_all_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / place)
    assert cache.store(CODE, KEY) is False
    assert cache.read(KEY) is None
    with cache.lock():
        pass


def test_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWISE_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.folder() == Path("/chosen")
    monkeypatch.setenv("TILEWISE_CACHE", "")
    assert cache.folder() == Path("/xdg/tilewise")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.folder() == Path("/home/someone/.cache/tilewise")


def test_a_key_depends_on_what_is_compiled_and_not_on_where_or_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cache.key("cpu", "16")
    assert key == cache.key("cpu", "16")
    assert len({key, cache.key("cpu", "8"), cache.key("cpu1", "6"), cache.key("other cpu", "16")}) == 4
    sources = tmp_path / "jit"
    shutil.copytree(Path(cache.__file__).parent, sources, copy_function=shutil.copyfile)
    monkeypatch.setattr(cache, "__file__", str(sources / "cache.py"))
    assert cache.key("cpu", "16") == key
    with (sources / "gemm.py").open("a") as file:
        file.write("\n")
    assert cache.key("cpu", "16") != key


def test_old_files_go(folder: Path) -> None:
    for i in range(cache.MAX_FILES + 5):
        assert cache.store(CODE, bytes([i]) * 32)
        os.utime(cache.path(bytes([i]) * 32), (1000 + i, 1000 + i))
    assert cache.store(CODE, KEY)
    assert len(list(folder.iterdir())) == cache.MAX_FILES
    assert cache.read(KEY) == CODE
    assert cache.read(bytes(32)) is None


def test_readers_meet_whole_files_alone_while_many_write(folder: Path) -> None:
    def work(i: int) -> bool:
        return cache.store(CODE, KEY) if i % 2 else cache.read(KEY) in (None, CODE)

    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        assert all(pool.map(work, range(400)))
    assert [p.name.partition("-")[0] for p in folder.iterdir()] == ["kernels"]


def test_one_process_at_a_time_holds_the_lock(folder: Path) -> None:
    code = "from tilewise_kernels.jit import cache\nwith cache.lock(): print('in')"
    with cache.lock():
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            other.communicate(timeout=1.0)
    assert other.communicate(timeout=60) == ("in\n", None)
