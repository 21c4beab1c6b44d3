"""Who imports whom, read from the sources: docs/architecture.md draws this table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGINE, KERNELS = ROOT / "engine" / "tilewise", ROOT / "kernels" / "tilewise_kernels"

BASE = {"errors", "dtypes", "graph"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "dtypes": set(),
    "graph": {"errors", "dtypes"},
    "ops": BASE | {"kernels"},
    "autodiff": BASE | {"ops"},
    "passes": BASE | {"ops", "autodiff"},
    "onnx": BASE | {"ops", "passes"},
    "plan": BASE | {"ops", "kernels"},
    "runtime": BASE | {"ops", "onnx", "passes", "plan"},
    "ort": BASE | {"ops", "onnx", "passes", "plan", "runtime", "kernels"},
    "backend": BASE | {"onnx", "runtime"},
    "demo": set(),
    "cli": BASE | {"ops", "onnx", "passes", "plan", "runtime", "demo", "kernels"},
}
"""What each part of the engine may import of the others; "kernels" is the package `tilewise_kernels`.

An import for type checkers alone does not count.
"""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names that a file imports, wherever in it, but for those under `if TYPE_CHECKING`."""
    pending: list[ast.AST] = [ast.parse(path.read_text(), str(path))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            assert node.module is not None
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        pending += ast.iter_child_nodes(node)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def part_of(name: str) -> str | None:
    """The part that an absolute name belongs to; None outside the two packages and for `tilewise` itself."""
    package, _, rest = name.partition(".")
    if package == "tilewise_kernels":
        return "kernels"
    if package != "tilewise" or not rest:
        return None
    words = rest.split(".")
    return next((part for part in (".".join(words[:2]), words[0]) if part in LAYERS), words[0])


def owner(path: Path) -> str | None:
    """The part that a file of the engine is in; None for the package's own `__init__.py`."""
    return part_of(
        ".".join(("tilewise", *path.relative_to(ENGINE).with_suffix("").parts)).removesuffix(".__init__")
    )


def test_every_part_of_the_engine_has_a_row() -> None:
    assert {owner(path) for path in sources(ENGINE)} - {None} <= set(LAYERS)


@pytest.mark.parametrize("part", LAYERS)
def test_a_part_imports_only_what_its_row_allows(part: str) -> None:
    for path in sources(ENGINE):
        for name, line in imports(path) if owner(path) == part else ():
            other = part_of(name)
            if other in {*LAYERS, "kernels"} - {part}:
                assert other in LAYERS[part], f"{path.relative_to(ROOT)}:{line}: {part} imports {name}"


def test_the_table_has_no_cycle() -> None:
    done: set[str] = {"kernels"}
    while len(done) <= len(LAYERS):
        ready = {part for part, allowed in LAYERS.items() if part not in done and allowed <= done}
        assert ready, f"a cycle among {sorted(set(LAYERS) - done)}"
        done |= ready


def test_fronts_ask_the_kernels_for_their_level_alone() -> None:
    for path in sources(ENGINE):
        if owner(path) in ("cli", "ort"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "tilewise_kernels":
                    assert node.attr == "ISA", (
                        f"{path.relative_to(ROOT)}:{node.lineno}: reads {ast.unparse(node)}"
                    )


def test_kernels_know_nothing_of_the_engine() -> None:
    for path in sources(KERNELS):
        for name, line in imports(path):
            package = name.partition(".")[0]
            assert package not in ("tilewise", "onnx"), f"{path.relative_to(ROOT)}:{line}: imports {name}"
    for pattern in ("*.pyx", "*.pxd"):
        for path in KERNELS.rglob(pattern):
            for line, text in enumerate(path.read_text().splitlines(), 1):
                words = text.split()
                if words[:1] in (["import"], ["cimport"], ["from"]):
                    package = words[1].partition(".")[0]
                    assert package not in ("tilewise", "onnx"), f"{path.relative_to(ROOT)}:{line}: {text}"
