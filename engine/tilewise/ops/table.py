"""The table of operators: one row an operator, the only place where classes are bound to names."""

from __future__ import annotations

from tilewise.errors import Unsupported, UnsupportedError
from tilewise.graph import Node
from tilewise.ops import movement
from tilewise.ops.base import Op

TABLE: dict[tuple[str, str], type[Op]] = {
    # movement
    ("", "Identity"): movement.Identity,
}


def lookup(node: Node) -> type[Op] | None:
    """The class that implements `node`, or None."""
    return TABLE.get((node.domain, node.op_type))


def make(node: Node) -> Op:
    """The operator bound to `node`; `UnsupportedError` where the table has no row for it."""
    cls = lookup(node)
    if cls is None:
        where = f"domain {node.domain!r}, opset {node.version}" if node.domain else f"opset {node.version}"
        raise UnsupportedError([Unsupported(node.label, node.op_type, f"operator not supported ({where})")])
    return cls(node)
