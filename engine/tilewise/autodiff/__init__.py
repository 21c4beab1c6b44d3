"""Reverse-mode differentiation: gradients are ordinary nodes of the same graph."""
