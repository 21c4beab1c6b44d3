"""Maps with a type."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Map(dict):
    """A map value as operators see it; `dtype` is that of its values, strings as `object`."""

    def __init__(self, items: Mapping, dtype: np.dtype) -> None:
        super().__init__(items)
        self.dtype = dtype
