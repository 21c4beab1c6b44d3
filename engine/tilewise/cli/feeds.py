"""Arrays for a model's inputs from `--input` options."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tilewise.cli.images import load_image, to_array
from tilewise.cli.shapes import (
    complete_shapes,
    input_facts,
    only_input,
    parse_shapes,
    random_array,
    split_named,
)
from tilewise.errors import InputError
from tilewise.graph import Graph

RANDOM = "random"


class FeedReader:
    """Turns options into feeds for one graph, and tells in `sources` where each array came from."""

    def __init__(self, graph: Graph, shapes: Sequence[str], normalize: str | None, seed: int) -> None:
        self.facts = input_facts(graph)
        self.names = list(self.facts)
        self.shapes = parse_shapes(shapes, self.facts)
        self.normalize = normalize
        self.sources: dict[str, str] = {}
        self._rng = np.random.default_rng(seed)
        self._feeds: dict[str, np.ndarray] = {}

    def read(self, inputs: Sequence[str]) -> dict[str, np.ndarray]:
        """Feeds for all inputs; those asked to be random take their free dims from the others."""
        random = []
        for text in inputs:
            name, value = split_named(text, self.names, "--input")
            if value == RANDOM:
                random.append(name or only_input(self.names, "--input", value))
            else:
                self._read_file(name, Path(value))
        missing = [n for n in self.names if n not in self._feeds and n not in random]
        if missing:
            hint = " ".join(f"--input {n}=FILE" for n in missing)
            raise InputError(
                f"no value for input(s) {', '.join(missing)}: give {hint}, or random in place of FILE"
            )
        self.fill(random)
        return {name: self._feeds[name] for name in self.names}

    def fill(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Feeds with random arrays added for these inputs."""
        loaded = {n: a.shape for n, a in self._feeds.items() if n in self.facts}
        shapes = complete_shapes(
            {n: f for n, f in self.facts.items() if n in names or n in loaded}, {**self.shapes, **loaded}
        )
        for name in names:
            self._add(name, random_array(name, self.facts[name], shapes[name], self._rng), RANDOM)
        return self._feeds

    def _read_file(self, name: str | None, path: Path) -> None:
        suffix = path.suffix.lower()
        if not path.is_file():
            raise InputError(f"--input {path}: no such file")
        if suffix == ".npz" and name is None and len(self.names) > 1:
            for key, array in _load_npz(path).items():
                self._add(key, array, str(path))
            return
        name = name or only_input(self.names, "--input", str(path))
        if suffix == ".npy":
            self._add(name, _load_npy(path), str(path))
        elif suffix == ".npz":
            self._add(name, _pick(_load_npz(path), name, path), str(path))
        else:
            self._read_image(name, path)

    def _read_image(self, name: str, path: Path) -> None:
        fact = self.facts[name]
        image = load_image(path)
        array = to_array(image, name, fact, self.shapes.get(name, fact.shape), self.normalize)
        source = f"{path}, {image.width}x{image.height} pixels"
        if fact.dtype is None or fact.dtype.kind not in "iu":
            source += f", normalized as {self.normalize or 'unit'}"
        self._add(name, array, source)

    def _add(self, name: str, array: np.ndarray, source: str) -> None:
        if name not in self.facts:
            raise InputError(f"{source}: no input {name!r}; the model has {', '.join(self.names)}")
        if name in self._feeds:
            raise InputError(f"input {name!r} is given twice: {self.sources[name]} and {source}")
        self._feeds[name] = array
        self.sources[name] = source


def random_feeds(graph: Graph, shapes: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Random arrays for all inputs, free dims from `--shape` options or 1."""
    return FeedReader(graph, shapes, None, seed).fill(graph.inputs)


def _load_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: cannot be read as .npy: {error}") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: is an archive of arrays; name it .npz")
    return array


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as data:
            return {key: data[key] for key in data.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as .npz: {error}") from None


def _pick(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    """The array called as the input is, or the only one."""
    if name in arrays:
        return arrays[name]
    if len(arrays) != 1:
        raise InputError(f"{path}: no array {name!r}; it has {', '.join(arrays) or 'none'}")
    return next(iter(arrays.values()))
