"""The graph and what is known statically of its values."""

from tilewise.graph.facts import UNKNOWN, Fact
from tilewise.graph.ir import Graph, Node
from tilewise.graph.maps import Map

__all__ = ["UNKNOWN", "Fact", "Graph", "Map", "Node"]
