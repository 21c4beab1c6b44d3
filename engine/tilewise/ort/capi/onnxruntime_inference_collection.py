"""The path by which some clients import sessions and values."""

from tilewise.ort.binding import IOBinding
from tilewise.ort.session import InferenceSession
from tilewise.ort.values import OrtValue

__all__ = ["IOBinding", "InferenceSession", "OrtValue"]
