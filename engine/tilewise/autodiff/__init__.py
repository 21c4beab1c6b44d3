"""Reverse-mode differentiation: gradients are ordinary nodes of the same graph."""

from tilewise.autodiff.backward import backward
from tilewise.autodiff.emitter import Emitter

__all__ = ["Emitter", "backward"]
