"""`tilewise demo`: its data, its accuracy on what it never saw, its picture."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.tool import Tool
from tilewise import demo
from tilewise.cli.demo import SHOWN, UNSURE, choose


def test_the_data_is_whole() -> None:
    images, labels = demo.digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert len(demo.model_bytes()) < 200_000


def test_the_demo_reads_held_out_digits_and_draws_them(
    tilewise: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = tilewise.fine("demo", "--threads", "2")
    found = re.search(r"(\d+) of 600 handwritten digits read correctly \(([\d.]+) %\)", text)
    assert found is not None
    assert int(found[1]) / 600 >= 0.97
    assert float(found[2]) == pytest.approx(int(found[1]) / 6, abs=0.05)
    path = tmp_path / "tilewise-demo.png"
    assert str(path) in text
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 900
        assert picture.height > 900
        assert len(picture.getcolors(1 << 20)) > 50


def test_the_picture_goes_where_it_is_told(tilewise: Tool, tmp_path: Path) -> None:
    path = tmp_path / "other.png"
    assert str(path) in tilewise.fine("demo", "--output", path)
    assert path.is_file()
    assert "ends in .png" in tilewise.error("demo", "--output", tmp_path / "x.txt")
    assert "nowhere" in tilewise.error("demo", "--output", tmp_path / "nowhere" / "x.png")


def test_the_least_sure_are_shown_last_and_once() -> None:
    scores = np.zeros((100, 10))
    scores[:, 3] = 1 - np.arange(100) / 200
    chosen = choose(scores).tolist()
    assert chosen == [*range(SHOWN), *range(99, 99 - UNSURE, -1)]


def test_without_pillow_the_extra_is_named(tilewise: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "tilewise.cli.picture", raising=False)
    assert 'pip install "tilewise[demo]"' in tilewise.error("demo")
